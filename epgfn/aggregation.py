"""Aggregation: one global model from N frozen local models, without a reward.

The loss sees the locals' log p_F^(n)(tau) - log p_B^(n)(tau | x) and nothing else; for nodes that never reported, their share
of the public prior is added, since it is public. What is known beforehand goes into the start: where models carry score
tables, the global table is the sum of theirs.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from epgfn.diagnostics import diagnose
from epgfn.errors import EpgfnError, RefusedError
from epgfn.judges import CONTRASTIVE_DELTA, EDGE_DELTA, Judge, Judged, edges_of
from epgfn.objectives import (
    aggregated_log_reward,
    aggregating_modified_detailed_balance,
    edge_log_ratio,
    robust_contrastive_balance,
)
from epgfn.policies import Policy, initial_policy, make_policy, space_of, validate_policy
from epgfn.policies.order_potential import SCORES
from epgfn.rollout import Rollout, evaluate
from epgfn.spaces import DagSpace
from epgfn.spaces.parent_index import modular_score
from epgfn.targets import prior_table
from epgfn.training import Progress, fit

if TYPE_CHECKING:
    from epgfn.study import AggregationSettings, Study


class GlobalResult(NamedTuple):
    """`tensors` as `policy_spec(study)` prescribes, float32; `history` one dict a step; `diagnostics` see `epgfn.diagnostics`."""

    tensors: dict[str, Tensor]
    history: list[dict[str, Any]]
    diagnostics: dict[str, Any]


def train_global(
    study: Study,
    locals: Mapping[str, Mapping[str, Tensor]],
    *,
    seed: int,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> GlobalResult:
    """A GFlowNet on the product of the subposteriors that `locals`, tensors by node id, were trained on.

    With K of the roster's N nodes present the target is prod_n R_n(G) * pi(G)^(1 - K/N): the posterior given their records.
    The result does not depend on the order of `locals`.

    Raises:
        RefusedError: a model that is not a policy of this study, or a node that is not in its roster.
        EpgfnError: no models, training diverged, or `stop` was set.
    """
    if not locals:
        raise EpgfnError(
            "no local model is there to aggregate; wait until at least one node has sent its own"
        )
    models = {node: locals[node] for node in sorted(locals)}
    for node, tensors in models.items():
        _check(study, node, tensors)
    space = space_of(study)
    stack = make_policy(space, list(models.values()))
    prior_share = absent_prior_share(study, len(models))
    generator = torch.Generator().manual_seed(seed)
    policy = make_policy(space, [initial_policy(study, _start(models, prior_share), generator)])
    judge = aggregating_judge(space, stack, prior_share, study.aggregation)
    history = fit(policy, space, study.aggregation, judge, generator, progress=progress, stop=stop)
    found = diagnose(space, policy, stack, list(models), prior_share, generator)
    return GlobalResult(policy.tensors(), history, found)


def absent_prior_share(study: Study, present: int) -> Tensor:
    """(V, K) float64 (1 - K/N) log pi per variable and parent set, with K = `present` of the roster's N nodes (nats)."""
    table = torch.as_tensor(prior_table(study), dtype=torch.float64)
    share = 1 - present / len(study.roster)
    return torch.where(torch.isfinite(table), table * share, 0.0)


def aggregating_judge(
    space: DagSpace, stack: Policy, prior_share: Tensor, settings: AggregationSettings
) -> Judge:
    """The loss `settings.objective` names, towards the product of the models in `stack`."""

    def cost(rollout: Rollout) -> Judged:
        trajectories = rollout.trajectories
        with torch.no_grad():
            theirs = evaluate(stack, space, trajectories)
        log_pb = trajectories.log_pb.sum(0)
        prior = modular_score(prior_share, trajectories.final.adjacency, space.max_parents).float()
        log_target = aggregated_log_reward(theirs.log_pf.sum(1), log_pb) + prior
        if not bool(torch.isfinite(log_target).all()):
            raise EpgfnError(
                "a local model gives an object the others allow no probability at all; ask that node to train again"
            )
        if settings.objective == "aggregating-edges":
            loss = _edges(space, prior_share, rollout, Rollout(trajectories, theirs, rollout.log_q))
        else:
            loss = robust_contrastive_balance(
                rollout.evaluated.log_pf[0].sum(0), log_pb, log_target, CONTRASTIVE_DELTA
            )
        return Judged(loss, log_target + log_pb - rollout.log_q)

    return Judge(cost, [], None)


def _edges(space: DagSpace, prior_share: Tensor, rollout: Rollout, theirs: Rollout) -> Tensor:
    """Edge-wise aggregating balance over a batch of trajectories."""
    ours, local = edges_of(rollout), edges_of(theirs)
    ratios = edge_log_ratio(local.log_pf, local.log_pb, local.log_stop, local.log_stop_next)
    states = rollout.trajectories.states
    prior = torch.stack([modular_score(prior_share, s.adjacency, space.max_parents).float() for s in states])
    change = (prior[1:] - prior[:-1])[ours.mask]
    return aggregating_modified_detailed_balance(
        ours.log_pf[0], ours.log_pb, ours.log_stop[0], ours.log_stop_next[0], ratios, change, EDGE_DELTA
    )


def _start(models: Mapping[str, Mapping[str, Tensor]], prior_share: Tensor) -> Tensor:
    """(V, K) float64: the sum of the score tables, where models carry them, and the absent nodes' share of the prior."""
    tables = [model[SCORES].double() for model in models.values() if SCORES in model]
    return torch.stack([prior_share, *tables]).sum(0)


def _check(study: Study, node: str, tensors: Mapping[str, Tensor]) -> None:
    if node not in study.roster:
        raise RefusedError(
            "not-in-roster", f"node {node} is not in the study's roster; aggregate only the roster's models"
        )
    try:
        validate_policy(study, tensors)
    except RefusedError as error:
        raise RefusedError(error.reason, f"model of node {node}: {error}") from None

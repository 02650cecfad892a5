"""How far a model may be believed, and the best probabilities that are at hand, by the best target that is.

    a node's own model          its own log-reward
    a global model by sinks     the sum of its nodes' score tables: each says log R_n exactly, and what the local networks add is error

The product of the policies, towards which a global model is trained, is not the best target where there are tables: it holds every
local error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.gflownet.device import CPU, computing_on
from epgfn.gflownet.measure.estimates import Own, own_samples
from epgfn.gflownet.measure.exact import MAX_VARIABLES, edge_marginals
from epgfn.gflownet.measure.trust import pareto_khat, verdict_of, weights_hold
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.spaces import DagSpace
from epgfn.gflownet.spaces.base import LogReward, take
from epgfn.gflownet.spaces.parent_sets import parent_masks, parent_matrix
from epgfn.gflownet.training.loop import table_reward
from epgfn.study import Study
from epgfn.study.objects import questions, space_of

SAMPLES: Final = 10_000
"""Own samples behind a judgement: a standard error of at most .005 where all count alike."""
BLOCK: Final = 1024

Basis = Literal["exact", "weighted", "samples"]
"""Where probabilities come from: sums over all objects; own samples weighted towards the target; own samples as they are."""


class Judged(NamedTuple):
    """`trust`: the figures and the `verdict`, as JSON has them. `probabilities`: the best at hand, by the names of
    `epgfn.study.objects.questions`, and where they come from."""

    trust: dict[str, Any]
    probabilities: dict[str, float]
    basis: Basis


@torch.no_grad()
def judge(
    study: Study,
    policy: Policy[Any],
    log_reward: LogReward[Any],
    generator: torch.Generator,
    *,
    exact: Mapping[str, float] | None = None,
    samples: int = SAMPLES,
) -> Judged:
    """The first model of `policy` against `log_reward` (nats), and against the `exact` probabilities where they are known.

    `trust` holds `samples`, `effective_share` and `khat` of their weights; `moved_by_weights`, the most that weighting changes any
    probability; `exact_mean_error` and `exact_largest_error` of the unweighted ones, `exact_weighted_error` the largest of the
    weighted ones; and the `verdict` of `measure.trust`.
    """
    own = own_samples(policy, space_of(study), log_reward, samples, generator)
    plain, weighted = own_probabilities(study, own)
    khat, moved = pareto_khat(own.log_weight.cpu()), errors(plain, weighted)[1]
    trust: dict[str, Any] = {
        "samples": samples,
        "effective_share": own.effective_share,
        "khat": khat if math.isfinite(khat) else None,  # JSON has no infinity: too few samples to tell
        "moved_by_weights": moved,
    }
    largest = after = None
    if exact is not None:
        mean, largest = errors(plain, exact)
        after = errors(weighted, exact)[1]
        trust |= {"exact_mean_error": mean, "exact_largest_error": largest, "exact_weighted_error": after}
    effective = own.effective_share * samples
    trust["verdict"] = verdict_of(
        effective_samples=effective, khat=khat, moved=moved, largest_error=largest, weighted_error=after
    )
    if exact is not None:
        return Judged(trust, dict(exact), "exact")
    return (
        Judged(trust, weighted, "weighted")
        if weights_hold(effective, khat)
        else Judged(trust, plain, "samples")
    )


def own_probabilities(study: Study, own: Own[Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Of each question, from own samples as they are, and weighted towards the target."""
    weight = torch.softmax(own.log_weight.double(), 0)
    plain: dict[str, float] = {}
    weighted: dict[str, float] = {}
    for rows in torch.split(torch.arange(len(weight)), BLOCK):
        names, answers = questions(study, take(own.final, rows))
        share = answers.double().sum(0) / len(weight)
        for name, one, other in zip(
            names, share.tolist(), (weight[rows] @ answers.double()).tolist(), strict=True
        ):
            plain[name] = plain.get(name, 0.0) + one
            weighted[name] = weighted.get(name, 0.0) + other
    return plain, weighted


def table_target(space: DagSpace, table: Tensor) -> LogReward[Any]:
    """Log R of graphs from (V, K) float64 log-scores (nats), less a constant; what is no number is where nothing is asked."""
    own_set = parent_matrix(parent_masks(space.n_variables, space.max_parents), space.n_variables).T
    best = table.double().masked_fill(own_set, -torch.inf).amax(1, keepdim=True)
    return table_reward(space, torch.where(own_set, 0.0, table.double() - best))


def exact_of_table(study: Study, table: Tensor) -> dict[str, float] | None:
    """Exact probability of each edge under (V, K) log-scores (nats), in the order of the kind's questions; None beyond 14 variables."""
    space = space_of(study)
    if space.n_variables > MAX_VARIABLES:
        return None
    with computing_on(CPU):
        masks = parent_masks(space.n_variables, space.max_parents)
        known = table.double().cpu().masked_fill(parent_matrix(masks, space.n_variables).T, -torch.inf)
        edges = edge_marginals(known, masks)
    names = questions(study, space.initial(1)).names
    return dict(zip(names, edges[~np.eye(len(edges), dtype=bool)].tolist(), strict=True))


def edge_matrix(study: Study, probabilities: Mapping[str, float]) -> list[list[float]]:
    """(V, V) [i, j] = P(i -> j), zero diagonal, of a study of graphs."""
    v, given = len(study.variables), iter(probabilities.values())
    return [[0.0 if i == j else next(given) for j in range(v)] for i in range(v)]


def errors(found: Mapping[str, float], expected: Mapping[str, float]) -> tuple[float, float]:
    """Mean and largest |difference|; a name that is missing on a side is 0 there."""
    differences = [abs(found.get(name, 0.0) - expected.get(name, 0.0)) for name in {**expected, **found}]
    return sum(differences) / len(differences), max(differences)

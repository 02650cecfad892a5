"""Training: one local model from one node's records, and the loop that trains any model.

    result = train_local(study, records, seed=1)
    result.tensors          what goes into the model file

The loop samples a batch from the tempered, exploring policy (off-policy is right for every balance loss), takes one step of
Adam with clipped gradients, and lets the learning rate fall along a cosine. One seed gives one result on one thread.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.errors import EpgfnError
from epgfn.objectives import modified_detailed_balance, robust_contrastive_balance, trajectory_balance
from epgfn.policies import Policy, initial_policy, make_policy, space_of
from epgfn.rollout import Rollout, sample
from epgfn.spaces import DagSpace
from epgfn.spaces.parent_index import modular_score
from epgfn.targets import score_table

if TYPE_CHECKING:
    from epgfn.study import Study, TrainingSettings

MAX_GRADIENT_NORM = 20.0
FINAL_RATE = 0.02
"""Learning rate at the end, as a share of the first."""
CONTRASTIVE_DELTA = 2.0
"""Nats beyond which a trajectory's residual counts linearly."""
EDGE_DELTA = 1.0
LOG_Z_RATE = 0.1


class TrainingProgress(NamedTuple):
    """One step: its number from 1, how many there will be, loss (nats squared), gradient norm before clipping, and `ess`,
    the effective share of the batch (0 to 1) when its trajectories are weighted towards the target.

    The loss depends on the records: show it to the node's own people, send it to nobody.
    """

    step: int
    steps: int
    loss: float
    gradient_norm: float
    ess: float


Progress = Callable[[TrainingProgress], None]


class LocalResult(NamedTuple):
    """`tensors` as `policy_spec(study)` prescribes, float32; `history` one dict a step with the fields of its progress."""

    tensors: dict[str, Tensor]
    history: list[dict[str, Any]]


class Judged(NamedTuple):
    """The loss of a batch (scalar), and (B,) log target(tau) - log_q(tau) up to a constant, for the effective sample size."""

    loss: Tensor
    log_weight: Tensor


def train_local(
    study: Study,
    records: np.ndarray,
    *,
    seed: int,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> LocalResult:
    """A GFlowNet on the subposterior R_n(G) = f(D_n | G) pi(G)^(1/N) of one node, N = the length of the roster.

    Args:
        study: decides score, prior, space, policy, objective and how long to train.
        records: (n, V) float64, transformed and scaled, columns in the study's order.
        seed: of weights and trajectories; one thread and one seed give one result.
        progress: called after each step, from this thread.
        stop: when set, training ends with an error after the current step.

    Raises:
        EpgfnError: the scores are not finite, training diverged, or `stop` was set.
    """
    table = score_table(study, records, n_parties=len(study.roster))
    table = torch.as_tensor(table, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    space = space_of(study)
    policy = make_policy(space, [initial_policy(study, table, generator)])
    judge, extra = local_judge(space, table - table.amax(1, keepdim=True), study.training)
    history = fit(policy, space, study.training, judge, generator, progress=progress, stop=stop, extra=extra)
    return LocalResult(policy.tensors(), history)


def local_judge(
    space: DagSpace, table: Tensor, settings: TrainingSettings
) -> tuple[Callable[[Rollout], Judged], list[Tensor]]:
    """The loss that `settings.objective` names against the (V, K) float64 score table, and its own trainable tensors."""
    log_z = torch.full((), math.nan)  # until the first batch gives an estimate

    def judge(rollout: Rollout) -> Judged:
        trajectories, log_pf = rollout.trajectories, rollout.evaluated.log_pf[0].sum(0)
        log_reward = modular_score(table, trajectories.final.adjacency, space.max_parents).float()
        log_pb = trajectories.log_pb.sum(0)
        log_weight = log_reward + log_pb - rollout.log_q
        if settings.objective == "trajectory":
            if bool(log_z.isnan()):
                with torch.no_grad():
                    log_z.copy_((log_reward + log_pb - log_pf).median())
            loss = trajectory_balance(log_z, log_pf, log_pb, log_reward, CONTRASTIVE_DELTA)
        elif settings.objective == "detailed":
            loss = _detailed(space, table, rollout)
        else:
            loss = robust_contrastive_balance(log_pf, log_pb, log_reward, CONTRASTIVE_DELTA)
        return Judged(loss, log_weight)

    return judge, [log_z] if settings.objective == "trajectory" else []


def _detailed(space: DagSpace, table: Tensor, rollout: Rollout) -> Tensor:
    """Modified detailed balance over the edges of a batch of trajectories."""
    scores = [
        modular_score(table, s.adjacency, space.max_parents).float() for s in rollout.trajectories.states
    ]
    log_reward = torch.stack(scores)  # (T, B)
    edges, log_pf, log_pb, log_stop, log_stop_next = edges_of(rollout)
    ratio = (log_reward[1:] - log_reward[:-1])[edges]
    return modified_detailed_balance(log_pf[0], log_pb, log_stop[0], log_stop_next[0], ratio, EDGE_DELTA)


class Edges(NamedTuple):
    """The M edges s -> s' of a batch that do not stop. `mask` (T - 1, B) bool selects them; `log_pf` (N, M), `log_pb`
    (M,), `log_stop` (N, M) at s and `log_stop_next` (N, M) at s'."""

    mask: Tensor
    log_pf: Tensor
    log_pb: Tensor
    log_stop: Tensor
    log_stop_next: Tensor


def edges_of(rollout: Rollout) -> Edges:
    """The edges of sampled trajectories in a space where every state may stop."""
    trajectories, (log_pf, log_stop) = rollout.trajectories, rollout.evaluated
    if log_stop is None:
        raise EpgfnError("edge-wise losses need a space in which every state may stop; choose dag-by-edges")
    mask = trajectories.active[1:]  # the next state acts too, so this action did not stop
    return Edges(
        mask,
        log_pf[:, :-1][:, mask],
        trajectories.log_pb[:-1][mask],
        log_stop[:, :-1][:, mask],
        log_stop[:, 1:][:, mask],
    )


def fit(
    policy: Policy,
    space: DagSpace,
    settings: TrainingSettings,
    judge: Callable[[Rollout], Judged],
    generator: torch.Generator,
    *,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    extra: list[Tensor] | None = None,
) -> list[dict[str, Any]]:
    """Train the first model of `policy` in place; returns one dict a step. `extra` are tensors of the loss itself.

    Raises:
        EpgfnError: the loss or its gradient is not finite, or `stop` was set.
    """
    parameters = policy.parameters()
    for tensor in [*parameters, *(extra or [])]:
        tensor.requires_grad_(True)
    groups = [{"params": parameters, "lr": settings.learning_rate}, {"params": extra or [], "lr": LOG_Z_RATE}]
    optimiser = torch.optim.Adam([group for group in groups if group["params"]])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: _cosine(i / settings.steps))
    history: list[dict[str, Any]] = []
    for i in range(settings.steps):
        left = 1 - i / settings.steps
        rollout = sample(
            policy,
            space,
            settings.batch,
            generator=generator,
            temperature=1 + (settings.temperature - 1) * left,
            exploration=settings.exploration * left,
        )
        judged = judge(rollout)
        optimiser.zero_grad()
        judged.loss.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM))
        loss = float(judged.loss.detach())
        if not (math.isfinite(loss) and math.isfinite(norm)):
            message = f"training diverged at step {i + 1} of {settings.steps}; lower learning_rate in the study and start again"
            raise EpgfnError(message)
        optimiser.step()
        schedule.step()
        done = TrainingProgress(
            i + 1, settings.steps, loss, norm, effective_share(judged.log_weight.detach())
        )
        history.append(done._asdict())
        if progress is not None:
            progress(done)
        if stop is not None and stop.is_set():
            raise EpgfnError(
                f"training was stopped at step {i + 1} of {settings.steps}; nothing was kept, start it again"
            )
    for tensor in parameters:
        tensor.requires_grad_(False)
    return history


def effective_share(log_weight: Tensor) -> float:
    """Effective sample size over sample size, (sum w)^2 / (B sum w^2) of (B,) log weights: 1 when all are equal."""
    log_weight = log_weight.double()
    log_ess = 2 * log_weight.logsumexp(0) - (2 * log_weight).logsumexp(0)
    return float(log_ess.exp() / len(log_weight))


def _cosine(share: float) -> float:
    return FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * share)) / 2

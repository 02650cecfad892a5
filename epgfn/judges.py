"""What a batch of trajectories costs: each objective of `epgfn.objectives` applied to sampled trajectories and a log-reward.

contrastive        CB about the batch's median, robust          any space
trajectory         TB with a learned log Z                      any space
detailed           DB with a learned log F(s), one more network any space
modified-detailed  modified DB, free of flows                   where every state may stop
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from epgfn.errors import EpgfnError, UsageError
from epgfn.objectives import (
    detailed_balance,
    modified_detailed_balance,
    robust_contrastive_balance,
    trajectory_balance,
)
from epgfn.policies.mlp import mlp, mlp_init
from epgfn.rollout import Rollout
from epgfn.spaces.base import Space

CONTRASTIVE_DELTA = 2.0
"""Nats beyond which a trajectory's residual counts linearly."""
EDGE_DELTA = 1.0
LOG_Z_RATE = 0.1
"""Learning rate of log Z. A flow network has its policy's."""
LogReward = Callable[[Any], Tensor]


class Judged(NamedTuple):
    """The loss of a batch (scalar), and (B,) log target(tau) - log_q(tau) up to a constant, for the effective sample size."""

    loss: Tensor
    log_weight: Tensor


class Judge(NamedTuple):
    """`cost` of a batch, and the loss's own trainable tensors: `extra`, trained at `extra_rate` (None: as the policy)."""

    cost: Callable[[Rollout], Judged]
    extra: list[Tensor]
    extra_rate: float | None


def make_judge(
    space: Space,
    log_reward: LogReward,
    objective: str,
    *,
    hidden: int = 256,
    generator: torch.Generator | None = None,
) -> Judge:
    """The judge that `objective` names. `hidden` and `generator` are the flow network's, of `detailed` alone.

    Args:
        log_reward: B states to (B,) log R in nats, of finished objects; of any state too for `modified-detailed`, where it
            is the reward of stopping there.

    Raises:
        UsageError: there is no such objective, or the space has no use for it.
    """
    if objective not in ("contrastive", "trajectory", "detailed", "modified-detailed"):
        raise UsageError(
            f"there is no objective {objective!r}; choose contrastive, trajectory, detailed or modified-detailed"
        )
    if objective == "modified-detailed" and space.stop_action is None:
        raise UsageError(
            "modified detailed balance needs a space in which every state may stop; choose contrastive"
        )
    extra: list[Tensor] = []
    if objective == "trajectory":
        extra = [torch.full((), math.nan)]  # until the first batch gives an estimate
    elif objective == "detailed":
        flow = mlp_init(space.n_features, hidden, 1, generator or torch.Generator().manual_seed(0))
        extra = [tensor.unsqueeze(0) for tensor in flow.values()]
        names = list(flow)

    def cost(rollout: Rollout) -> Judged:
        trajectories, log_pf = rollout.trajectories, rollout.evaluated.log_pf[0].sum(0)
        final = log_reward(trajectories.final).float()
        log_pb = trajectories.log_pb.sum(0)
        if objective == "trajectory":
            if bool(extra[0].isnan()):
                with torch.no_grad():
                    extra[0].copy_((final + log_pb - log_pf).median())
            loss = trajectory_balance(extra[0], log_pf, log_pb, final, CONTRASTIVE_DELTA)
        elif objective == "detailed":
            loss = _detailed(space, final, rollout, dict(zip(names, extra, strict=True)))
        elif objective == "modified-detailed":
            loss = _modified_detailed(log_reward, rollout)
        else:
            loss = robust_contrastive_balance(log_pf, log_pb, final, CONTRASTIVE_DELTA)
        return Judged(loss, final + log_pb - rollout.log_q)

    return Judge(cost, extra, LOG_Z_RATE if objective == "trajectory" else None)


def _detailed(space: Space, final: Tensor, rollout: Rollout, flow: dict[str, Tensor]) -> Tensor:
    """Detailed balance over all edges of a batch of trajectories; F(x) = R(x) at the end."""
    trajectories = rollout.trajectories
    active = trajectories.active
    features = torch.stack([space.features(state) for state in trajectories.states])  # (T, B, F)
    log_flow = torch.zeros(active.shape)
    log_flow = log_flow.masked_scatter(active, mlp(flow, features[active])[0, :, 0])
    log_flow = torch.where(active, log_flow, final)  # (T, B)
    following = torch.cat([log_flow[1:], final[None]])
    log_pf = rollout.evaluated.log_pf[0]
    return detailed_balance(
        log_flow[active], log_pf[active], following[active], trajectories.log_pb[active], EDGE_DELTA
    )


def _modified_detailed(log_reward: LogReward, rollout: Rollout) -> Tensor:
    """Modified detailed balance over the edges of a batch of trajectories."""
    scores = torch.stack([log_reward(state).float() for state in rollout.trajectories.states])  # (T, B)
    edges, log_pf, log_pb, log_stop, log_stop_next = edges_of(rollout)
    ratio = (scores[1:] - scores[:-1])[edges]
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

"""What a batch of trajectories costs: each objective of `losses.objectives` applied to sampled trajectories and a log-reward.

contrastive        CB about the batch's median, robust          any space
trajectory         TB with a learned log Z                      any space
detailed           DB with a learned log F(s), one more network any space
subtrajectory      SubTB(.9) with the same network             any space
modified-detailed  modified DB, free of flows                   where every state may stop
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.device import seeded
from epgfn.gflownet.losses.objectives import (
    detailed_balance,
    modified_detailed_balance,
    robust_contrastive_balance,
    subtrajectory_balance,
    trajectory_balance,
)
from epgfn.gflownet.policies.backward import BackwardNet
from epgfn.gflownet.policies.mlp import LAYERS, mlp, mlp_init
from epgfn.gflownet.policies.mlp_net import distinct
from epgfn.gflownet.sampling.rollout import Rollout, Trajectories
from epgfn.gflownet.spaces.base import Space

CONTRASTIVE_DELTA = 2.0
"""Nats beyond which a trajectory's residual counts linearly."""
EDGE_DELTA = 1.0
SUBTRAJECTORY_LAMBDA = 0.9
LAST_BIAS = f"net.{LAYERS - 1}.bias"
OBJECTIVES = ("contrastive", "trajectory", "detailed", "subtrajectory", "modified-detailed")
LOG_Z_RATE = 0.1
"""Learning rate of log Z. A flow network has its policy's."""
LogReward = Callable[[Any], Tensor]


class Judged(NamedTuple):
    """The loss of a batch (scalar); (B,) log target(tau) - log_q(tau) up to a constant, for the effective sample size; (B,)
    log R of the finished objects, by which they are remembered for replay, where the target has one."""

    loss: Tensor
    log_weight: Tensor
    log_reward: Tensor | None = None


class Judge(NamedTuple):
    """`cost` of a batch, and the loss's own trainable tensors: `extra`, trained at `extra_rate` (None: as the policy), and
    those of a learned `backward` policy, trained as the policy."""

    cost: Callable[[Rollout], Judged]
    extra: list[Tensor]
    extra_rate: float | None
    backward: Sequence[Tensor] = ()


def make_judge(
    space: Space,
    log_reward: LogReward,
    objective: str,
    *,
    hidden: int = 256,
    generator: torch.Generator | None = None,
) -> Judge:
    """The judge that `objective` names. `hidden` and `generator` are the flow network's, of `detailed` and `subtrajectory`.

    Args:
        log_reward: B states to (B,) log R in nats, of finished objects; of any state too for `modified-detailed`, where it
            is the reward of stopping there.

    Raises:
        UsageError: there is no such objective, or the space has no use for it.
    """
    if objective not in OBJECTIVES:
        raise UsageError(f"there is no objective {objective!r}; choose one of {', '.join(OBJECTIVES)}")
    if objective == "modified-detailed" and space.stop_action is None:
        raise UsageError(
            "modified detailed balance needs a space in which every state may stop; choose contrastive"
        )
    log_z = torch.full((1,), math.nan)  # until the first batch gives an estimate
    flow: dict[str, Tensor] = {}
    if objective in ("detailed", "subtrajectory"):
        fresh = mlp_init(space.n_features, hidden, 1, generator or seeded(0))
        flow = {name: tensor.unsqueeze(0) for name, tensor in fresh.items()}
        log_z = flow[LAST_BIAS].fill_(math.nan)  # a flow that is log Z everywhere is a better start than 0

    has_flow = objective in ("trajectory", "detailed", "subtrajectory")

    def cost(rollout: Rollout) -> Judged:
        trajectories, log_pf = rollout.trajectories, rollout.evaluated.log_pf[0].sum(0)
        final = log_reward(trajectories.final).float()
        log_pb = trajectories.log_pb.sum(0)
        if has_flow and bool(log_z.isnan()):
            with torch.no_grad():
                log_z.fill_((final + log_pb - log_pf).median())
        if objective == "trajectory":
            loss = trajectory_balance(log_z, log_pf, log_pb, final, CONTRASTIVE_DELTA)
        elif objective == "detailed":
            loss = _detailed(space, final, rollout, flow)
        elif objective == "subtrajectory":
            loss = _subtrajectory(space, final, rollout, flow)
        elif objective == "modified-detailed":
            loss = _modified_detailed(log_reward, rollout)
        else:
            loss = robust_contrastive_balance(log_pf, log_pb, final, CONTRASTIVE_DELTA)
        return Judged(loss, final + log_pb - rollout.log_q, final)

    if objective == "trajectory":
        return Judge(cost, [log_z], LOG_Z_RATE)
    return Judge(cost, list(flow.values()), None)


def with_learned_backward(judge: Judge, backward: BackwardNet) -> Judge:
    """The same judge of the same trajectories with `backward` for their p_B, which is trained with the rest."""

    def cost(rollout: Rollout) -> Judged:
        learned = rollout.trajectories._replace(log_pb=backward.log_pb(rollout.trajectories))
        return judge.cost(rollout._replace(trajectories=learned))

    return Judge(cost, judge.extra, judge.extra_rate, backward.parameters())


def _log_flow(space: Space, trajectories: Trajectories, flow: dict[str, Tensor]) -> Tensor:
    """(T, B) log F(s) of the states acted in, 0 where not active."""
    active = trajectories.active
    fields = zip(*trajectories.states, strict=True)
    states = type(trajectories.final)(*(torch.stack(field)[active] for field in fields))  # M of T * B
    once, which = distinct(space, states)
    values = mlp(flow, space.features(once))[0, which, 0]
    return torch.zeros(active.shape).masked_scatter(active, values)


def _detailed(space: Space, final: Tensor, rollout: Rollout, flow: dict[str, Tensor]) -> Tensor:
    """Detailed balance over all edges of a batch of trajectories; F(x) = R(x) at the end."""
    trajectories = rollout.trajectories
    active = trajectories.active
    log_flow = torch.where(active, _log_flow(space, trajectories, flow), final)  # (T, B)
    following = torch.cat([log_flow[1:], final[None]])
    log_pf = rollout.evaluated.log_pf[0]
    return detailed_balance(
        log_flow[active], log_pf[active], following[active], trajectories.log_pb[active], EDGE_DELTA
    )


def _subtrajectory(space: Space, final: Tensor, rollout: Rollout, flow: dict[str, Tensor]) -> Tensor:
    """SubTB over all pieces of a batch of trajectories."""
    trajectories = rollout.trajectories
    return subtrajectory_balance(
        _log_flow(space, trajectories, flow),
        rollout.evaluated.log_pf[0],
        trajectories.log_pb,
        trajectories.active,
        final,
        SUBTRAJECTORY_LAMBDA,
        EDGE_DELTA,
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

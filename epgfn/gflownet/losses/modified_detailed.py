"""Modified detailed balance: edge by edge and free of flows, where every state may stop."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.losses.base import EDGE_DELTA, BatchLoss, Loss, Task, penalty, sums_of
from epgfn.gflownet.sampling.rollout import Rollout
from epgfn.gflownet.spaces.base import State


def modified_detailed_balance(
    log_pf: Tensor,
    log_pb: Tensor,
    log_stop: Tensor,
    log_stop_next: Tensor,
    log_reward_ratio: Tensor,
    delta: float | None = None,
) -> Tensor:
    """DB where every state may stop, free of flows: over (M,) edges s -> s' that do not stop, the mean of

    (log p_F(s' | s) + log p_F(stop | s') - log p_B(s | s') - log p_F(stop | s) - log R(s') / R(s))^2.

    Source: Deleu et al., UAI 2022, arXiv 2202.13903, eq. 7.
    """
    return penalty(edge_log_ratio(log_pf, log_pb, log_stop, log_stop_next) - log_reward_ratio, delta)


def edge_log_ratio(log_pf: Tensor, log_pb: Tensor, log_stop: Tensor, log_stop_next: Tensor) -> Tensor:
    """What a policy says about log R(s') / R(s): log p_F(s' | s) + log p_F(stop | s') - log p_B(s | s') - log p_F(stop | s)."""
    return log_pf + log_stop_next - log_pb - log_stop


def loss(task: Task[State]) -> Loss[State]:
    """Modified DB over the edges of a batch of trajectories; asks for the reward of unfinished states too, that of stopping there.

    Raises:
        UsageError: not every state of the space may stop.
    """
    if task.space.stop_action is None:
        raise UsageError(
            "modified detailed balance needs a space in which every state may stop; choose contrastive"
        )

    def of_batch(rollout: Rollout[State]) -> BatchLoss:
        scores = torch.stack(
            [task.log_reward(state).float() for state in rollout.trajectories.states]
        )  # (T, B)
        edges, log_pf, log_pb, log_stop, log_stop_next = edges_of(rollout)
        ratio = (scores[1:] - scores[:-1])[edges]
        balance = modified_detailed_balance(
            log_pf[0], log_pb, log_stop[0], log_stop_next[0], ratio, EDGE_DELTA
        )
        return sums_of(rollout, task.log_reward).batch_loss(balance, rollout)

    return Loss(of_batch)


class Edges(NamedTuple):
    """The M edges s -> s' of a batch that do not stop. `mask` (T - 1, B) bool selects them; `log_pf` (N, M), `log_pb`
    (M,), `log_stop` (N, M) at s and `log_stop_next` (N, M) at s'."""

    mask: Tensor
    log_pf: Tensor
    log_pb: Tensor
    log_stop: Tensor
    log_stop_next: Tensor


def edges_of(rollout: Rollout[Any]) -> Edges:
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

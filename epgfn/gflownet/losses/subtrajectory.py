"""Sub-trajectory balance with a learned flow, in any space."""

from __future__ import annotations

import torch
from torch import Tensor

from epgfn.gflownet.losses.base import EDGE_DELTA, BatchLoss, Loss, Task, sums_of
from epgfn.gflownet.losses.flow import Flow
from epgfn.gflownet.losses.trajectory import start_from
from epgfn.gflownet.sampling.rollout import Rollout
from epgfn.gflownet.spaces.base import State

SUBTRAJECTORY_LAMBDA = 0.9


def subtrajectory_balance(
    log_flow: Tensor,
    log_pf: Tensor,
    log_pb: Tensor,
    active: Tensor,
    log_reward: Tensor,
    lam: float,
    delta: float | None = None,
) -> Tensor:
    """SubTB(lambda): over every piece s_i -> ... -> s_j of every trajectory, in the mean weighted by lambda^(j - i), of

    (log F(s_i) + sum_{i <= t < j} [log p_F(s_t+1 | s_t) - log p_B(s_t | s_t+1)] - log F(s_j))^2,  F(x) = R(x) at the end.

    Weights sum to one in each trajectory. The smaller lambda, the more it is DB; at 1 all pieces count alike.

    Args:
        log_flow, log_pf, log_pb, active: (T, B), of the T states acted in; what is not `active` is ignored.
        log_reward: (B,). lam: above 0, at most 1.

    Source: Madan et al., ICML 2023, arXiv 2209.12782, eq. 13.
    """
    # With C_j the sum of log p_F - log p_B up to s_j, a piece's residual is u_i - u_j of u = log F - C: no sums over pieces.
    gain = torch.where(active, log_pf - log_pb, 0.0).cumsum(0)
    total = torch.cat([torch.zeros_like(gain[:1]), gain])  # (T + 1, B)
    flow = torch.cat([torch.where(active, log_flow, log_reward), log_reward[None]])
    u = flow - total
    there = torch.cat([torch.ones_like(active[:1]), active])  # s_j is on the trajectory
    place = torch.arange(len(u))
    length = (place - place[:, None]).clamp_min(0)  # (T + 1, T + 1) j - i
    weight = torch.where(length > 0, lam ** (length - 1).to(u.dtype), 0.0)[:, :, None] * there  # (i, j, B)
    residual = torch.where(there, u[:, None] - u, 0.0)
    if delta is None:
        cost = residual.square()
    else:
        cost = 2 * torch.nn.functional.huber_loss(
            residual, torch.zeros_like(residual), reduction="none", delta=delta
        )
    return ((weight * cost).sum((0, 1)) / weight.sum((0, 1))).mean()


def loss(task: Task[State]) -> Loss[State]:
    """SubTB over all pieces of a batch of trajectories."""
    flow = Flow(task)

    def of_batch(rollout: Rollout[State]) -> BatchLoss:
        sums, trajectories = sums_of(rollout, task.log_reward), rollout.trajectories
        start_from(flow.level, sums.log_reward + sums.log_pb - sums.log_pf)
        balance = subtrajectory_balance(
            flow.log_flow(trajectories),
            rollout.evaluated.log_pf[0],
            trajectories.log_pb,
            trajectories.active,
            sums.log_reward,
            SUBTRAJECTORY_LAMBDA,
            EDGE_DELTA,
        )
        return sums.batch_loss(balance, rollout)

    return Loss(of_batch, flow.parameters())

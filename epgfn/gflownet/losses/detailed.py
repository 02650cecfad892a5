"""Detailed balance with a learned flow, in any space."""

from __future__ import annotations

import torch
from torch import Tensor

from epgfn.gflownet.losses.base import EDGE_DELTA, BatchLoss, Loss, Task, penalty, sums_of
from epgfn.gflownet.losses.flow import Flow
from epgfn.gflownet.losses.trajectory import start_from
from epgfn.gflownet.sampling.rollout import Rollout
from epgfn.gflownet.spaces.base import State


def detailed_balance(
    log_flow: Tensor, log_pf: Tensor, log_flow_next: Tensor, log_pb: Tensor, delta: float | None = None
) -> Tensor:
    """DB: mean of (log F(s) + log p_F(s' | s) - log F(s') - log p_B(s | s'))^2 over (M,) edges; F(x) = R(x) at the end.

    Source: Bengio et al., JMLR 2023, arXiv 2111.09266, def. 17.
    """
    return penalty(log_flow + log_pf - log_flow_next - log_pb, delta)


def loss(task: Task[State]) -> Loss[State]:
    """DB over all edges of a batch of trajectories; F(x) = R(x) at the end."""
    flow = Flow(task)

    def of_batch(rollout: Rollout[State]) -> BatchLoss:
        sums, trajectories = sums_of(rollout, task.log_reward), rollout.trajectories
        start_from(flow.level, sums.log_reward + sums.log_pb - sums.log_pf)
        active = trajectories.active
        log_flow = torch.where(active, flow.log_flow(trajectories), sums.log_reward)  # (T, B)
        following = torch.cat([log_flow[1:], sums.log_reward[None]])
        log_pf = rollout.evaluated.log_pf[0]
        edges = (log_flow[active], log_pf[active], following[active], trajectories.log_pb[active])
        return sums.batch_loss(detailed_balance(*edges, EDGE_DELTA), rollout)

    return Loss(of_batch, flow.parameters())

"""Trajectory balance with a learned log Z, in any space."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from epgfn.gflownet.losses.base import CONTRASTIVE_DELTA, BatchLoss, Loss, Task, penalty, sums_of
from epgfn.gflownet.sampling.rollout import Rollout
from epgfn.gflownet.spaces.base import State

LOG_Z_RATE = 0.1
"""Learning rate of log Z."""


def trajectory_balance(
    log_z: Tensor, log_pf: Tensor, log_pb: Tensor, log_reward: Tensor, delta: float | None = None
) -> Tensor:
    """TB: mean of (log Z + log p_F(tau) - log p_B(tau | x) - log R(x))^2; `log_z` a scalar, the rest (B,).

    Source: Malkin et al., NeurIPS 2022, arXiv 2201.13259, eq. 14.
    """
    return penalty(log_z + log_pf - log_pb - log_reward, delta)


def loss(task: Task[State]) -> Loss[State]:
    """TB of sampled trajectories; log Z begins at what the first batch says."""
    log_z = torch.full((1,), math.nan)

    def of_batch(rollout: Rollout[State]) -> BatchLoss:
        sums = sums_of(rollout, task.log_reward)
        start_from(log_z, sums.log_reward + sums.log_pb - sums.log_pf)
        return sums.batch_loss(trajectory_balance(log_z, *sums, CONTRASTIVE_DELTA), rollout)

    return Loss(of_batch, [log_z], LOG_Z_RATE)


@torch.no_grad()
def start_from(log_z: Tensor, estimates: Tensor) -> None:
    """Fill `log_z`, if it has no value yet, with the median of a batch's estimates."""
    if bool(log_z.isnan()):
        log_z.fill_(estimates.median())

"""What every loss is made of: what it is given, what it gives for a batch, and the penalty of a residual.

`delta`: residuals beyond +-delta nats count linearly instead of quadratically (Huber), so that the far-off trajectories of
an untrained policy do not drown the rest. None: the plain square. The zero is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.sampling.rollout import Rollout
from epgfn.gflownet.spaces.base import LogReward, Space, State

CONTRASTIVE_DELTA = 2.0
"""Nats beyond which a trajectory's residual counts linearly."""
EDGE_DELTA = 1.0


class Task(NamedTuple, Generic[State]):
    """What a loss is made for. `log_reward`: B states to (B,) log R in nats, of finished objects; of any state too where the loss
    says so. `hidden` and `generator` are those of the flow network, where the loss trains one."""

    space: Space[State]
    log_reward: LogReward[State]
    hidden: int = 256
    generator: torch.Generator | None = None


class BatchLoss(NamedTuple):
    """The loss of a batch (scalar, nats squared); (B,) log target(tau) - log_q(tau) up to a constant, for the effective sample size;
    (B,) log R of the finished objects, by which they are remembered for replay, where the target has one."""

    loss: Tensor
    log_weight: Tensor
    log_reward: Tensor | None = None


class Loss(NamedTuple, Generic[State]):
    """`of_batch` of trajectories, and the loss's own trainable tensors: `extra`, trained at `extra_rate` (None: as the policy)."""

    of_batch: Callable[[Rollout[State]], BatchLoss]
    extra: Sequence[Tensor] = ()
    extra_rate: float | None = None


class Sums(NamedTuple):
    """Of each of B trajectories, all (B,) nats: `log_pf` and `log_pb` over its steps, `log_reward` of what it ends in."""

    log_pf: Tensor
    log_pb: Tensor
    log_reward: Tensor

    def batch_loss(self, loss: Tensor, rollout: Rollout[Any]) -> BatchLoss:
        """With `loss` of these trajectories."""
        return BatchLoss(loss, self.log_reward + self.log_pb - rollout.log_q, self.log_reward)


def sums_of(rollout: Rollout[State], log_reward: LogReward[State]) -> Sums:
    """Of a batch of the model that is trained, the first."""
    trajectories = rollout.trajectories
    final = log_reward(trajectories.final).float()
    return Sums(rollout.evaluated.log_pf[0].sum(0), trajectories.log_pb.sum(0), final)


def penalty(residual: Tensor, delta: float | None) -> Tensor:
    """Mean of residual^2, or with `delta` of 2 * Huber_delta(residual), which is residual^2 within +-delta."""
    if delta is None:
        return residual.square().mean()
    return 2 * torch.nn.functional.huber_loss(residual, torch.zeros_like(residual), delta=delta)

"""Contrastive balance: trajectories compared with each other, so that no log Z is needed, in any space."""

from __future__ import annotations

from torch import Tensor

from epgfn.gflownet.losses.base import CONTRASTIVE_DELTA, BatchLoss, Loss, Task, penalty, sums_of
from epgfn.gflownet.sampling.rollout import Rollout
from epgfn.gflownet.spaces.base import State


def contrastive_balance(log_pf: Tensor, log_pb: Tensor, log_reward: Tensor) -> Tensor:
    """CB over all pairs: mean over tau != tau' of (a(tau) - a(tau'))^2, a = log p_F - log p_B - log R; all (B,), B >= 2.

    That mean is twice the sample variance of a, which costs B instead of B^2.
    Source: da Silva et al., ICML 2024, arXiv 2406.03288, eq. 5 (there for single pairs).
    """
    return 2 * (log_pf - log_pb - log_reward).var()


def robust_contrastive_balance(log_pf: Tensor, log_pb: Tensor, log_reward: Tensor, delta: float) -> Tensor:
    """CB made robust: mean of 2 * Huber_delta(a - median a), the median held fixed; all (B,).

    Not the paper's loss. It shares its zero (a constant over all trajectories), and for residuals within +-delta it is the
    variance about the median; a few far-off trajectories pull the policy with bounded strength.
    """
    a = log_pf - log_pb - log_reward
    return penalty(a - a.detach().median(), delta)


def loss(task: Task[State]) -> Loss[State]:
    """CB about the batch's median, robust."""

    def of_batch(rollout: Rollout[State]) -> BatchLoss:
        sums = sums_of(rollout, task.log_reward)
        return sums.batch_loss(robust_contrastive_balance(*sums, CONTRASTIVE_DELTA), rollout)

    return Loss(of_batch)

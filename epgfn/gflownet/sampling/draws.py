"""How a sampler draws among B rows of L choices: what it does with each, and one number in [0, 1) turned into a choice."""

from __future__ import annotations

import torch
from torch import Tensor


def behaviour(log_prob: Tensor, temperature: float, exploration: float, dim: int = 1) -> Tensor:
    """(1 - e) softmax(log p_F / temperature) + e uniform over the allowed choices, along `dim`; e = `exploration`.

    `log_prob` is log p_F up to a constant of each row (nats), -inf where a choice is not allowed.
    """
    probability = (log_prob if temperature == 1 else log_prob / temperature).softmax(dim)
    if exploration > 0:
        allowed = torch.isfinite(log_prob).float()
        probability = (1 - exploration) * probability + exploration * allowed / allowed.sum(dim, keepdim=True)
    return probability


def cumulative(probability: Tensor) -> Tensor:
    """Running sums over the last axis, which end in exactly one."""
    total = probability.cumsum(-1)
    return total / total[..., -1:]


def draw(running: Tensor, noise: Tensor) -> Tensor:
    """Columns (B,) drawn by inverting the `running` sums (B, L). A number below one falls where a sum rises past it: what has
    no probability is never drawn."""
    return torch.searchsorted(running, noise[:, None], right=True)[:, 0]

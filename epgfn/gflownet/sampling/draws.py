"""How a sampler draws among B rows of L choices: what it does with each, and one number in [0, 1) turned into a choice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.floating]


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


def running_sums(logits: Floats, temperature: float, exploration: float) -> Floats:
    """As `cumulative` of `behaviour`, in numpy and actions first: (A, M), of log p_F (A, M) up to a constant of each column."""
    weight: Floats = logits - logits.max(0)
    np.exp(weight if temperature == 1 else weight / temperature, out=weight)
    if exploration > 0:
        allowed = np.isfinite(logits)
        weight = (1 - exploration) * weight / weight.sum(0) + exploration * allowed / allowed.sum(0)
    total: Floats = weight.cumsum(0)
    total /= total[-1]
    return total

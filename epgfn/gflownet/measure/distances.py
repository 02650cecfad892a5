"""How far one distribution over all objects is from another: float64 probabilities (M,), nats where there is a unit."""

from __future__ import annotations

import torch
from torch import Tensor


def exact_distribution(log_reward: Tensor) -> Tensor:
    """p(x) = R(x) / Z of all M objects from (M,) log R in nats -> (M,) float64."""
    return torch.softmax(log_reward.double(), 0)


def l1(p: Tensor, q: Tensor) -> float:
    """Sum over objects of |p - q|, from 0 to 2. Never halved."""
    return float((_same(p, q) - q.double()).abs().sum())


def total_variation(p: Tensor, q: Tensor) -> float:
    """Half of `l1`: the largest difference in the probability of any event, from 0 to 1."""
    return l1(p, q) / 2


def jensen_shannon(p: Tensor, q: Tensor) -> float:
    """KL(p || m) / 2 + KL(q || m) / 2, m = (p + q) / 2, in nats: from 0 to log 2."""
    p, q = _same(p, q), q.double()
    middle = (p + q) / 2
    return float((torch.xlogy(p, p / middle) + torch.xlogy(q, q / middle)).nansum() / 2)


def _same(p: Tensor, q: Tensor) -> Tensor:
    if p.shape != q.shape or p.dim() != 1:
        raise ValueError("both distributions must be (M,), over the same objects in the same order")
    return p.double()

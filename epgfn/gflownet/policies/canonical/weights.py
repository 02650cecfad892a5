"""How weights of parent sets are kept: as numbers times e^-600, which add up fastest, where none is more than e^1290 times
what it is a multiple of; else as their logs. Many records of strong relations need the second: 5,000 of `alarm` go to e^1550."""

from __future__ import annotations

import math
from typing import Final, Protocol

import torch
from torch import Tensor

SHIFT: Final = 600.0
LARGEST: Final = 1290.0
"""Nats up to which a number times e^-600 is one."""
MARGIN: Final = 20.0
"""Nats that a sum over all sets may be more than the largest of them."""
LEAST_NORMAL: Final = 740.0
"""Nats by which a number may be below 1."""


class Weights(Protocol):
    """One way to keep weights. All of them as tensors of float64."""

    nothing: float
    """That of no set."""

    def kept(self, log: Tensor) -> Tensor:
        """From logs, in nats."""

    def log(self, weight: Tensor) -> Tensor:
        """Nats."""

    def plus(self, one: Tensor, other: Tensor) -> Tensor:
        """The sum of two that broadcast against each other."""

    def bags(self, table: Tensor, row: Tensor, segment: Tensor, n: int) -> Tensor:
        """(n, V) sums of rows (L,) of `table` by ascending `segment` (L,)."""


class Numbers:
    nothing = 0.0

    def kept(self, log: Tensor) -> Tensor:
        return (log.clamp_max(LARGEST) - SHIFT).exp()

    def log(self, weight: Tensor) -> Tensor:
        return weight.log() + SHIFT

    def plus(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other

    def bags(self, table: Tensor, row: Tensor, segment: Tensor, n: int) -> Tensor:
        count = torch.bincount(segment, minlength=n)
        return torch.nn.functional.embedding_bag(row, table, count.cumsum(0) - count, mode="sum")


class Logs:
    nothing = -math.inf

    def kept(self, log: Tensor) -> Tensor:
        return log

    def log(self, weight: Tensor) -> Tensor:
        return weight

    def plus(self, one: Tensor, other: Tensor) -> Tensor:
        return torch.logaddexp(one, other)

    def bags(self, table: Tensor, row: Tensor, segment: Tensor, n: int) -> Tensor:
        found = table[row]
        at = segment[:, None].expand_as(found)
        best = found.new_full((n, found.shape[1]), -math.inf).scatter_reduce_(0, at, found, "amax")
        best = best.clamp_min(-1e300)
        total = torch.zeros_like(best).index_add_(0, segment, (found - best[segment]).exp())
        return total.log() + best


def weights_for(phi: Tensor, large: int) -> Weights:
    """For (V, K) scores, -inf for impossible sets, of which those from `large` on are kept as multiples of the best of them."""
    gain = phi.amax(1) - phi[:, 0]  # of the best parents over none, which is what all others are multiples of
    of_large = phi[:, large:]
    spread = gain.new_zeros(1)
    if of_large.shape[1]:
        spread = of_large.amax(1) - of_large.masked_fill(of_large == -torch.inf, torch.inf).amin(1)
    fits = float(gain.max()) <= LARGEST - MARGIN and float(spread.max()) <= SHIFT + LEAST_NORMAL
    return Numbers() if fits else Logs()

"""What matters of a state where sinks are removed last in order first: which variables are in, and which of those that came out of
order have no children yet.

Let t be the first place that is not in: 0 .. t-1 are. E are those in beyond t, and K those sinks among E. Every variable that is added
takes all sinks beyond itself as parents, so a sink before t is never asked for again, and (t, E, K) is all that the future depends on.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import torch
from torch import Tensor

_MASK: Final = (1 << 64) - 1


def first_left(members: Tensor) -> Tensor:
    """t of (B, V) members: (B,) int64, V where all are in."""
    return members.long().cumprod(1).sum(1)


def words(v: int) -> Tensor:
    """(V,) int64: what a sink adds to a fingerprint of which sinks there are, modulo 2^64."""
    return torch.tensor(_numbers(v), dtype=torch.int64)


@cache
def _numbers(v: int) -> list[int]:
    return [_mixed(i + 1) for i in range(v)]


def _mixed(number: int) -> int:
    """Steele, Lea & Flood's SplitMix64 (OOPSLA 2014), as a signed number."""
    z = number * 0x9E3779B97F4A7C15 & _MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
    z ^= z >> 31
    return z - (1 << 64) if z >> 63 else z

"""Parent sets as bitmasks: the one ordering that score tables, policies and model files share.

Bit i of a mask stands for variable i. Sets are ordered by size and, within a size, lexicographically by their
members, so the empty set is always number 0 and the sets of one size lie side by side.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def parent_masks(n_variables: int, max_parents: int) -> Tensor:
    """All sets of at most `max_parents` of `n_variables` variables, ordered by size, then lexicographically.

    Returns:
        (K,) int64 bitmasks, K = sum of binomial(n_variables, r) for r = 0 .. max_parents. The list is the same for
        every child; sets that hold the child itself are ruled out by a score of -inf.

    Raises:
        ValueError: fewer than 1 or more than 62 variables, or a negative `max_parents`.
    """
    if not 1 <= n_variables <= 62:
        raise ValueError(f"a bitmask holds 1 to 62 variables, not {n_variables}")
    if max_parents < 0:
        raise ValueError(f"max_parents must not be negative, but is {max_parents}")
    sizes = range(min(max_parents, n_variables) + 1)
    sets = itertools.chain.from_iterable(itertools.combinations(range(n_variables), r) for r in sizes)
    return torch.tensor([sum(1 << i for i in members) for members in sets], dtype=torch.int64)


def parent_matrix(masks: Tensor, n_variables: int) -> Tensor:
    """Membership of each variable in each set: `masks` of any shape (...) -> (..., n_variables) bool."""
    bits = torch.arange(n_variables, dtype=torch.int64, device=masks.device)
    return (masks.unsqueeze(-1) >> bits).bitwise_and(1).bool()


def popcount(masks: Tensor) -> Tensor:
    """Number of members of each set: int64 of the shape of `masks` (non-negative int64)."""
    x = masks - ((masks >> 1) & 0x5555555555555555)
    x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0F
    x = x + (x >> 8)
    x = x + (x >> 16)
    x = x + (x >> 32)
    return x & 0x7F

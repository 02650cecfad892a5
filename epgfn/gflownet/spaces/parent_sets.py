"""Parent sets: the one ordering that score tables, policies and model files share.

Sets are ordered by size and, within a size, lexicographically by their members, so the empty set is always number 0 and the sets of one
size lie side by side. The list is the same for every child; sets that hold the child itself are ruled out by a score of -inf. What counts
all subsets of few variables names sets by bitmasks, bit i for variable i.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from epgfn.gflownet.spaces.base import distinct, pack_bits


def subsets_of_size(n: int, size: int) -> Tensor:
    """(C(n, size), size) int64 all sets of that size of 0 .. n - 1, in lexicographic order."""
    count = math.comb(n, size)
    members = itertools.chain.from_iterable(itertools.combinations(range(n), size))
    return (
        torch.from_numpy(np.fromiter(members, np.int64, count * size))
        .view(count, size)
        .to(torch.get_default_device())
    )


def parent_sets(n_variables: int, max_parents: int) -> Tensor:
    """Membership of each variable in all sets of at most `max_parents`, ordered by size, then lexicographically.

    Returns:
        (K, V) bool, K = sum of binomial(V, r) for r = 0 .. max_parents, V = n_variables.

    Raises:
        ValueError: no variable, or a negative `max_parents`.
    """
    if n_variables < 1 or max_parents < 0:
        raise ValueError(f"no sets of at most {max_parents} of {n_variables} variables")
    levels = [subsets_of_size(n_variables, r) for r in range(min(max_parents, n_variables) + 1)]
    return torch.cat(
        [torch.zeros(len(s), n_variables, dtype=torch.bool).scatter_(1, s, True) for s in levels]
    )


def parent_masks(n_variables: int, max_parents: int) -> Tensor:
    """`parent_sets` as (K,) int64 bitmasks.

    Raises:
        ValueError: fewer than 1 or more than 62 variables, or a negative `max_parents`.
    """
    if not 1 <= n_variables <= 62:
        raise ValueError(f"a bitmask holds 1 to 62 variables, not {n_variables}")
    bits = torch.ones((), dtype=torch.int64) << torch.arange(n_variables)
    return (parent_sets(n_variables, max_parents) * bits).sum(1)


def families(sets: Tensor) -> tuple[Tensor, Tensor]:
    """Sets (K, V) bool, and each with one more variable: (M, V) bool, every distinct one once, and which of those they are,
    (1 + V, K) int64, the sets as they are first, then with variable j = 0 .. V - 1."""
    v = sets.shape[1]
    words, bits = pack_bits(sets), pack_bits(torch.eye(v, dtype=torch.bool))
    every = torch.cat([words[None], words | bits[:, None]])  # (1 + V, K, W)
    first, where = distinct(every.flatten(0, 1))
    child, number = first // len(sets), first % len(sets)
    found = sets[number]
    added = (child > 0).nonzero()[:, 0]
    found[added, child[added] - 1] = True
    return found, where.view(1 + v, -1)


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

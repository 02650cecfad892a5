"""Number of a parent set in the ordering of `parent_sets`, computed rather than looked up.

Sets of size r are in lexicographic order, so the number of {c_0 < ... < c_(r-1)} among them is
C(V, r) - 1 - sum_i C(V - 1 - c_i, r - i): a sum over members that needs no table of 2^V entries.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from epgfn.gflownet.spaces.parent_sets import parent_sets


def set_offsets(n_variables: int, max_parents: int) -> Tensor:
    """(R + 1,) int64: number of the first set of each size, plus C(V, r) - 1; R = `max_parents`."""
    counts = [math.comb(n_variables, r) for r in range(max_parents + 1)]
    return torch.tensor([sum(counts[:r]) + counts[r] - 1 for r in range(max_parents + 1)])


def member_terms(n_variables: int, max_parents: int) -> Tensor:
    """(R + 1, R + 1, V) int64: entry [r, i, c] is C(V - 1 - c, r - i), the i-th member c's share in a set of size r."""
    size = max_parents + 1
    terms = torch.zeros(size, size, n_variables, dtype=torch.int64)
    for r in range(size):
        for i in range(r):
            terms[r, i] = torch.tensor([math.comb(n_variables - 1 - c, r - i) for c in range(n_variables)])
    return terms


def parent_index(adjacency: Tensor, max_parents: int) -> Tensor:
    """Number of each variable's parent set.

    Args:
        adjacency: (B, V, C) bool, [b, i, c] = i is a parent of the c-th child, C = V or any; at most `max_parents` each.

    Returns:
        (B, C) int64 indices into the K sets of `parent_sets(V, max_parents)`.
    """
    n_variables = adjacency.shape[1]
    member = adjacency.transpose(1, 2)  # (B, C, V)
    size = member.sum(2)  # (B, C)
    position = (member.cumsum(2) - 1).clamp(0, max_parents)
    terms = member_terms(n_variables, max_parents)
    share = terms[size[:, :, None], position, torch.arange(n_variables)]  # (B, C, V)
    return set_offsets(n_variables, max_parents)[size] - (share * member).sum(2)


def modular_score(table: Tensor, adjacency: Tensor, max_parents: int) -> Tensor:
    """log R(G) = sum_j table[j, number of j's parent set]: (V, K) and (B, V, V) -> (B,) in nats, `table`'s dtype."""
    index = parent_index(adjacency, max_parents)  # (B, V)
    return table[torch.arange(table.shape[0]), index].sum(1)


def good_score(table: Tensor, max_parents: int) -> float:
    """log R of a graph that is about as good as any, from (V, K) nats, `table`'s dtype: variable after variable the one whose best parents
    are there already, or nearly. Scores of a variable as its own parent are ignored."""
    v = table.shape[0]
    parents = parent_sets(v, max_parents)  # (K, V)
    known = table.masked_fill(parents.T, -torch.inf)
    best, total = known.amax(1), 0.0
    inside = torch.zeros(v, dtype=torch.bool)
    for _ in range(v):
        at_hand = known.masked_fill((parents & ~inside).any(1), -torch.inf).amax(1)
        lost = torch.where(inside, torch.inf, best - at_hand)
        chosen = int(lost.argmin())
        total += float(at_hand[chosen])
        inside[chosen] = True
    return total

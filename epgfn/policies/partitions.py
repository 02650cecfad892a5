"""Partitions of the leaves into the subtrees of a forest, and the exact flow of a score that is a sum over splits.

A split is the unordered pair of leaf sets below a node. If log R(tree) = sum of phi over its splits, then with p_B uniform
over the roots that are no leaves the flow through a forest is exp(sum of its phi) g(partition), since neither what may
still be joined nor p_B depends on anything inside the subtrees:

    g(P) = sum over pairs (A, B) of P of exp(phi(A, B)) p_B g(P with A and B joined),   g(one set) = 1.

There are Bell(n) partitions and (3^n - 2^(n+1) + 1) / 2 splits: 877 and 966 for seven leaves, 4,140 and 3,025 for eight.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from epgfn.spaces.phylogeny import Phylogeny

MAX_LEAVES = 8
"""Leaves up to which a policy carries a score for each split."""
_BITS = 4  # of a slot's number in a key


class Level(NamedTuple):
    """The M partitions into k sets, and all k (k - 1) / 2 joins of each: `split` its number, `log_pb`, and `target` the
    number of the partition after; (M, k (k - 1) / 2) each. `start` is the number of the first partition."""

    start: int
    split: Tensor
    log_pb: Tensor
    target: Tensor


class Partitions:
    """All partitions of n leaves, numbered level by level; see the module for what they are for."""

    def __init__(self, n_leaves: int) -> None:
        if n_leaves > MAX_LEAVES:
            raise ValueError(f"numbers the partitions of at most {MAX_LEAVES} leaves")
        self.splits = split_list(n_leaves)
        self.split_number = torch.zeros(1 << n_leaves, 1 << n_leaves, dtype=torch.int64)
        for a, b in (self.splits.T, self.splits.T.flip(0)):
            self.split_number[a, b] = torch.arange(len(self.splits))
        self._space = Phylogeny(n_leaves)
        shifts = 1 << (_BITS * torch.arange(n_leaves))
        members = (torch.arange(1 << n_leaves)[:, None] & self._space.leaves) != 0
        self._spread = (members * shifts).sum(1)  # (2^n,) one in the place of each member
        self.levels, keys = self._explore()
        self._keys, self._order = keys.sort()

    def number(self, keys: Tensor) -> Tensor:
        """The numbers of the partitions with these keys, int64 of any shape."""
        return self._order[torch.searchsorted(self._keys, keys)]

    def key(self, roots: Tensor) -> Tensor:
        """(B,) int64: equal exactly where the partitions are; `roots` (B, n) int64 holds a set in the slot of its smallest leaf."""
        return (self._spread[roots] * torch.arange(roots.shape[1])).sum(1)

    def joined_key(self, key: Tensor, left: Tensor, right: Tensor, right_set: Tensor) -> Tensor:
        """The key after the set `right_set` of slot `right` went into slot `left`; all of one shape or broadcast."""
        return key + (left - right) * self._spread[right_set]

    def potential(self, scores: Tensor) -> Tensor:
        """log g of every partition: (S,) nats -> float64, 0 for the partition into one set."""
        out = torch.zeros(len(self._keys), dtype=torch.float64)
        for level in reversed(self.levels):
            flows = scores.double()[level.split] + level.log_pb + out[level.target]
            out[level.start : level.start + len(flows)] = flows.logsumexp(1)
        return out

    def _explore(self) -> tuple[list[Level], Tensor]:
        """The levels, most sets first, and the keys of all partitions in the order of their numbers."""
        roots, start = self._space.leaves[None], 0
        levels, keys = [], [self.key(roots)]
        for k in range(self._space.n_leaves, 1, -1):
            slots = (roots != 0).to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :k]
            left, right = (slots[:, side] for side in torch.triu_indices(k, k, 1))  # (M, L)
            a, b = roots.gather(1, left), roots.gather(1, right)
            after = roots[:, None].expand(-1, left.shape[1], -1)
            after = after.scatter(2, left[..., None], (a | b)[..., None]).scatter(2, right[..., None], 0)
            grown = ((after != 0) & (after != self._space.leaves)).sum(2)
            flat = after.flatten(0, 1)
            found, target = torch.unique(self.key(flat), return_inverse=True)
            first = torch.full((len(found),), len(flat)).scatter_reduce(
                0, target, torch.arange(len(flat)), "amin"
            )
            following = start + len(roots)
            target = (following + target).view(left.shape)
            levels.append(Level(start, self.split_number[a, b], -grown.double().log(), target))
            roots, start = flat[first], following
            keys.append(found)
        return levels, torch.cat(keys)


@lru_cache(maxsize=8)
def partitions_of(n_leaves: int) -> Partitions:
    """`Partitions(n_leaves)`, made once."""
    return Partitions(n_leaves)


def split_list(n_leaves: int) -> Tensor:
    """(S, 2) int64: the two leaf sets of every split, the one with the smallest leaf first, in ascending order."""
    masks = torch.arange(1, 1 << n_leaves)
    a, b = torch.cartesian_prod(masks, masks).T
    return torch.stack([a, b], 1)[((a & b) == 0) & ((a & -a) < (b & -b))]

"""Partitions of the leaves into the subtrees of a forest, and the exact flow of a score that is a sum over splits.

A split is the unordered pair of leaf sets below a node. If log R(tree) = sum of phi over its splits, then with p_B uniform
over the roots that are no leaves the flow through a forest is exp(sum of its phi) g(partition), since neither what may
still be joined nor p_B depends on anything inside the subtrees:

    g(P) = sum over pairs (A, B) of P of exp(phi(A, B)) p_B g(P with A and B joined),   g(one set) = 1.

There are Bell(n) partitions and (3^n - 2^(n+1) + 1) / 2 splits: 877 and 966 for seven leaves, 115,975 and 28,501 for ten,
4,213,597 and 261,625 for twelve.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.spaces.phylogeny import Phylogeny

MAX_LEAVES = 12
"""Leaves up to which a policy carries a score for each split: .9 GB for the joins of all partitions of twelve."""
_BITS = 4  # of a slot's number in a key
_BLOCK = 1 << 21  # joins worked on at once; bounds memory


class Level(NamedTuple):
    """The M partitions into k sets, by ascending `keys` (M,) int64, and all L = k (k - 1) / 2 joins of each: `split` its number
    and `target` the number of the partition after, (M, L) int32. `start` is the number of the first partition."""

    start: int
    keys: Tensor
    split: Tensor
    target: Tensor


class Partitions:
    """All partitions of n leaves, numbered level by level; see the module for what they are for."""

    def __init__(self, n_leaves: int) -> None:
        if n_leaves > MAX_LEAVES:
            raise ValueError(f"numbers the partitions of at most {MAX_LEAVES} leaves")
        self.n_leaves = n_leaves
        self._space = Phylogeny(n_leaves)
        masks = torch.arange(1 << n_leaves)
        members = ((masks[:, None] & self._space.leaves) != 0).long()
        self._spread = (members << (_BITS * torch.arange(n_leaves))).sum(1)  # one in the place of each member
        self._thirds = (members * 3 ** torch.arange(n_leaves)).sum(1)  # the same to the base of three
        self.splits = split_list(n_leaves)
        self._split_number = torch.full((3**n_leaves,), -1, dtype=torch.int32)
        for a, b in (self.splits.T, self.splits.T.flip(0)):
            self._split_number[self._thirds[a] + 2 * self._thirds[b]] = torch.arange(
                len(a), dtype=torch.int32
            )
        self.levels = self._explore()
        """Most sets first; the last has the one partition into one set, and no joins."""
        self.log_pb = torch.cat([self._log_pb(level.keys) for level in self.levels])
        """(P,) float64 log p_B of any step into each partition."""

    def split_number(self, a: Tensor, b: Tensor) -> Tensor:
        """The number of the split of disjoint leaf sets, int64 of any shape -> int32; -1 where one is empty."""
        return self._split_number[self._thirds[a] + 2 * self._thirds[b]]

    def key(self, roots: Tensor) -> Tensor:
        """(B,) int64: equal exactly where the partitions are; `roots` (B, n) int64 holds a set in the slot of its smallest leaf."""
        return (self._spread[roots] * torch.arange(roots.shape[1])).sum(1)

    def row(self, keys: Tensor, sets: int) -> Tensor:
        """Where the partitions into so many `sets` with these keys stand in their level, int64."""
        return torch.searchsorted(self.levels[self.n_leaves - sets].keys, keys)

    def potential(self, scores: Tensor) -> Tensor:
        """log g of every partition: (S,) nats -> (P,) float64, 0 for the partition into one set."""
        out, scores = torch.zeros(len(self.log_pb), dtype=torch.float64), scores.double()
        for level in self.levels[-2::-1]:
            for rows in _blocks(level.split):
                into = out[level.target[rows]] + self.log_pb[level.target[rows]]
                out[level.start + rows] = (scores[level.split[rows]] + into).logsumexp(1)
        return out

    def _explore(self) -> list[Level]:
        n, start = self.n_leaves, 0
        keys = self.key(self._space.leaves[None])
        levels = []
        for k in range(n, 1, -1):
            following = start + len(keys)
            pairs = torch.triu_indices(k, k, 1)
            after = torch.empty(len(keys), pairs.shape[1], dtype=torch.int64)
            split = torch.empty(after.shape, dtype=torch.int32)
            for rows in _blocks(after):
                roots = self._roots(keys[rows])
                slots = (roots != 0).to(torch.uint8).argsort(dim=1, descending=True, stable=True)
                left, right = slots[:, pairs[0]], slots[:, pairs[1]]  # (M, L)
                a, b = roots.gather(1, left), roots.gather(1, right)
                split[rows] = self.split_number(a, b)
                after[rows] = keys[rows, None] + (left - right) * self._spread[b]
            found, target = torch.unique(after, return_inverse=True)
            levels.append(Level(start, keys, split, (following + target).int()))
            keys, start = found, following
        nothing = torch.zeros(1, 0, dtype=torch.int32)
        return [*levels, Level(start, keys, nothing, nothing)]

    def _roots(self, keys: Tensor) -> Tensor:
        """(M, n) int64: the sets of the partitions with these keys, each in the slot of its smallest leaf."""
        places = torch.arange(self.n_leaves)
        slot = (keys[:, None] >> (_BITS * places)) & ((1 << _BITS) - 1)  # of each leaf
        return torch.zeros_like(slot).scatter_add_(1, slot, self._space.leaves.expand_as(slot))

    def _log_pb(self, keys: Tensor) -> Tensor:
        """- log of the sets of more than one leaf; 0 where there are none."""
        grown = torch.cat([self._grown(keys[rows]) for rows in _blocks(keys[:, None])])
        return -grown.clamp_min(1).double().log()

    def _grown(self, keys: Tensor) -> Tensor:
        roots = self._roots(keys)
        return ((roots != 0) & (roots != self._space.leaves)).sum(1)


def partitions_of(n_leaves: int) -> Partitions:
    """`Partitions(n_leaves)`, made once on each device."""
    return _partitions_on(torch.get_default_device(), n_leaves)


@lru_cache(maxsize=4)
def _partitions_on(device: torch.device, n_leaves: int) -> Partitions:
    return Partitions(n_leaves)


def split_list(n_leaves: int) -> Tensor:
    """(S, 2) int64: the two leaf sets of every split, the one with the smallest leaf first, in ascending order."""
    places = torch.arange(n_leaves)
    side = (
        torch.arange(3**n_leaves)[:, None] // 3**places
    ) % 3  # of each leaf: in neither set, the first, the second
    a, b = ((side == which).long() << places for which in (1, 2))
    a, b = a.sum(1), b.sum(1)
    kept = (a != 0) & (b != 0) & ((a & -a) < (b & -b))
    return torch.stack([a[kept], b[kept]], 1)[((a << n_leaves) + b)[kept].argsort()]


def _blocks(joins: Tensor) -> tuple[Tensor, ...]:
    """Row numbers of `joins` (M, L), so many at once that `_BLOCK` is kept."""
    rows = max(1, _BLOCK // max(1, joins.shape[1]))
    return torch.split(torch.arange(len(joins)), rows)

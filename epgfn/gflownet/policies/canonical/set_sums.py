"""Sums over parent sets by what they hold of the variables that came out of order.

Variables are named by their place in the reference order, 0 to V - 1, here and throughout this package. With a prefix {0 .. t-1} and a
set D of later variables,

    W_t,j(D) = log sum over A within the prefix, |A| + |D| <= R, of exp phi_j(A + D),

so a sum over all parent sets within prefix + E is one over the few subsets D of E. All W come of the score table by
W_(t+1),j(D) = log(exp W_t,j(D) + exp W_t,j(D + t)), exactly and in float64; they are R times as many numbers as the table has.
"""

from __future__ import annotations

import torch
from torch import Tensor

from epgfn.gflownet.spaces.parent_index import member_terms, parent_index, set_offsets
from epgfn.gflownet.spaces.parent_sets import subsets_of_size


class SetSums:
    """W of one score table in one reference order, by `at`; D by its `number`. `alone` (V,) is W_i,i of nothing, what each variable weighs
    in order, `phi` (V, K) the table, and `held` (K, V) bool which variables a set holds."""

    def __init__(self, table: Tensor, rank: Tensor, max_parents: int) -> None:
        """`table` (V, K) scores in nats, -inf where a variable would be its own parent; `rank` (V,) int64 the variables' places."""
        v, r = len(table), max_parents
        self.n_variables, self.max_parents = v, r
        self.offsets, self.terms = set_offsets(v, r), member_terms(v, r)
        self.variable = rank.argsort()  # of each place
        sets = [subsets_of_size(v, size) for size in range(r + 1)]
        there = torch.cat([self.number(self.variable[s].sort(1).values) for s in sets])
        self.phi = table.double()[self.variable][:, there]
        self.n_sets = self.phi.shape[1]
        self.held = torch.cat([_bits(s, v) for s in sets])  # (K, V) bool
        self.n_small = self.n_sets - len(sets[r])
        sums = torch.empty(v, v, self.n_small, dtype=torch.float64)
        current = self.phi[:, : self.n_small].clone()
        for t in range(v):
            sums[t] = current
            for size in range(r):
                later = sets[size][(sets[size] > t).all(1)]
                with_t = torch.cat([torch.full((len(later), 1), t), later], 1)
                to, of = self.number(later), self.number(with_t)
                gained = self.phi[:, of] if size + 1 == r else current[:, of]
                current[:, to] = torch.logaddexp(current[:, to], gained)
        self._flat = torch.cat([sums.flatten(), self.phi.flatten()])
        place = torch.arange(v)
        self.alone = self.at(place, place, torch.zeros((), dtype=torch.int64))

    @property
    def n_bytes(self) -> int:
        """Of memory."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))

    def number(self, members: Tensor) -> Tensor:
        """Of sets (..., r) of ascending places: (...) int64, as `parent_sets` orders them."""
        size = members.shape[-1]
        number = self.offsets[size].expand(members.shape[:-1])
        for i in range(size):
            number = number - self.terms[size, i][members[..., i]]
        return number

    def members_of(self, number: Tensor) -> Tensor:
        """(B, V) bool of (B,) numbers."""
        return self.held[number]

    def score(self, child: Tensor, parents: Tensor) -> Tensor:
        """(B,) phi of (B,) children with (B, V) bool parents, by places."""
        number = parent_index(parents[:, :, None], self.max_parents)[:, 0]
        return self.phi[child, number]

    def at(self, t: Tensor, child: Tensor, number: Tensor) -> Tensor:
        """W_t,child(D) of prefixes, children and sets' numbers that broadcast against each other, float64."""
        v = self.n_variables
        small = (t * v + child) * self.n_small + number
        large = v * v * self.n_small + child * self.n_sets + number
        return self._flat[torch.where(number < self.n_small, small, large)]


def _bits(members: Tensor, v: int) -> Tensor:
    return torch.zeros(len(members), v, dtype=torch.bool).scatter_(1, members, True)

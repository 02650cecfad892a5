"""Weights of parent sets as a walk needs them: whole rows at a time, kept as `weights` does.

`by_prefix` (V * n, V) by t and set D of at most two late variables: the sum over A before t of exp phi_j(A + D), for every j, as a
multiple of that for no D, whose log is `empty` (V, V) [t, j] less what j weighs in order. `by_set` (N, V) by set D of more: exp phi_j(D)
as a multiple of the largest, whose log is `best` (V,) less the same. `one`, `two` and `three` say the
same of a variable that comes in order itself, by which late variables are among its parents, as multiples of what it weighs without: `one`
(V, V) [i, j], `two` (V, V * V) by a, `three` (V * V, V * V) by a and b; nothing unless all of them come after i.
What is made of all this guides, and decides nothing.

Of few late variables flows are known beside (`few`), nats: `none` (V + 1,) and `one_late` (V + 1, V), by t, what variables out of order add
to going on in order, and e being late to that; `single` (V, V) [t, e] what it costs that e has to be covered, and `excess` (V, V, V) by
how much more it costs that e and f have to than each of them.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from epgfn.gflownet.policies.canonical.set_sums import SetSums
from epgfn.gflownet.policies.canonical.weights import weights_for

TOP: Final = 1200.0
"""Nats at which the best of the large sets is kept, far from where the others are nothing."""
WORST: Final = 1e4
"""Nats that it costs at most, as far as is known, that a variable has to be covered."""
BY_PREFIX: Final = 2
"""Late parents up to which sums are kept for each t; of more, only sets that hold nothing else count, which is all there is to it up to
fan-in 3."""


class Tables:
    """Of one score table in one order."""

    def __init__(self, sums: SetSums) -> None:
        v, r = sums.n_variables, sums.max_parents
        self.sums = sums
        place = torch.arange(v)
        self.n_by_prefix = sum(math.comb(v, size) for size in range(min(r - 1, BY_PREFIX) + 1))
        number = torch.arange(self.n_by_prefix)
        self.of = of = weights_for(sums.phi, self.n_by_prefix)
        by_prefix = sums.at(place[:, None, None], place, number[:, None])  # (V, n, V)
        first = sums.at(place[:, None], place, torch.zeros((), dtype=torch.int64))  # (V, V) [t, j]
        self.empty = first - sums.alone
        self.by_prefix = of.kept(by_prefix - first[:, None]).flatten(0, 1)
        by_set = sums.phi.T[self.n_by_prefix :]
        best = by_set.amax(0)
        self.best = best - sums.alone
        self.by_set = of.kept(by_set - best + TOP)
        self.one = self._own(place[:, None], place[None, :, None])  # (V, V)
        two = torch.full((v, v, v), of.nothing, dtype=torch.float64)
        three = torch.full([v if r >= 3 else 0] * 4, of.nothing, dtype=torch.float64)
        for a in range(v if r >= 2 else 0):
            i = torch.arange(a)[:, None]
            j = torch.arange(v)[None]
            pair = torch.stack([j, torch.full_like(j, a)], 2).sort(2).values
            two[a, :a] = self._own(i, pair).masked_fill((j <= i) | (j == a), of.nothing)
            for b in range(a if r >= 3 else 0):
                i = torch.arange(b)[:, None]
                all_three = torch.stack([j, torch.full_like(j, b), torch.full_like(j, a)], 2)
                found = self._own(i, all_three.sort(2).values)
                three[a, b, :b] = three[b, a, :b] = found.masked_fill(
                    (j <= i) | (j == a) | (j == b), of.nothing
                )
        self.two = two.flatten(1)
        self.three = three.view(v * v, v * v) if r >= 3 else None
        kind = torch.float64
        self.none, self.one_late = torch.zeros(v + 1, dtype=kind), torch.zeros(v + 1, v, dtype=kind)
        self.single = torch.full((v, v), -WORST, dtype=kind)
        self.excess = -WORST * (1 - torch.eye(v, dtype=kind)).repeat(v, 1, 1)
        self.one = self.one.masked_fill(place[None] <= place[:, None], of.nothing)

    @property
    def n_bytes(self) -> int:
        """Of memory."""
        own = (value for value in vars(self).values() if isinstance(value, Tensor))
        return self.sums.n_bytes + sum(value.nbytes for value in own)

    def _own(self, i: Tensor, members: Tensor) -> Tensor:
        """Of variables i (n, 1) in order with late parents `members` (1, V, r): (n, V)."""
        sums = self.sums
        own = sums.at(i, i, sums.number(members)) - sums.alone[i]
        return self.of.kept(own)

    def log_q(self, t: Tensor, number: Tensor, segment: Tensor, t_of: Tensor) -> Tensor:
        """(S, V) log of the sum over sets of those `number` (L,), at `t` (L,), in ascending `segment` (L,) of `t_of` (S,)."""
        few = number < self.n_by_prefix
        row = t[few] * self.n_by_prefix + number[few]
        of, n = self.of, len(t_of)
        found = of.log(of.bags(self.by_prefix, row, segment[few], n)) + self.empty[t_of]
        if bool(few.all()):
            return found
        more = of.log(of.bags(self.by_set, number[~few] - self.n_by_prefix, segment[~few], n))
        return torch.logaddexp(found, more + (self.best - TOP))

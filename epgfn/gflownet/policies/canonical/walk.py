"""Where B builders of graphs stand: what is in, and what that makes of the variables still to come."""

from __future__ import annotations

import torch
from torch import Tensor

from epgfn.gflownet.policies.canonical.moments import first_left
from epgfn.gflownet.policies.canonical.tables import Tables


class Walk:
    """`members` (B, V) bool, `sinks` (B, V) bool those of them without children that are beyond `t` (B,), the first place that is not in.
    Of each variable i still to come in its turn, `own` (B, V) is the weight of all parents it may then have, and `gain` (B, V, V) [b, i, j]
    what j > i, if it came before, would add; both as `Tables` count."""

    def __init__(self, tables: Tables, n: int) -> None:
        v = tables.sums.n_variables
        self.tables = tables
        self.members = torch.zeros(n, v, dtype=torch.bool)
        self.sinks = torch.zeros(n, v, dtype=torch.bool)
        self.t = torch.zeros(n, dtype=torch.int64)
        self.own = tables.of.kept(torch.zeros(n, v, dtype=torch.float64))
        self.gain = tables.one.expand(n, v, v).clone()

    @classmethod
    def at(cls, tables: Tables, members: Tensor, sinks: Tensor) -> Walk:
        """Where those (B, V) members are in, by places, with these sinks."""
        walk = cls(tables, len(members))
        v = members.shape[1]
        walk.t = first_left(members)
        place = torch.arange(v)
        walk.members = members & (place < walk.t[:, None])
        late = members & (place >= walk.t[:, None])
        order = late.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        for number in range(int(late.sum(1).max()) if len(late) else 0):
            rows = (late.sum(1) > number).nonzero()[:, 0]
            walk._add_late(rows, order[rows, number])
        walk.sinks = sinks & late
        return walk

    def late(self) -> Tensor:
        """(B, V) bool: what is in beyond t."""
        return self.members & (torch.arange(self.members.shape[1]) > self.t[:, None])

    def advance(self, child: Tensor, parents: Tensor) -> None:
        """Each adds its (B,) child with (B, V) bool parents."""
        rows = (child > self.t).nonzero()[:, 0]
        self._add_late(rows, child[rows])
        row = torch.arange(len(child))
        self.members[row, child] = True
        self.t = first_left(self.members)
        self.sinks &= ~parents
        self.sinks[row, child] = True
        self.sinks &= torch.arange(self.sinks.shape[1]) > self.t[:, None]

    def _add_late(self, rows: Tensor, e: Tensor) -> None:
        """`e` (b,) beyond t come in, of those rows (b,)."""
        if not len(rows):
            return
        tables, v = self.tables, self.members.shape[1]
        of = tables.of
        self.own[rows] = of.plus(self.own[rows], self.gain[rows, :, e])
        more = tables.two[e]
        if tables.three is not None:
            late = self.members[rows] & (torch.arange(v) > self.t[rows, None])
            row, other = late.nonzero(as_tuple=True)
            more = of.plus(more, of.bags(tables.three, e[row] * v + other, row, len(rows)))
        self.gain[rows] = of.plus(self.gain[rows], more.view(-1, v, v))
        self.members[rows, e] = True

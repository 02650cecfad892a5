"""Directed acyclic graphs grown by sinks, each in one way only: of a graph's sinks, the one that comes last in a reference order goes.

The states are those of `DagBySinks` that one comes by, with p_B = 1 throughout. Forward, j may be added with parents Pa if every sink that
the order puts after j is in Pa, and if what is left can still be added: a variable u with n sinks beyond it and h variables beyond it left
can exactly if n <= R + (R - 1) h, R the fan-in, since each of those covers R sinks and is one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from epgfn.gflownet.spaces.dag_by_sinks import DagBySinks, State


class DagByLastSink(DagBySinks):
    """`rank` (V,) int64: each variable's place in the reference order."""

    def __init__(self, n_variables: int, max_parents: int, rank: Tensor) -> None:
        super().__init__(n_variables, max_parents)
        self.rank = rank
        self._after = rank > rank[:, None]  # (V, V) [u, i]: i comes after u

    def backward_mask(self, state: State) -> Tensor:
        place = torch.where(state.sinks, self.rank, -1)
        return state.sinks & (place == place.amax(1, keepdim=True))

    def forward_mask(self, state: State) -> Tensor:
        allowed = super().forward_mask(state)
        row, action = allowed.nonzero(as_tuple=True)
        child, parents = action // self.n_sets, self.parents[action % self.n_sets]
        sinks = state.sinks[row]
        covered = ~(sinks & self._after[child] & ~parents).any(1)
        members = state.members[row].clone()
        at = torch.arange(len(row))
        members[at, child] = True
        sinks = sinks & ~parents
        sinks[at, child] = True
        allowed[row, action] = covered & self.can_be_finished(members, sinks)
        return allowed

    def can_be_finished(self, members: Tensor, sinks: Tensor) -> Tensor:
        """(B,) bool of (B, V) members and sinks: whether anything is built from there."""
        after = self._after.T.double()  # [i, u]
        n, h = sinks.double() @ after, (~members).double() @ after
        most = self.max_parents
        return (members | (n <= most + (most - 1) * h)).all(1)

"""Rooted binary trees over labelled leaves from the top: begin with all leaves in one clade, split clades until none is left to split.

Always the clade whose smallest leaf is the smallest is split, of those that are left, so there is one way into each tree, p_B = 1
throughout. States are `phylogeny.State`: a split of clade C into two, of which the second does not hold the smallest leaf of C but has
smallest leaf j, puts C into `nodes[j]` and its second part into `clades[j]`. So finished states are those of `Phylogeny`.

Action    the second part, shifted down by one, as leaf 0 is in none. Actions can be listed up to `MAX_LISTED` leaves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from epgfn.gflownet.spaces.base import Back
from epgfn.gflownet.spaces.phylogeny import Phylogeny, State

MAX_LISTED = 12


class PhylogenyFromTop(Phylogeny):
    """The space; n = `n_leaves`."""

    def __init__(self, n_leaves: int) -> None:
        super().__init__(n_leaves)
        self.n_actions = 1 << (n_leaves - 1)
        self.n_backward = 1

    def initial(self, n: int) -> State:
        nothing = torch.zeros(n, self.n_leaves, dtype=torch.int64)
        clades = nothing.clone()
        clades[:, 0] = self.leaves.sum()
        return State(nothing, clades)

    def pending(self, state: State) -> Tensor:
        """(B, n) int64: of each slot what is left of its clade once the second parts of its splits are taken off; 0 where there is none."""
        left = state.clades
        for j in range(1, self.n_leaves):
            node = state.nodes[:, j, None]
            first = (node != 0) & ((node & -node) == self.leaves)  # (B, n), the slot whose clade was split
            left = torch.where(first, left & ~state.clades[:, j, None], left)
        return left

    def turn(self, state: State) -> Tensor:
        """(B,) int64: the clade to be split, 0 in finished trees."""
        left = self.pending(state)
        splits = (left & (left - 1)) != 0
        at = splits.to(torch.uint8).argmax(1, keepdim=True)
        return torch.where(splits.any(1), left.gather(1, at)[:, 0], 0)

    def forward_mask(self, state: State) -> Tensor:
        """Raises:
        ValueError: more than `MAX_LISTED` leaves.
        """
        if self.n_leaves > MAX_LISTED:
            raise ValueError(f"lists the splits of at most {MAX_LISTED} leaves")
        whole = self.turn(state)[:, None]
        part = torch.arange(self.n_actions) << 1
        rest = whole & (whole - 1)  # all but the smallest
        return (part != 0) & ((part & rest) == part)

    def step(self, state: State, action: Tensor) -> State:
        whole, part = self.turn(state), action << 1
        slot = part & -part
        at = (slot[:, None] == self.leaves) & (whole != 0)[:, None]
        return State(
            torch.where(at, whole[:, None], state.nodes), torch.where(at, part[:, None], state.clades)
        )

    def backward_mask(self, state: State) -> Tensor:
        return (state.nodes != 0).any(1, keepdim=True)

    def step_back(self, state: State, choice: Tensor) -> Back[State]:
        """The last split is of the last slot that was, and of its clades the smallest."""
        smallest = (self.members(state.nodes) > 0).to(torch.uint8).argmax(2)
        size = self.members(state.nodes).sum(2)
        place = torch.where(state.nodes != 0, smallest * (self.n_leaves + 1) + self.n_leaves - size, -1.0)
        last = place.argmax(1, keepdim=True)
        can = self.backward_mask(state)
        part = state.clades.gather(1, last)
        at = torch.zeros_like(state.nodes, dtype=torch.bool).scatter(1, last, can)
        before = State(state.nodes.masked_fill(at, 0), state.clades.masked_fill(at, 0))
        return Back(before, torch.where(can, (part >> 1) & ((1 << 63) - 1), 0)[:, 0])

    def is_terminating(self, state: State) -> Tensor:
        return (state.nodes[:, 1:] != 0).all(1)

    def key(self, state: State) -> Tensor:
        """Nodes and second parts; of finished trees as `Phylogeny` has it."""
        done = self.is_terminating(state)[:, None]
        nodes = super().key(state)
        parts = super().key(State(torch.where(done, 0, state.clades), state.clades))
        return torch.cat([nodes, parts], 1)

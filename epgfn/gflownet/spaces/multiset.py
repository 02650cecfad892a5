"""Multisets of a fixed size: start empty, add one item at a time.

State     counts of the d items; finished when they add up to `size`: `size` steps, always.
Action    i: add an item of kind i.
Backward  take out an item of any kind that is present, uniformly over kinds: p_B = 1 / #kinds present.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.gflownet.spaces.base import Back, Truth, Whole, pack_digits


class State(NamedTuple):
    """`counts` (B, d) int64 of each item."""

    counts: Tensor


class Multiset:
    """The space; d = `n_items` kinds, `size` items in a finished multiset."""

    stop_action: int | None = None

    def __init__(self, n_items: int, size: int) -> None:
        if n_items < 2 or size < 1:
            raise ValueError("needs at least 2 kinds of items and a size of at least 1")
        self.n_items = n_items
        self.size = size
        self.n_actions = n_items
        self.n_backward = n_items
        self.n_features = n_items * (size + 2) + size
        self.max_steps = size
        self._unit = torch.eye(n_items, dtype=torch.int64)
        self._first_row = (size + 1) * torch.arange(n_items + 1)

    def initial(self, n: int) -> State:
        return State(torch.zeros(n, self.n_items, dtype=torch.int64))

    def terminal(self, counts: Tensor) -> State:
        """The finished states of `counts` (B, d) int64 that add up to `size`."""
        return State(counts)

    def forward_mask(self, state: State) -> Tensor:
        return (~self.is_terminating(state))[:, None].expand(-1, self.n_items)

    def step(self, state: State, action: Tensor) -> State:
        return State(state.counts + self._unit[action] * ~self.is_terminating(state)[:, None])

    def backward_mask(self, state: State) -> Tensor:
        return state.counts > 0

    def step_back(self, state: State, choice: Tensor) -> Back[State]:
        return Back(State((state.counts - self._unit[choice]).clamp_min(0)), choice)

    def is_terminating(self, state: State) -> Tensor:
        return state.counts.sum(1) == self.size

    def features(self, state: State) -> Tensor:
        """(B, d * (size + 2) + size): each count one-hot, the number of items so far one-hot, and each count as a number.

        Counts as numbers let a network carry on to large counts, which one party seldom meets and a product may live on.
        """
        counts = torch.nn.functional.one_hot(state.counts, self.size + 1).flatten(1)
        total = torch.nn.functional.one_hot(state.counts.sum(1), self.size + 1)[:, : self.size]
        return torch.cat([counts.float(), total.float(), state.counts.float() / self.size], 1)

    def rows(self, state: State) -> Tensor:
        """(B, d + 1): of each kind its count, and the number of items so far."""
        return torch.cat([state.counts, state.counts.sum(1, keepdim=True)], 1) + self._first_row

    def row_features(self) -> Tensor:
        """((d + 1) * (size + 1), F)."""
        d, each = self.n_items, self.size + 1
        table = torch.zeros((d + 1) * each, self.n_features)
        counted = torch.arange(d * each)
        table[counted, counted] = 1.0
        table[counted, d * each + self.size + counted // each] = (counted % each).float() / self.size
        total = d * each + torch.arange(self.size)  # a full multiset acts no more
        table[total, total] = 1.0
        return table

    def allowed(self, rows: Whole) -> Truth:
        room = rows[:, -1:] < int(self._first_row[-1]) + self.size
        return np.broadcast_to(room, (len(rows), self.n_items))

    def after(self, rows: Whole, action: Whole) -> Whole:
        rows[np.arange(len(rows)), action] += 1
        rows[:, -1] += 1
        return rows

    def of_rows(self, rows: Tensor, stopped: Tensor) -> State:
        return State((rows - self._first_row)[:, :-1])

    def key(self, state: State) -> Tensor:
        return pack_digits(state.counts, self.size + 1)

    def decode(self, state: State) -> list[tuple[int, ...]]:
        """Counts of each kind."""
        return [tuple(row) for row in state.counts.tolist()]

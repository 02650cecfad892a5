"""A grid in D dimensions: start in the corner, increase one coordinate at a time, stop anywhere.

State     (position in {0 .. side - 1}^D, stopped or not).
Action    i < D: increase coordinate i; D: stop.
Backward  from a stopped state: not yet stopped, the one way back. Otherwise decrease any coordinate above zero, uniformly.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.gflownet.spaces.base import Back, Truth, Whole, pack_digits


class State(NamedTuple):
    """`position` (B, D) int64, `stopped` (B,) bool."""

    position: Tensor
    stopped: Tensor


class Hypergrid:
    """The space; D = `n_dimensions`, coordinates 0 to `side` - 1."""

    def __init__(self, n_dimensions: int, side: int) -> None:
        if n_dimensions < 1 or side < 2:
            raise ValueError("needs at least 1 dimension and a side of at least 2")
        self.n_dimensions = n_dimensions
        self.side = side
        self.stop_action: int | None = n_dimensions
        self.n_actions = n_dimensions + 1
        self.n_backward = n_dimensions + 1
        self.n_features = n_dimensions * side
        self.max_steps = n_dimensions * (side - 1) + 1
        self._unit = torch.cat([torch.eye(n_dimensions), torch.zeros(1, n_dimensions)]).long()
        self._first_row = side * torch.arange(n_dimensions)

    def initial(self, n: int) -> State:
        return State(torch.zeros(n, self.n_dimensions, dtype=torch.int64), torch.zeros(n, dtype=torch.bool))

    def terminal(self, position: Tensor) -> State:
        """The finished states at `position` (B, D) int64."""
        return State(position, torch.ones(len(position), dtype=torch.bool))

    def forward_mask(self, state: State) -> Tensor:
        stop = torch.ones(len(state.position), 1, dtype=torch.bool)
        return torch.cat([state.position < self.side - 1, stop], 1) & ~state.stopped[:, None]

    def step(self, state: State, action: Tensor) -> State:
        move = self._unit[action] * ~state.stopped[:, None]  # (B, D)
        return State(state.position + move, state.stopped | (action == self.n_dimensions))

    def backward_mask(self, state: State) -> Tensor:
        return torch.cat([(state.position > 0) & ~state.stopped[:, None], state.stopped[:, None]], 1)

    def step_back(self, state: State, choice: Tensor) -> Back[State]:
        move = self._unit[choice] * ~state.stopped[:, None]
        position = (state.position - move).clamp_min(0)
        return Back(State(position, torch.zeros_like(state.stopped)), choice)

    def is_terminating(self, state: State) -> Tensor:
        return state.stopped

    def features(self, state: State) -> Tensor:
        """(B, D * side): each coordinate one-hot."""
        return torch.nn.functional.one_hot(state.position, self.side).flatten(1).float()

    def rows(self, state: State) -> Tensor:
        """(B, D): of each coordinate the place."""
        return state.position + self._first_row

    def row_features(self) -> Tensor:
        return torch.eye(self.n_features)

    def allowed(self, rows: Whole) -> Truth:
        room = np.ones((len(rows), self.n_actions), dtype=np.bool_)
        np.less(rows, self._first_row.numpy() + self.side - 1, out=room[:, :-1])
        return room

    def after(self, rows: Whole, action: Whole) -> Whole:
        rows[np.arange(len(rows)), action] += 1
        return rows

    def of_rows(self, rows: Tensor, stopped: Tensor) -> State:
        return State(rows - self._first_row, stopped)

    def key(self, state: State) -> Tensor:
        digits = torch.cat([state.stopped[:, None].long(), state.position], 1)
        return pack_digits(digits, self.side)

    def decode(self, state: State) -> list[tuple[int, ...]]:
        """Coordinates."""
        return [tuple(row) for row in state.position.tolist()]

"""Sequences up to a length: start empty, append a letter, stop anywhere. At full length stopping is all that is left.

State     (letters so far, stopped or not).
Action    a < A: append letter a; A: stop.
Backward  undo the last action: every state has one way back, so p_B = 1 and the graph is a tree.
"""

from __future__ import annotations

import string
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.gflownet.spaces.base import Back, Truth, Whole, pack_digits

LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits


class State(NamedTuple):
    """`letters` (B, L) int64, the number of a letter from 1 on, 0 where there is none yet; `stopped` (B,) bool."""

    letters: Tensor
    stopped: Tensor


class Sequence:
    """The space; A = `n_letters`, L = `max_length`. The empty sequence is an object too."""

    def __init__(self, n_letters: int, max_length: int) -> None:
        if not 1 <= n_letters <= len(LETTERS) or max_length < 1:
            raise ValueError(f"needs 1 to {len(LETTERS)} letters and a length of at least 1")
        self.n_letters = n_letters
        self.max_length = max_length
        self.stop_action: int | None = n_letters
        self.n_actions = n_letters + 1
        self.n_backward = 1
        self.n_features = max_length * n_letters + max_length + 1
        self.max_steps = max_length + 1
        self._first_row = (n_letters + 1) * torch.arange(max_length + 1)

    def initial(self, n: int) -> State:
        return State(torch.zeros(n, self.max_length, dtype=torch.int64), torch.zeros(n, dtype=torch.bool))

    def terminal(self, letters: Tensor) -> State:
        """The finished states of `letters` (B, L) int64: numbers from 1 on, then zeros."""
        return State(letters, torch.ones(len(letters), dtype=torch.bool))

    def length(self, state: State) -> Tensor:
        """(B,) int64: letters so far."""
        return (state.letters > 0).sum(1)

    def forward_mask(self, state: State) -> Tensor:
        room = (state.letters[:, -1:] == 0).expand(-1, self.n_letters)
        return torch.cat([room, torch.ones_like(room[:, :1])], 1) & ~state.stopped[:, None]

    def step(self, state: State, action: Tensor) -> State:
        stop = state.stopped | (action == self.n_letters)
        place = self.length(state).clamp_max(self.max_length - 1)[:, None]
        letter = torch.where(stop[:, None], state.letters.gather(1, place), action[:, None] + 1)
        return State(state.letters.scatter(1, place, letter), stop)

    def backward_mask(self, state: State) -> Tensor:
        return (state.stopped | (state.letters[:, 0] > 0))[:, None]

    def step_back(self, state: State, choice: Tensor) -> Back[State]:
        place = (self.length(state) - 1).clamp_min(0)[:, None]
        last = state.letters.gather(1, place)
        letters = state.letters.scatter(1, place, torch.where(state.stopped[:, None], last, 0))
        action = torch.where(state.stopped, self.n_letters, (last[:, 0] - 1).clamp_min(0))
        return Back(State(letters, torch.zeros_like(state.stopped)), action)

    def is_terminating(self, state: State) -> Tensor:
        return state.stopped

    def features(self, state: State) -> Tensor:
        """(B, L * A + L + 1): each place one-hot, zeros where there is no letter, and the length one-hot."""
        letters = torch.nn.functional.one_hot(state.letters, self.n_letters + 1)[:, :, 1:].flatten(1)
        length = torch.nn.functional.one_hot(self.length(state), self.max_length + 1)
        return torch.cat([letters, length], 1).float()

    def rows(self, state: State) -> Tensor:
        """(B, L + 1): of each place its letter or none, and the length."""
        return torch.cat([state.letters, self.length(state)[:, None]], 1) + self._first_row

    def row_features(self) -> Tensor:
        """(L * (A + 1) + L + 1, F)."""
        places, each = self.max_length, self.n_letters + 1
        table = torch.zeros(places * each + places + 1, self.n_features)
        shown = torch.arange(places * each).view(places, each)[:, 1:].flatten()
        table[shown, torch.arange(places * self.n_letters)] = 1.0
        length = torch.arange(places + 1)
        table[places * each + length, places * self.n_letters + length] = 1.0
        return table

    def allowed(self, rows: Whole) -> Truth:
        room = np.ones((len(rows), self.n_actions), dtype=np.bool_)
        room[:, :-1] = (rows[:, -1] < int(self._first_row[-1]) + self.max_length)[:, None]
        return room

    def after(self, rows: Whole, action: Whole) -> Whole:
        rows[np.arange(len(rows)), rows[:, -1] - int(self._first_row[-1])] += action + 1
        rows[:, -1] += 1
        return rows

    def of_rows(self, rows: Tensor, stopped: Tensor) -> State:
        return State((rows - self._first_row)[:, :-1], stopped)

    def key(self, state: State) -> Tensor:
        digits = torch.cat([state.stopped[:, None].long(), state.letters], 1)
        return pack_digits(digits, self.n_letters + 1)

    def decode(self, state: State) -> list[str]:
        """Strings over A, B, ..., Z, a, ..., z, 0, ..., 9."""
        return ["".join(LETTERS[i - 1] for i in row if i) for row in state.letters.tolist()]

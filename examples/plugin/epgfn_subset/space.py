"""Subsets of d items, put in one at a time. Action i puts item i in, action d stops; every state may stop. Ways back: taking one out, and
un-stopping."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.spaces.base import Back, pack_bits


class State(NamedTuple):
    """`members` (B, d) bool, and `stopped` (B,) bool."""

    members: Tensor
    stopped: Tensor


class Subsets:
    """The state graph; see `epgfn.gflownet.spaces.base.Space`."""

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items
        self.n_actions = self.n_backward = self.max_steps = n_items + 1
        self.n_features = n_items
        self.stop_action: int | None = n_items

    def initial(self, n: int) -> State:
        return State(torch.zeros(n, self.n_items, dtype=torch.bool), torch.zeros(n, dtype=torch.bool))

    def forward_mask(self, state: State) -> Tensor:
        stop = torch.ones(len(state.stopped), 1, dtype=torch.bool)
        return torch.cat([~state.members, stop], 1) & ~state.stopped[:, None]

    def step(self, state: State, action: Tensor) -> State:
        put = torch.nn.functional.one_hot(action, self.n_actions).bool() & ~state.stopped[:, None]
        return State(state.members | put[:, :-1], state.stopped | put[:, -1])

    def backward_mask(self, state: State) -> Tensor:
        return torch.cat([state.members & ~state.stopped[:, None], state.stopped[:, None]], 1)

    def step_back(self, state: State, choice: Tensor) -> Back:
        taken = torch.nn.functional.one_hot(choice, self.n_backward).bool() & self.backward_mask(state)
        return Back(State(state.members & ~taken[:, :-1], state.stopped & ~taken[:, -1]), choice)

    def is_terminating(self, state: State) -> Tensor:
        return state.stopped

    def features(self, state: State) -> Tensor:
        return state.members.float()

    def key(self, state: State) -> Tensor:
        return pack_bits(torch.cat([state.members, state.stopped[:, None]], 1))

    def decode(self, state: State) -> list[Any]:
        return [tuple(row.nonzero()[:, 0].tolist()) for row in state.members]

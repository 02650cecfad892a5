"""All states of a small space as one numbered list: a step is then a look-up, and a network's input need not be built again."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.spaces.base import Space, State, joined, log_uniform_backward, take
from epgfn.gflownet.spaces.enumeration import Level, levels_of

MAX_CELLS = 1 << 24
"""Most numbers in any one of the tables. Spaces beyond it are walked state by state."""


class StateGraph(NamedTuple, Generic[State]):
    """S states: first the P that act, number 0 the initial one, then the finished ones.

    `state` all S. `after` (S, A) int64 numbers: what an action leads to; the state itself where it is not allowed. `log_pb` (S,)
    float32 of any one way back, nats. `features` (P, F) float32 and `penalty` (A, P) float32, of those that
    act: 0, or -inf where an action is not allowed.
    A state that can be reached in t and in t' steps has two numbers, so that a number belongs to one step.
    """

    state: State
    after: Tensor
    log_pb: Tensor
    features: Tensor
    penalty: Tensor

    @property
    def n_acting(self) -> int:
        """P."""
        return len(self.features)


_known: WeakKeyDictionary[Space[Any], StateGraph[Any] | None] = WeakKeyDictionary()


def state_graph(space: Space[State]) -> StateGraph[State] | None:
    """The graph of `space`, worked out once for each; None where it is too large for `MAX_CELLS`."""
    if space not in _known:
        _known[space] = _listed(space)
    return _known[space]


def _listed(space: Space[State]) -> StateGraph[State] | None:
    width = max(space.n_actions, space.n_features)
    levels: list[Level[State]] = []
    states = 1
    try:
        for level in levels_of(space) if width <= MAX_CELLS else ():
            levels.append(level)
            states += int(level.target.max()) + 1 if len(level.target) else 0
            if states * width > MAX_CELLS:
                return None
    except UsageError:  # a level alone is beyond memory
        return None
    return _numbered(space, levels) if levels else None


def _numbered(space: Space[State], levels: list[Level[State]]) -> StateGraph[State]:
    state = joined([level.state for level in levels])
    finished = space.is_terminating(state)
    order = finished.to(torch.uint8).argsort(stable=True)  # those that act first
    number = torch.empty_like(order)
    number[order] = torch.arange(len(order))
    after = torch.arange(len(order))[:, None].repeat(1, space.n_actions)
    start = 0
    for level in levels:
        following = start + len(level.state[0])
        after[number[start + level.source], level.action] = number[following + level.target]
        start = following
    state = take(state, order)
    acting = take(state, torch.arange(int((~finished).sum())))
    allowed = space.forward_mask(acting)
    penalty = torch.zeros(allowed.T.shape).masked_fill(~allowed.T, -torch.inf)
    return StateGraph(state, after, log_uniform_backward(space, state), space.features(acting), penalty)

"""All states of a small space, level by level, and all of its objects.

    levels = explore(space)
    objects = terminating_states(space, levels)

All states are held at once. A space too large for that is refused before memory runs out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, NamedTuple

import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.spaces.base import Space, State, joined, take

MAX_BYTES = 2 << 30
"""Most memory that one level may take."""


class Level(NamedTuple, Generic[State]):
    """The states reached after t steps, each once, and the edges out of them: row `source` of this level by `action` to
    row `target` of the next, all (M,) int64. The last level has no edges."""

    state: State
    source: Tensor
    action: Tensor
    target: Tensor


def explore(space: Space[State]) -> list[Level[State]]:
    """All states of `space`, level by level.

    Raises:
        UsageError: a level would take more than `MAX_BYTES`.
    """
    return list(levels_of(space))


def levels_of(space: Space[State]) -> Iterator[Level[State]]:
    """`explore` one level at a time, for those who may stop before the end."""
    state, steps = space.initial(1), 0
    while True:
        _guard(steps, len(state[0]), len(state[0]) * space.n_actions)
        source, action = space.forward_mask(state).nonzero(as_tuple=True)
        edge_bytes = 48 + sum(field[:1].numel() * field.element_size() for field in state)
        _guard(steps, len(state[0]), len(source) * edge_bytes)
        if not len(source):
            yield Level(state, source, action, source)
            return
        after = space.step(take(state, source), action)
        keys = space.key(after)
        one = keys[:, 0] if keys.shape[1] == 1 else keys  # far faster to sort
        unique, target = torch.unique(one, dim=0, return_inverse=True)
        first = torch.full((len(unique),), len(source))
        first.scatter_reduce_(0, target, torch.arange(len(source)), "amin")
        yield Level(state, source, action, target)
        state, steps = take(after, first), steps + 1


def _guard(steps: int, states: int, size: int) -> None:
    if size > MAX_BYTES:
        raise UsageError(
            f"the space has {states} states after {steps} steps and its next level would take {size / 2**30:.0f} GiB; "
            "choose a smaller instance, or estimate from samples"
        )


def terminating_states(space: Space[State], levels: list[Level[State]]) -> State:
    """All finished states, in the order of `terminating_mass`."""
    return joined([take(level.state, space.is_terminating(level.state)) for level in levels])

"""Finished objects of any space, by actions that are all alike: where objects are too many to list and no policy is at hand."""

from __future__ import annotations

import torch

from epgfn.gflownet.spaces.base import Space, State, where


def finished_at_random(space: Space[State], n: int, generator: torch.Generator) -> State:
    """`n` terminal states, each reached by actions drawn uniformly among the allowed ones; no uniform draw of objects."""
    state = space.initial(n)
    while not bool(space.is_terminating(state).all()):
        allowed = space.forward_mask(state).double()
        none = allowed.sum(1) == 0
        allowed[none, 0] = 1.0
        moved = space.step(state, torch.multinomial(allowed, 1, generator=generator)[:, 0])
        state = where(none, state, moved)
    return state

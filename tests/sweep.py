"""Every state of a small space, found by walking it: the ground that exact checks stand on. Uses nothing but the space protocol."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from epgfn.policies.base import Policy
from epgfn.spaces import DagSpace
from epgfn.spaces.base import take


class Level(NamedTuple):
    """The states reached after t steps, and the edges out of them: row `source` by `action` to row `target` of the next level."""

    state: Any
    source: Tensor
    action: Tensor
    target: Tensor


def explore(space: DagSpace) -> list[Level]:
    """All states, level by level, each once."""
    levels, state = [], space.initial(1)
    while True:
        source, action = space.forward_mask(state).nonzero(as_tuple=True)
        if not len(source):
            return [*levels, Level(state, source, action, source)]
        after = space.step(take(state, source), action)
        keys, target = torch.unique(space.key(after), dim=0, return_inverse=True)
        first = torch.full((len(keys),), len(source)).scatter_reduce(
            0, target, torch.arange(len(source)), "amin"
        )
        levels.append(Level(state, source, action, target))
        state = take(after, first)


def terminating(space: DagSpace, policy: Policy) -> tuple[Tensor, Tensor]:
    """All finished objects (M, V, V) bool, and p_T of the first model in `policy`, (M,) float64: one sweep, no sampling."""
    mass, adjacency, finished = torch.ones(1, dtype=torch.float64), [], []
    for level in explore(space):
        done = space.is_terminating(level.state)
        adjacency.append(level.state.adjacency[done])
        finished.append(mass[done])
        if not len(level.source):
            break
        choices = policy.choices(level.state)
        log_prob = torch.full((len(mass), space.n_actions), -torch.inf).scatter(
            1, choices.action, choices.log_prob[0]
        )
        flow = mass[level.source] * log_prob[level.source, level.action].double().exp()
        mass = torch.zeros(int(level.target.max()) + 1, dtype=torch.float64).index_add(0, level.target, flow)
    return torch.cat(adjacency), torch.cat(finished)

"""What a model samples from, exactly: p_T of every object, by one sweep over the states of a small space, in float64.

Sampling cannot show an error of a percent in a posterior over ten thousand graphs; this can. All states are held at once, so it is
for spaces of at most `MAX_VARIABLES` variables (29,281 graphs).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from epgfn.errors import UsageError
from epgfn.policies.base import Policy
from epgfn.spaces import DagSpace
from epgfn.spaces.base import Space, take

if TYPE_CHECKING:
    from epgfn.inference import Model

MAX_VARIABLES = 5
BLOCK = 8192
"""States evaluated at once; bounds memory."""


class Level(NamedTuple):
    """The states reached after t steps, each once, and the edges out of them: row `source` of this level by `action` to
    row `target` of the next, all (M,) int64. The last level has no edges."""

    state: Any
    source: Tensor
    action: Tensor
    target: Tensor


def explore(space: Space) -> list[Level]:
    """All states of `space`, level by level."""
    levels: list[Level] = []
    state = space.initial(1)
    while True:
        source, action = space.forward_mask(state).nonzero(as_tuple=True)
        if not len(source):
            return [*levels, Level(state, source, action, source)]
        after = space.step(take(state, source), action)
        keys, target = torch.unique(space.key(after), dim=0, return_inverse=True)
        count = torch.arange(len(source))
        first = torch.full((len(keys),), len(source)).scatter_reduce(0, target, count, "amin")
        levels.append(Level(state, source, action, target))
        state = take(after, first)


@torch.no_grad()
def terminating_mass(space: DagSpace, policy: Policy) -> tuple[Tensor, Tensor]:
    """p_T(x) = sum over trajectories into x of p_F, for the first model of `policy`.

    Returns:
        (M, V, V) bool all M graphs, each once, and (M,) float64 their probabilities, which sum to one.
    """
    mass = torch.ones(1, dtype=torch.float64)
    adjacency, finished = [], []
    for level in explore(space):
        done = space.is_terminating(level.state)
        adjacency.append(level.state.adjacency[done])
        finished.append(mass[done])
        if len(level.source):
            flow = mass[level.source] * _taken(space, policy, level).double().exp()
            mass = torch.zeros(int(level.target.max()) + 1, dtype=torch.float64).index_add(
                0, level.target, flow
            )
    return torch.cat(adjacency), torch.cat(finished)


def terminating_distribution(model: Model) -> tuple[Tensor, Tensor]:
    """All graphs (M, V, V) bool, and the probability (M,) float64 with which `model` samples each.

    Raises:
        UsageError: there are more than `MAX_VARIABLES` variables, too many graphs to list.
    """
    if model.space.n_variables > MAX_VARIABLES:
        raise UsageError(
            f"the study has {model.space.n_variables} variables; all graphs can be listed for {MAX_VARIABLES} or fewer: sample instead"
        )
    return terminating_mass(model.space, model.policy)


def _taken(space: DagSpace, policy: Policy, level: Level) -> Tensor:
    """(M,) log p_F of the edges of a level."""
    n = len(level.state[0])
    dense = torch.full((n, space.n_actions), -torch.inf)
    for rows in torch.split(torch.arange(n), BLOCK):
        choices = policy.choices(take(level.state, rows))
        dense[rows] = dense[rows].scatter(1, choices.action, choices.log_prob[0])
    return dense[level.source, level.action]

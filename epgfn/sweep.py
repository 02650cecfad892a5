"""What a model samples from, exactly: p_T of every object, by one sweep over the states of a small space, in float64.

Sampling cannot show an error of a percent in a posterior over ten thousand objects; this can.

    levels = explore(space)                                  all states, once for any number of sweeps
    state, mass = terminating_mass(space, policy, levels)    every object and its p_T
    l1(mass, exact_distribution(log_reward(state)))          see `epgfn.distances`

All states are held at once. A space too large for that is refused before memory runs out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from epgfn.errors import EpgfnError, UsageError
from epgfn.policies.base import Policy
from epgfn.spaces.base import Space, take

if TYPE_CHECKING:
    from epgfn.inference import Model

MAX_VARIABLES = 5
MAX_BYTES = 2 << 30
"""Most memory that one level may take."""
SUM_TOLERANCE = 1e-3
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
    """All states of `space`, level by level.

    Raises:
        UsageError: a level would take more than `MAX_BYTES`.
    """
    return list(levels_of(space))


def levels_of(space: Space) -> Iterator[Level]:
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


class Terminating(NamedTuple):
    """`state` the M finished states, each object once, and `mass` (M,) float64 their p_T, which sum to one."""

    state: Any
    mass: Tensor


@torch.no_grad()
def terminating_mass(space: Space, policy: Policy, levels: list[Level] | None = None) -> Terminating:
    """p_T(x) = sum over trajectories into x of p_F, for the first model of `policy`.

    `levels` are those of `explore(space)`, worked out here if not given; objects come in their order.

    Raises:
        UsageError: there are too many states. EpgfnError: the masses do not sum to one, so the policy is none.
    """
    mass = torch.ones(1, dtype=torch.float64)
    objects, finished = [], []
    for level in levels if levels is not None else explore(space):
        done = space.is_terminating(level.state)
        objects.append(take(level.state, done))
        finished.append(mass[done])
        if len(level.source):
            flow = mass[level.source] * _taken(space, policy, level).double().exp()
            mass = torch.zeros(int(level.target.max()) + 1, dtype=torch.float64).index_add(
                0, level.target, flow
            )
    total = torch.cat(finished)
    if not abs(float(total.sum()) - 1) < SUM_TOLERANCE:
        raise EpgfnError("the policy's probabilities do not sum to one over all objects; train it again")
    return Terminating(_joined(objects), total)


def terminating_states(space: Space, levels: list[Level]) -> Any:
    """All finished states, in the order of `terminating_mass`."""
    return _joined([take(level.state, space.is_terminating(level.state)) for level in levels])


def _joined(states: list[Any]) -> Any:
    """The rows of several batches of states as one."""
    return type(states[0])(*(torch.cat(fields) for fields in zip(*states, strict=True)))


def terminating_distribution(model: Model) -> tuple[Tensor, Tensor]:
    """All graphs (M, V, V) bool, and the probability (M,) float64 with which `model` samples each.

    Raises:
        UsageError: there are more than `MAX_VARIABLES` variables, too many graphs to list.
    """
    if model.space.n_variables > MAX_VARIABLES:
        raise UsageError(
            f"the study has {model.space.n_variables} variables; all graphs can be listed for {MAX_VARIABLES} or fewer: sample instead"
        )
    found = terminating_mass(model.space, model.policy)
    return found.state.adjacency, found.mass


def _taken(space: Space, policy: Policy, level: Level) -> Tensor:
    """(M,) log p_F of the edges of a level."""
    n = len(level.state[0])
    dense = torch.full((n, space.n_actions), -torch.inf)
    for rows in torch.split(torch.arange(n), BLOCK):
        choices = policy.choices(take(level.state, rows))
        dense[rows] = dense[rows].scatter(1, choices.action, choices.log_prob[0])
    return dense[level.source, level.action]

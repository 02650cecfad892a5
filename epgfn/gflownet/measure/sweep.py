"""What a model samples from, exactly: p_T of every object, by one sweep over the states of a small space, in float64.

Sampling cannot show an error of a percent in a posterior over ten thousand objects; this can.

    levels = explore(space)                                  all states, once for any number of sweeps
    state, mass = terminating_mass(space, policy, levels)    every object and its p_T
    l1(mass, exact_distribution(log_reward(state)))          see `epgfn.gflownet.measure.distances`

All states are held at once. A space too large for that is refused before memory runs out.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.spaces.base import Space, State, joined, take
from epgfn.gflownet.spaces.enumeration import Level, explore

SUM_TOLERANCE = 1e-3
BLOCK = 8192
"""States evaluated at once; bounds memory."""


class Terminating(NamedTuple, Generic[State]):
    """`state` the M finished states, each object once, and `mass` (M,) float64 their p_T, which sum to one."""

    state: State
    mass: Tensor


@torch.no_grad()
def terminating_mass(
    space: Space[State], policy: Policy[State], levels: list[Level[State]] | None = None
) -> Terminating[State]:
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
    return Terminating(joined(objects), total)


def _taken(space: Space[State], policy: Policy[State], level: Level[State]) -> Tensor:
    """(M,) log p_F of the edges of a level."""
    n = len(level.state[0])
    dense = torch.full((n, space.n_actions), -torch.inf)
    for rows in torch.split(torch.arange(n), BLOCK):
        choices = policy.choices(take(level.state, rows))
        dense[rows] = dense[rows].scatter(1, choices.action, choices.log_prob[0])
    return dense[level.source, level.action]

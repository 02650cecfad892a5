"""What a model lacks, by objects that it did not draw itself: own samples cannot show a mode that is never visited.

Of an object x that the model gets right, log R(x) - log p_T(x) is log Z, whoever drew it. Two bounds of what is lacking are made of that:

    by objects   sum over different x of R(x) - Z p_T(x), where that is lacking: for targets that a few objects make up
    by chains    P(x in A) under draws of the target less P(x in A) under the model, A the objects that lack `MODE`-fold: no more than the
                 total variation between the two whatever A is, and so whatever noise is in estimates of p_T; for modes of many objects
"""

from __future__ import annotations

import math
from typing import Final, Generic, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.measure.estimates import Own, log_terminating
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.spaces.base import LogReward, Space, State, joined, take

TRAJECTORIES: Final = 4
FACTOR: Final = 2.0
"""An object lacks where the target is more than so many times what the model gives it: less is within what estimates are off."""
MODE: Final = 10.0
"""What the model gives less than one in so many of, its own samples may pass over; less than that shows in their weights."""
COMPARED: Final = 512
"""Own samples that chains are compared with."""
LEAST: Final = 0.01
"""Less than this share of chains in what lacks is noise, and no reason to train on it."""


class Missing(NamedTuple, Generic[State]):
    """`share` of the target, from 0 to 1, that the model is known to lack at least. `lacking`: objects that it lacks, each once, or
    None where there is nothing to speak of."""

    share: float
    lacking: State | None


@torch.no_grad()
def missing_from(
    policy: Policy[State],
    space: Space[State],
    log_reward: LogReward[State],
    own: Own[State],
    chains: State,
    others: State,
    generator: torch.Generator,
) -> Missing[State]:
    """Of the first model of `policy`, whose samples are `own`.

    Args:
        chains: finished states drawn from the target, as good as may be. others: any from elsewhere.
    """
    shown = take(own.final, torch.arange(min(COMPARED, len(own.log_reward))))
    state, which = different(space, joined([chains, others, shown]))
    gap = log_reward(state).double() - own.log_z
    log_p = log_terminating(policy, space, state, TRAJECTORIES, generator).value
    n_chains, n_own = len(chains[0]), len(shown[0])
    far = gap - log_p > math.log(MODE)
    by_chains = float(far[which[:n_chains]].double().mean() - far[which[-n_own:]].double().mean())
    foreign = torch.zeros(len(gap), dtype=torch.bool)
    foreign[which[:-n_own]] = True
    by_objects = lacking(gap[foreign], log_p[foreign])
    of_chains = torch.zeros_like(foreign)
    of_chains[which[:n_chains]] = True
    heavy = (gap > log_p + math.log(FACTOR)) & (gap > math.log(LEAST))
    worth = (far & of_chains) | (heavy & foreign) if max(by_chains, by_objects) >= LEAST else foreign & False
    found = take(state, worth) if bool(worth.any()) else None
    return Missing(max(0.0, by_chains, by_objects), found)


def lacking(log_target: Tensor, log_p: Tensor) -> float:
    """By objects: M / (1 + M) of (U,) log R - log Z and log p_T, nats, M the sum of what lacks. The whole target weighs at least Z (1 + M)
    where Z is by own samples that had seen none of these objects."""
    where = log_target > log_p + math.log(FACTOR)
    if not bool(where.any()):
        return 0.0
    gap = log_target[where] + torch.log1p(-(log_p - log_target)[where].exp())
    return float(torch.sigmoid(gap.logsumexp(0)))


def different(space: Space[State], state: State) -> tuple[State, Tensor]:
    """Each object of `state` once, and (B,) int64 which of them each row is."""
    _, kind = torch.unique(space.key(state), dim=0, return_inverse=True)
    first = torch.full((int(kind.max()) + 1,), len(kind), dtype=torch.int64)
    first.scatter_reduce_(0, kind, torch.arange(len(kind)), "amin")
    return take(state, first), kind

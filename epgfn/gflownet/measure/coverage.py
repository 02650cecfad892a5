"""What a model lacks, by objects that it did not draw itself: own samples cannot show a mode that is never visited."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from epgfn.gflownet.measure.estimates import log_terminating
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.spaces.base import LogReward, Space, State, take

TRAJECTORIES: Final = 8
FACTOR: Final = 2.0
"""An object lacks where the target is more than so many times what the model gives it: less is within what estimates are off."""


@torch.no_grad()
def missing_share(
    policy: Policy[State],
    space: Space[State],
    log_reward: LogReward[State],
    log_z: float,
    elsewhere: State,
    generator: torch.Generator,
) -> float:
    """A lower bound, from the objects `elsewhere`, of the share of the target that the first model of `policy` lacks.

    With Z = exp(`log_z`) from the model's own samples, M = sum over different objects x of R(x) - Z p_T(x), where that is lacking. The
    whole target then weighs at least Z + M if own samples had seen none of these objects; M / (Z + M) is returned, from 0 to 1.
    """
    final = different(space, elsewhere)
    log_p = log_terminating(policy, space, final, TRAJECTORIES, generator).value
    return lacking(log_reward(final).double() - log_z, log_p)


def lacking(log_target: Tensor, log_p: Tensor) -> float:
    """M / (1 + M) of (U,) log R - log Z and log p_T, nats."""
    where = log_target > log_p + math.log(FACTOR)
    if not bool(where.any()):
        return 0.0
    gap = log_target[where] + torch.log1p(-(log_p - log_target)[where].exp())
    return float(torch.sigmoid(gap.logsumexp(0)))


def different(space: Space[State], state: State) -> State:
    """Each object of `state` once."""
    keys = space.key(state)
    _, kind = torch.unique(keys, dim=0, return_inverse=True)
    first = torch.full((int(kind.max()) + 1,), len(kind), dtype=torch.int64)
    first.scatter_reduce_(0, kind, torch.arange(len(kind)), "amin")
    return take(state, first)

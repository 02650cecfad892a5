"""What a space's rules bar, to a policy that cannot know of every step whether it leads to a graph that keeps them.

Which sinks the variables still to come may cover depends on all of them together where each may have some parents only. So sets that are
barred are only very unlikely here, what has been begun can be finished always, and graphs that do not keep the rules are thrown away.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from epgfn.gflownet.spaces.dag_by_sinks import DagBySinks

BARRED: Final = 1000.0
"""Nats that a set of parents is worse for being barred: it is drawn only where there is nothing else."""
EXPLORED: Final = -500.0
"""Nats from which on a choice is explored: what leads to a barred set is less."""


def unlikely(space: DagBySinks, scores: Tensor) -> Tensor:
    """(V, K) float64 `scores`, -inf where a variable would be its own parent, and `BARRED` nats below its worst where the space's rules bar
    a set."""
    scores = scores.double()
    if space.rules is not None:
        worst = scores.masked_fill(~space.admissible, torch.inf).amin(1, keepdim=True)
        scores = torch.where(space.admissible, scores, worst - BARRED)
    return scores.masked_fill(space.parents.T, -torch.inf)


def least_explored(space: DagBySinks) -> float:
    """Nats from which on a choice is explored."""
    return -torch.inf if space.rules is None else EXPLORED


def in_order(space: DagBySinks, rank: Tensor) -> Tensor:
    """(V,) int64 places, as near to `rank` (V,) as may be with each variable after its required parents: of those that can come, the one
    that `rank` has first comes next."""
    if space.rules is None:
        return rank
    parents = [set(column.nonzero()[:, 0].tolist()) for column in space.rules.required.T]
    left, found = rank.argsort().tolist(), list[int]()
    while left:
        following = next(j for j in left if parents[j].issubset(found))
        found.append(following)
        left.remove(following)
    return torch.tensor(found, device=rank.device).argsort()

"""The exact probabilities that a target implies, where sums over all objects are in reach: graphs of a score table up to 14 variables,
and any objects that can be listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.device import CPU, computing_on
from epgfn.gflownet.measure.distances import exact_distribution
from epgfn.gflownet.measure.exact import MAX_VARIABLES as MAX_SUMMED
from epgfn.gflownet.measure.exact import edge_marginals, sample_dags
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.spaces.base import LogReward, take
from epgfn.gflownet.spaces.enumeration import Level, explore, terminating_states
from epgfn.gflownet.spaces.parent_sets import parent_masks
from epgfn.study import Study
from epgfn.study.objects import questions, space_of

MAX_VARIABLES = MAX_SUMMED
"""Of graphs with a score table."""
MAX_DRAWN = 12
"""Variables of graphs up to which they are also drawn exactly, which sums a second time."""
MAX_LISTED = 60_000
"""Objects that are listed to judge a model; a sweep over them takes a second or two."""
MAX_LISTED_VARIABLES = 5
"""The same of graphs that have no score table."""
BLOCK: Final = 4096


class Listed(NamedTuple):
    """All M objects: `levels` of the space, finished states `state`."""

    study: Study
    levels: list[Level[Any]]
    state: Any

    def probabilities(self, mass: Tensor) -> dict[str, float]:
        """Of each question, from (M,) float64 probabilities of the objects."""
        found: dict[str, float] = {}
        for rows in torch.split(torch.arange(len(mass)), BLOCK):
            names, answers = questions(self.study, take(self.state, rows))
            for name, share in zip(names, (mass[rows] @ answers.double()).tolist(), strict=True):
                found[name] = found.get(name, 0.0) + share
        return found

    def mass(self, policy: Policy[Any]) -> Tensor:
        """(M,) float64 p_T of the first model of `policy`."""
        from epgfn.gflownet.measure.sweep import terminating_mass

        return terminating_mass(space_of(self.study), policy, self.levels).mass


class Exact(NamedTuple):
    """What a target implies: the `probabilities` of the questions, and of `listed` objects `mass`, (M,) float64 that sum to one. Of graphs
    `drawn(n, seed)` gives n independent ones, (n, V, V) bool, unless they are listed or too large for that."""

    probabilities: Mapping[str, float]
    listed: Listed | None = None
    mass: Tensor | None = None
    drawn: Callable[[int, int], Tensor] | None = None


def listed(study: Study) -> Listed | None:
    """All objects of `study`, or None where they are too many."""
    few = study.number_of_objects <= MAX_LISTED
    if study.kind.listed_up_to is not None:
        few = len(study.variables) <= min(study.kind.listed_up_to, MAX_LISTED_VARIABLES)
    if not few:
        return None
    space = space_of(study)
    try:
        levels = explore(space)
    except UsageError:  # few objects, and far more ways to them
        return None
    return Listed(study, levels, terminating_states(space, levels))


def exact_of_objects(study: Study, log_reward: LogReward[Any]) -> Exact | None:
    """Under a log-reward (nats), where all objects can be listed."""
    found = listed(study)
    if found is None:
        return None
    return exact_of_list(found, log_reward(found.state))


def exact_of_list(found: Listed, log_reward: Tensor) -> Exact:
    """Under (M,) log-rewards (nats) of listed objects."""
    mass = exact_distribution(log_reward)
    return Exact(found.probabilities(mass), found, mass)


def exact_of_table(study: Study, table: Tensor) -> Exact | None:
    """Under (V, K) log-scores (nats) of graphs, up to 14 variables."""
    space = space_of(study)
    if space.n_variables > MAX_VARIABLES:
        return None
    known, masks = _possible(study, table)
    with computing_on(CPU):
        edges = edge_marginals(known, masks)
    names = questions(study, space.initial(1)).names
    probabilities = dict(zip(names, edges[~np.eye(len(edges), dtype=bool)].tolist(), strict=True))
    few = space.n_variables <= MAX_DRAWN
    return Exact(probabilities, drawn=partial(graphs_of_table, study, table) if few else None)


def graphs_of_table(study: Study, table: Tensor, n: int, seed: int) -> Tensor:
    """`n` independent graphs under (V, K) log-scores (nats), (n, V, V) bool in main memory; up to 14 variables."""
    known, masks = _possible(study, table)
    with computing_on(CPU):
        return sample_dags(known, masks, n, seed)


def _possible(study: Study, table: Tensor) -> tuple[Tensor, Tensor]:
    """Scores in float64, -inf for parents that a variable cannot have, and the sets' masks."""
    space = space_of(study)
    with computing_on(CPU):
        known = table.double().cpu().masked_fill(~space.admissible.cpu(), -torch.inf)
        return known, parent_masks(space.n_variables, space.max_parents)

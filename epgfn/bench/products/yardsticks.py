"""How far an answer is from the exact product: over all objects where they can be listed, over edges where they cannot.

An answer is one tensor: p of every object, or the probability of every edge. A policy's own answer is exact where objects
can be listed (`epgfn.gflownet.measure.sweep`), and counted from many samples where they cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from epgfn.base.memo import mixed
from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.gflownet.measure.exact import edge_errors, edge_marginals
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.sampling.rollout import sample
from epgfn.gflownet.spaces import DagBySinks, Space
from epgfn.gflownet.spaces.base import LogReward
from epgfn.gflownet.spaces.enumeration import Level, explore, terminating_states
from epgfn.gflownet.spaces.parent_sets import parent_masks

GRAPHS = 200_000
"""Drawn to count edges: a standard error of at most .0011."""
BLOCK = 4000


class Yardstick(Protocol):
    """Answers and their errors."""

    def of_policy(self, policy: Policy[Any]) -> Tensor:
        """The answer of the first model of `policy`."""
        ...

    def of_objects(self, state: Any) -> Tensor:
        """The answer of drawn objects, each counted alike: finished states in any number."""
        ...

    def errors(self, answer: Tensor) -> Mapping[str, float]:
        """Figures by name, each 0 for the truth."""
        ...


class ListedProduct:
    """All objects: the answer is their probability, (M,) float64 in the order of `terminating_states`; the error is `l1`."""

    def __init__(self, space: Space[Any], log_rewards: Sequence[LogReward[Any]]) -> None:
        self.space = space
        self._log_rewards = log_rewards

    @cached_property
    def levels(self) -> list[Level[Any]]:
        """All states; explored once."""
        return explore(self.space)

    @cached_property
    def states(self) -> Any:
        """The M objects."""
        return terminating_states(self.space, self.levels)

    @cached_property
    def truth(self) -> Tensor:
        """(M,) float64: the normalised product of all nodes' rewards."""
        return exact_distribution(torch.stack([f(self.states).double() for f in self._log_rewards]).sum(0))

    def node_truth(self, node: int) -> Tensor:
        """(M,) float64: one node's own posterior."""
        return exact_distribution(self._log_rewards[node](self.states))

    def of_policy(self, policy: Policy[Any]) -> Tensor:
        return terminating_mass(self.space, policy, self.levels).mass

    def of_objects(self, state: Any) -> Tensor:
        keys, order = mixed(self.space.key(self.states)).sort()
        place = order[torch.searchsorted(keys, mixed(self.space.key(state)))]
        return torch.bincount(place, minlength=len(keys)).double() / len(place)

    def errors(self, answer: Tensor) -> dict[str, float]:
        return {"l1": l1(answer, self.truth)}


class Edges:
    """Edge marginals: the answer is P(i -> j), (V, V) float64; errors are absolute, over all pairs i != j."""

    def __init__(self, space: DagBySinks, scores: Tensor) -> None:
        """`scores` (V, K) float64: the sum of the nodes' tables."""
        self.space = space
        self._scores = scores

    @cached_property
    def truth(self) -> Tensor:
        masks = parent_masks(self.space.n_variables, self.space.max_parents)
        return torch.as_tensor(edge_marginals(self._scores, masks))

    @torch.no_grad()
    def of_policy(self, policy: Policy[Any]) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        total = torch.zeros(self.truth.shape, dtype=torch.float64)
        for _ in range(GRAPHS // BLOCK):
            final = sample(policy, self.space, BLOCK, generator=generator).trajectories.final
            total += final.adjacency.double().sum(0)
        return total / GRAPHS

    def of_objects(self, state: Any) -> Tensor:
        mean: Tensor = state.adjacency.double().mean(0)
        return mean

    def errors(self, answer: Tensor) -> dict[str, float]:
        mean, largest = edge_errors(np.asarray(answer), np.asarray(self.truth))
        return {"edge_error_mean": mean, "edge_error_max": largest}

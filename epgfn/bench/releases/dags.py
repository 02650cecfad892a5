"""Graphs from released statistics: BGe from noisy moments, BDeu from noisy counts; nodes' tables add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.bench.releases import worlds
from epgfn.bench.releases.measure import Ask, Errors, Measure
from epgfn.gflownet.measure.exact import MAX_ENUMERATED, MAX_VARIABLES, edge_errors, edge_marginals
from epgfn.gflownet.measure.listed_dags import ListedDags
from epgfn.gflownet.measure.structure_chains import Chains, annealed
from epgfn.gflownet.spaces.parent_sets import parent_masks, parent_sets
from epgfn.privacy.mechanisms.counts import CountsMechanism
from epgfn.privacy.mechanisms.moments import MomentsMechanism, MomentsRelease
from epgfn.privacy.of_study.networks import DiscreteNetwork, GaussianNetwork
from epgfn.study.kinds.dag import GaussianSettings
from epgfn.targets import bge
from epgfn.targets.bdeu import bdeu
from epgfn.targets.gaussian import Moments

CATEGORIES = (2, 3, 2, 3, 2)
FAN_IN = 3
"""Beyond five variables; up to five every DAG is possible."""
DISCRETE_FAN_IN = 2
"""The same for networks of categories, which are drawn with as many parents."""
Floats = worlds.Floats
Train = Callable[[list[MomentsRelease], Tensor, int], float]
"""Releases, the exact table of all records and a seed -> L1 of a model trained on the releases."""


def moments(
    ask: Ask,
    *,
    variables: int = 5,
    tails: worlds.Tails = "gaussian",
    mean: float = 0.0,
    known: bool = False,
    parameters: Literal["own", "shared"] | None = None,
    train: Train | None = None,
) -> Measure:
    """BGe from the two-stage release, the mean integrated out. `mean` shifts every variable by as much; with `known` it is taken for
    known and zero, and no sums are released. With `parameters` the product of the nodes' releases, or the posterior of their sum, is held
    against the posterior of the pooled records without noise."""
    sets = sets_of(variables)
    mechanism = MomentsMechanism(variables, ask.epsilon, ask.delta, with_sums=not known)
    settings = GaussianSettings(mean="known" if known else "unknown")
    comparison = Comparison(variables)

    def table(moments: Moments) -> Tensor:
        return _without_self(bge.score(moments, sets, settings), sets)

    def measure(seed: int) -> Errors:
        rng = np.random.default_rng(seed)
        mix = GaussianNetwork(variables, rng).mixing
        parts = [worlds.noise((ask.records, variables), tails, rng) @ mix + mean for _ in range(ask.nodes)]
        releases = [mechanism.release(part) for part in parts]
        if parameters is None:
            exact = torch.stack([table(Moments.of_records(torch.from_numpy(part))) for part in parts]).sum(0)
        else:
            exact = table(Moments.of_records(torch.from_numpy(np.concatenate(parts))))
        if parameters == "shared":
            private = table(Moments.pooled([release.moments for release in releases]))
        else:
            private = torch.stack([table(release.moments) for release in releases]).sum(0)
        errors = comparison.errors(exact, private)
        return errors if train is None else errors._replace(trained=train(releases, exact, seed))

    return measure


def counts(ask: Ask, *, categories: tuple[int, ...] = CATEGORIES) -> Measure:
    """BDeu, equivalent sample size 1, from noisy tables: of five variables of 2 or 3 categories the joint one of 72 cells."""
    v = len(categories)
    sets, sizes = sets_of(v, DISCRETE_FAN_IN), torch.tensor(categories)
    mechanism = CountsMechanism(categories, int(sets.sum(1).max()) + 1, ask.epsilon, ask.delta)
    comparison = Comparison(v, DISCRETE_FAN_IN)

    def measure(seed: int) -> Errors:
        rng = np.random.default_rng(seed)
        network = DiscreteNetwork(categories, rng)
        parts = [network.draw(ask.records, rng) for _ in range(ask.nodes)]
        exact = torch.stack([bdeu(torch.from_numpy(part), sizes, sets, sample_size=1.0) for part in parts])
        private = torch.stack([mechanism.release(part).bdeu(sets, 1.0) for part in parts])
        return comparison.errors(_without_self(exact.sum(0), sets), _without_self(private.sum(0), sets))

    return measure


def sets_of(variables: int, fan_in: int = FAN_IN) -> Tensor:
    """(K, V) bool: the parent sets that are possible."""
    return parent_sets(variables, _largest(variables, fan_in))


def _largest(variables: int, fan_in: int) -> int:
    return variables - 1 if variables <= MAX_ENUMERATED else fan_in


class _Posterior(NamedTuple):
    graphs: Tensor | None  # (D,), where they are listed
    edges: Floats  # (V, V)
    error: float | None  # of `edges`, where they are not exact


class Comparison:
    """Two tables' posteriors compared: over all graphs up to 5 variables, by exact edge probabilities up to 14, by Markov chains above."""

    def __init__(self, variables: int, fan_in: int = FAN_IN) -> None:
        self._masks = parent_masks(variables, _largest(variables, fan_in))
        self._listed = ListedDags(self._masks, variables) if variables <= MAX_ENUMERATED else None

    def errors(self, exact: Tensor, private: Tensor) -> Errors:
        """Of the posterior of the second (V, K) table against that of the first."""
        p, q = self._posterior(exact), self._posterior(private)
        l1 = None if p.graphs is None or q.graphs is None else float((p.graphs - q.graphs).abs().sum())
        mean, largest = edge_errors(q.edges, p.edges)
        null, _ = edge_errors(np.zeros_like(p.edges), p.edges)
        return Errors(l1, mean, largest, null, approximate=p.error)

    def _posterior(self, table: Tensor) -> _Posterior:
        v = len(table)
        if self._listed is not None:
            p = self._listed.probabilities(table)
            return _Posterior(p, self._listed.edges(p).numpy(), None)
        if v <= MAX_VARIABLES:
            return _Posterior(None, edge_marginals(table, self._masks), None)
        found = annealed(Chains(table, FAN_IN))
        return _Posterior(None, found.edges.numpy(), found.apart_mean / 2)


def _without_self(table: Tensor, sets: Tensor) -> Tensor:
    return table.masked_fill(sets.T, -torch.inf)

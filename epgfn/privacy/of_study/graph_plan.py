"""What an epsilon buys, before anything runs: releases of made-up records, scored beside the same records without noise.

Nobody's records enter. A world is a random linear-Gaussian network of the study's size; its records go through the node's own release
and the study's own score, and both posteriors are exact. On average over worlds:

    error      |p - q| of edge probabilities, p from the release and q from the records: mean and largest over ordered pairs
    l1         sum over graphs of |p - q|, where graphs are few enough to list (5 variables)
    to_prior   mean |p - prior|,   prior_error = mean |q - prior|
    lost       share of worlds in which error >= min(to_prior, prior_error): the release is no closer to what the records say than
               to what was believed without any, or is further off than that belief itself

Rule: there are *too few records* for this epsilon where more than one world of ten is lost, or L1 is above 1 on average: most of the
probability is on other objects, whatever the single probabilities say.

    for row in plan(Question(study, records=(1000,), epsilons=(1.0, 4.0))): ...
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.measure.exact import (
    MAX_ENUMERATED,
    MAX_VARIABLES,
    edge_errors,
    edge_marginals,
    enumerate_dags,
)
from epgfn.gflownet.spaces.parent_sets import popcount
from epgfn.learn.scores import moments_of, prior_table, study_masks, table_from_moments
from epgfn.privacy.mechanisms.discrete import Floats
from epgfn.privacy.mechanisms.moments import MomentsMechanism
from epgfn.study import Study
from epgfn.targets.gaussian import Moments

DEFAULT_DELTA = 1e-5
LEAST_WORLDS, MOST_WORLDS = 3, 40
CPU_SECONDS = 15.0
"""After so much no further world is begun, unless a number of worlds is asked for."""
MOST_RECORDS = 1_000_000
MOST_LOST, MOST_MOVED = 0.1, 1.0
"""Share of worlds, and mean L1, beyond which records are too few."""
Scope = Literal["local", "product"]


class PlanRow(NamedTuple):
    """One (records, epsilon, scope), as the module says; `error_se` and `l1_se` standard errors of the means. `l1` is None beyond 5
    variables. `enough`: by the module's rule."""

    records: int
    epsilon: float
    scope: Scope
    nodes: int
    worlds: int
    error: float
    error_se: float
    largest: float
    l1: float | None
    l1_se: float | None
    to_prior: float
    prior_error: float
    lost: float
    enough: bool


@dataclass(frozen=True)
class Asked:
    """What to plan for: `records` of each node, `epsilons` of each release, `nodes` in the product (None: the study's roster),
    `worlds` (None: as many as `CPU_SECONDS` allow).

    Raises:
        UsageError: a number is out of range.
    """

    study: Study
    records: tuple[int, ...]
    epsilons: tuple[float, ...]
    nodes: int | None = None
    worlds: int | None = None

    def __post_init__(self) -> None:
        if not self.records or min(self.records) < 2 or max(self.records) > MOST_RECORDS:
            raise UsageError(f"records must be from 2 to {MOST_RECORDS}; give what a node has, roughly")
        if self.parties < 1 or (self.worlds is not None and self.worlds < 2):
            raise UsageError("planning needs at least one node and two worlds")
        if max(self.records) * self.delta >= 1:
            raise UsageError(
                f"delta {self.delta:g} is not below one over {max(self.records)} records; choose a smaller privacy.delta"
            )

    @property
    def parties(self) -> int:
        return len(self.study.roster) if self.nodes is None else self.nodes

    @property
    def delta(self) -> float:
        return self.study.privacy.delta or DEFAULT_DELTA


@dataclass(frozen=True)
class Question(Asked):
    """About linear-Gaussian graphs; from 3 to 40 worlds unless a number is asked for.

    Raises:
        UsageError: the study's score has no mechanism, there are too many variables, or a number is out of range.
    """

    def __post_init__(self) -> None:
        kind, v = self.study.target_kind, len(self.study.variables)
        if "statistic" not in kind.mechanisms:
            raise UsageError(f"target '{kind.name}' has no private release yet, so there is nothing to plan")
        if v > MAX_VARIABLES:
            raise UsageError(
                f"planning compares exact edge probabilities, which are in reach up to {MAX_VARIABLES} variables, and the study has "
                f"{v}; plan with a study of {MAX_VARIABLES} of them: more variables need more records than that"
            )
        super().__post_init__()


def plan(question: Question, progress: Callable[[int, int], None] | None = None) -> list[PlanRow]:
    """All rows, by records, epsilon and scope; no row for the product of one node. Noise is fresh each time, so figures move a little.

    Args:
        progress: called with the worlds done and the most there will be.
    """
    started, found = time.process_time(), []
    most = question.worlds or MOST_WORLDS
    posteriors = _Posteriors(question)
    for number in range(most):
        found.append(list(_one_world(question, posteriors, np.random.default_rng(number))))
        if progress is not None:
            progress(number + 1, most)
        spent = time.process_time() - started
        if question.worlds is None and number + 1 >= LEAST_WORLDS and spent > CPU_SECONDS:
            break
    return [summary(question.parties, same) for same in zip(*found, strict=True)]


class Observation(NamedTuple):
    """One row in one world; `l1` is not a number where objects are not listed."""

    records: int
    epsilon: float
    scope: Scope
    error: float
    largest: float
    l1: float
    to_prior: float
    prior_error: float


def _one_world(
    question: Question, posteriors: _Posteriors, rng: np.random.Generator
) -> Iterator[Observation]:
    v = len(question.study.variables)
    mixing = random_network(v, rng)
    scopes: list[Scope] = ["local"] if question.parties == 1 else ["local", "product"]
    for n in question.records:
        sites = [rng.normal(size=(n, v)) @ mixing for _ in range(question.parties)]
        exact = [posteriors.table(moments_of(posteriors.study, torch.from_numpy(x))) for x in sites]
        truth = {scope: posteriors.posterior(_of(scope, exact)) for scope in scopes}
        for epsilon in question.epsilons:
            mechanism = posteriors.mechanism(n, epsilon)
            releases = [mechanism.release(x) for x in sites]
            private = [posteriors.table(release.moments) for release in releases]
            for scope in scopes:
                p, q, prior = posteriors.posterior(_of(scope, private)), truth[scope], posteriors.prior(scope)
                error, largest = edge_errors(p.edges, q.edges)
                l1 = float(np.abs(p.graphs - q.graphs).sum()) if len(q.graphs) else math.nan
                to_prior = edge_errors(p.edges, prior.edges)[0]
                prior_error = edge_errors(q.edges, prior.edges)[0]
                yield Observation(n, epsilon, scope, error, largest, l1, to_prior, prior_error)


def _of(scope: Scope, tables: Sequence[Tensor]) -> Tensor:
    return tables[0] if scope == "local" else torch.stack(list(tables)).sum(0)


class _Posterior(NamedTuple):
    """`graphs` (D,) probabilities, empty where they are not listed; `edges` (V, V)."""

    graphs: Floats
    edges: Floats


class _Posteriors:
    """The study's score and exact posteriors; what does not depend on records is worked out once."""

    def __init__(self, question: Question) -> None:
        self.question, self.study = question, question.study
        self.masks = study_masks(self.study)
        v = len(self.study.variables)
        self._adjacency: Tensor | None = None
        if v <= MAX_ENUMERATED:
            adjacency = enumerate_dags(v, int(popcount(self.masks).max()))
            bits = 1 << torch.arange(v)
            parents = (adjacency.long() * bits[:, None]).sum(1)  # (D, V)
            slot = torch.zeros(1 << v, dtype=torch.int64)
            slot[self.masks] = torch.arange(len(self.masks))
            self._adjacency, self._slots = adjacency.flatten(1).double(), slot[parents]
        self._mechanisms: dict[tuple[int, float], MomentsMechanism] = {}
        share = prior_table(self.study) / question.parties
        self._priors = {"local": self.posterior(share), "product": self.posterior(share * question.parties)}

    def mechanism(self, n: int, epsilon: float) -> MomentsMechanism:
        asked = self.study.privacy
        public = n if asked.adjacency == "replace-one" else None
        if (n, epsilon) not in self._mechanisms:
            made = MomentsMechanism(
                len(self.study.variables),
                epsilon,
                self.question.delta,
                adjacency=asked.adjacency,
                radius=asked.radius,
                with_sums=self.study.needs_sums,
                n_public=public,
            )
            self._mechanisms[n, epsilon] = made
        return self._mechanisms[n, epsilon]

    def table(self, moments: Moments) -> Tensor:
        return table_from_moments(self.study, moments, self.question.parties)

    def prior(self, scope: Scope) -> _Posterior:
        return self._priors[scope]

    def posterior(self, table: Tensor) -> _Posterior:
        v = len(table)
        own = (self.masks >> torch.arange(v)[:, None]) & 1 == 1
        table = table.masked_fill(own, -torch.inf)
        if self._adjacency is None:
            return _Posterior(np.zeros(0), edge_marginals(table, self.masks))
        p = torch.softmax(table[torch.arange(v), self._slots].sum(1), 0)
        return _Posterior(p.numpy(), (p @ self._adjacency).view(v, v).numpy())


def summary(nodes: int, same: Sequence[Observation]) -> PlanRow:
    """The row of one question from what was seen in every world."""
    columns = np.array([seen[3:] for seen in same])
    error, largest, l1, to_prior, prior_error = (float(x) for x in columns.mean(0))
    error_se, _, l1_se, _, _ = (float(x) for x in columns.std(0, ddof=1) / math.sqrt(len(same)))
    lost = float(np.mean([seen.error >= min(seen.to_prior, seen.prior_error) for seen in same]))
    listed = not math.isnan(l1)
    return PlanRow(
        same[0].records,
        same[0].epsilon,
        same[0].scope,
        nodes if same[0].scope == "product" else 1,
        len(same),
        error,
        error_se,
        largest,
        l1 if listed else None,
        l1_se if listed else None,
        to_prior,
        prior_error,
        lost,
        lost <= MOST_LOST and not (listed and l1 > MOST_MOVED),
    )


def random_network(n_variables: int, rng: np.random.Generator) -> Floats:
    """M (V, V) with x = e M, e ~ N(0, I): records of a random linear network, each variable of unit variance.

    In a random order each pair has an edge with probability min(1/2, 2 / (V - 1)); weights are uniform on +-(0.5, 1.2).
    """
    v = n_variables
    place = np.argsort(rng.permutation(v))
    later = place[:, None] < place[None]
    edges = later & (rng.random((v, v)) < min(0.5, 2 / (v - 1)))
    weights = edges * rng.uniform(0.5, 1.2, (v, v)) * rng.choice([-1.0, 1.0], (v, v))
    mixing = np.linalg.inv(np.eye(v) - weights)
    return np.asarray(mixing / np.sqrt(np.square(mixing).sum(0)))

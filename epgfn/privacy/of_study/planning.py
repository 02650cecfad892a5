"""What an epsilon buys in a study of any kind, before anything runs: releases of made-up records, beside the same records without noise.

    planned = plan(Question(study, records=(1000,), epsilons=(1.0, 4.0)))
    planned.rows          one for each number of records, epsilon and scope
    planned.settings      what was simulated, by name

Nobody's records enter. A world is a true object and records of each node drawn from it (`epgfn.privacy.of_study.synthetic`): from the
study's own likelihood of an object drawn uniformly, or for graphs from a random network. The records go through the node's own release
(`epgfn.privacy.of_study.releases`), with DP-SGD through its training, and through the study's own target; both posteriors are exact.
With p from the release and q from the records,

    error      |p - q| of the probability of each question the study reports (`epgfn.study.objects.questions`): mean and largest
    l1         sum over objects of |p - q|, where they are few enough to list
    to_prior   mean |p - prior|,   prior_error = mean |q - prior|
    lost       share of worlds in which error >= min(to_prior, prior_error): the release is no closer to what the records say than
               to what was believed without any, or is further off than that belief itself

Rule: there are *too few records* for this epsilon where more than one world of ten is lost, or L1 is above 1 in more than one of ten:
most of the probability is on other objects then, whatever the single probabilities say. A study is run once, in one world, so the worst
tenth decides and not the mean, with a standard error to spare; from fewer than `TAIL_WORLDS` worlds it is hardly known. Noise is fresh
each time, so figures move a little.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from epgfn.privacy.of_study.question import Question
from epgfn.privacy.of_study.releases import Maker, maker_of
from epgfn.privacy.of_study.synthetic import Posterior, worlds_of

LEAST_WORLDS, MOST_WORLDS = 3, 40
LEAST_TRAINED_WORLDS = 2
"""With DP-SGD a world is a training for every row and node."""
TAIL_WORLDS = 20
"""Worlds from which on the worst tenth of them is known well enough to be judged by."""
CPU_SECONDS = 50.0
"""After so much no further world is begun, unless a number of worlds is asked for."""
MOST_LOST, MOST_MOVED = 0.1, 1.0
"""Share of worlds that may be lost, and L1 that nine of ten must keep to: beyond either, records are too few."""
Scope = Literal["local", "product"]


class PlanRow(NamedTuple):
    """One (records, epsilon, scope), as the module says: means over worlds, and of `error` also the standard error of the mean, the median
    and the 90 % quantile; of `l1` the latter too, and `moved`, the share of worlds where it is above `MOST_MOVED`; None
    where objects are not listed. `enough`: by the module's rule."""

    records: int
    epsilon: float
    scope: Scope
    nodes: int
    worlds: int
    error: float
    error_se: float
    error_median: float
    error_90: float
    largest: float
    l1: float | None
    l1_se: float | None
    l1_90: float | None
    to_prior: float
    prior_error: float
    lost: float
    moved: float | None
    enough: bool


class Planned(NamedTuple):
    """`rows` by scope, records and epsilon; `settings`: what was simulated, by name."""

    rows: list[PlanRow]
    settings: dict[str, Any]


def plan(question: Question, progress: Callable[[int, int, float], None] | None = None) -> Planned:
    """All rows; no row for the product of one node.

    Args:
        progress: called with the worlds done, how many there will be as far as can be told, and the CPU-seconds that they still take.
    """
    started, found = time.process_time(), []
    most = question.worlds or MOST_WORLDS
    least = LEAST_TRAINED_WORLDS if question.mode == "gradient" else LEAST_WORLDS
    simulation = _Simulation(question)
    for number in range(most):
        found.append(list(simulation.world(number)))
        spent = time.process_time() - started
        each = spent / (number + 1)
        if progress is not None:
            in_time = (
                most if question.worlds else max(least, min(most, int(CPU_SECONDS / max(each, 1e-9)) + 1))
            )
            expected = max(number + 1, in_time)
            progress(number + 1, expected, each * (expected - number - 1))
        if question.worlds is None and number + 1 >= least and spent > CPU_SECONDS:
            break
    rows = [_summary(question.parties, same) for same in zip(*found, strict=True)]
    rows.sort(key=lambda row: (row.scope, row.records, row.epsilon))
    return Planned(rows, question.settings(simulation.worlds.objects))


class _Observation(NamedTuple):
    """One row in one world; `l1` is not a number where objects are not listed."""

    records: int
    epsilon: float
    scope: Scope
    error: float
    largest: float
    l1: float
    to_prior: float
    prior_error: float


class _Simulation:
    """Made-up records, their releases, and how far these move the posteriors."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.worlds = worlds_of(question.private_study(question.records[0], question.epsilons[0], 0))
        self._makers: dict[tuple[int, float], Maker] = {}
        self._priors: dict[Scope, Posterior] = {"local": self.worlds.prior(1)}
        if question.parties > 1:
            self._priors["product"] = self.worlds.prior(question.parties)

    def world(self, number: int) -> Iterator[_Observation]:
        """All rows in one world."""
        asked = self.question
        rng = np.random.default_rng([asked.seed, number])
        drawn = self.worlds.draw(max(asked.records), asked.parties, rng)
        for n in asked.records:
            sites = [records[:n] for records in drawn]
            exact = [self.worlds.exact(records) for records in sites]
            truth = {scope: self._of(scope, exact) for scope in self._priors}
            for epsilon in asked.epsilons:
                private = self._released(sites, n, epsilon, number)
                for scope in self._priors:
                    yield self._seen(n, epsilon, scope, self._of(scope, private), truth[scope])

    def _released(self, sites: Sequence[Any], n: int, epsilon: float, world: int) -> list[Any]:
        out = []
        for records, node in zip(sites, self.question.roster, strict=True):
            maker = self._maker(n, epsilon, world, node)
            out.append(self.worlds.released(maker.finish(maker.observe(self.worlds.bounded(records)))))
        return out

    def _maker(self, n: int, epsilon: float, world: int, node: str) -> Maker:
        """A mechanism of integers is made once; DP-SGD has trajectories of its own at each node and in each world."""
        if self.question.mode == "gradient":
            return maker_of(self.question.private_study(n, epsilon, world), node)
        if (n, epsilon) not in self._makers:
            self._makers[n, epsilon] = maker_of(self.question.private_study(n, epsilon, 0), node)
        return self._makers[n, epsilon]

    def _of(self, scope: Scope, parts: Sequence[Any]) -> Posterior:
        return self.worlds.posterior(list(parts[:1] if scope == "local" else parts))

    def _seen(self, n: int, epsilon: float, scope: Scope, p: Posterior, q: Posterior) -> _Observation:
        prior, errors = self._priors[scope], np.abs(p.answers - q.answers)
        l1 = math.nan
        if p.objects is not None and q.objects is not None:
            l1 = float(np.abs(p.objects - q.objects).sum())
        return _Observation(
            n,
            epsilon,
            scope,
            float(errors.mean()),
            float(errors.max()),
            l1,
            float(np.abs(p.answers - prior.answers).mean()),
            float(np.abs(q.answers - prior.answers).mean()),
        )


def _summary(nodes: int, same: Sequence[_Observation]) -> PlanRow:
    """The row of one question from what was seen in every world."""
    columns = np.array([seen[3:] for seen in same])
    error, largest, l1, to_prior, prior_error = (float(x) for x in columns.mean(0))
    error_se, _, l1_se, _, _ = (float(x) for x in columns.std(0, ddof=1) / math.sqrt(len(same)))
    median, nine_tenths = (float(x) for x in np.quantile(columns[:, 0], (0.5, 0.9)))
    l1_90 = float(np.quantile(columns[:, 2], 0.9))
    lost = float(np.mean([seen.error >= min(seen.to_prior, seen.prior_error) for seen in same]))
    listed = not math.isnan(l1)
    moved = float((columns[:, 2] > MOST_MOVED).mean()) if listed else None
    return PlanRow(
        records=same[0].records,
        epsilon=same[0].epsilon,
        scope=same[0].scope,
        nodes=nodes if same[0].scope == "product" else 1,
        worlds=len(same),
        error=error,
        error_se=error_se,
        error_median=median,
        error_90=nine_tenths,
        largest=largest,
        l1=l1 if listed else None,
        l1_se=l1_se if listed else None,
        l1_90=l1_90 if listed else None,
        to_prior=to_prior,
        prior_error=prior_error,
        lost=lost,
        moved=moved,
        enough=max(lost, moved or 0.0) <= _may_fail(len(same)),
    )


def _may_fail(worlds: int) -> float:
    """Share of so many worlds that may fail: less than `MOST_LOST` by a standard error of that, so that chance flatters seldom; not where
    worlds are too few to tell."""
    return MOST_LOST - (math.sqrt(MOST_LOST * (1 - MOST_LOST) / worlds) if worlds >= TAIL_WORLDS else 0.0)

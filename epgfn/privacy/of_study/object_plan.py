"""What an epsilon buys in a study of any kind, before anything runs: `epgfn privacy plan`.

    planned = plan(Question(study, records=(1000,), epsilons=(1.0, 4.0)))
    planned.rows          as `epgfn.privacy.of_study.graph_plan` has them, which plans for linear-Gaussian graphs
    planned.settings      what was simulated, by name

A world is a true object, drawn uniformly, and records of each node drawn from the study's own likelihood of it; for categories, a random
network. The records go through the node's own release (`epgfn.privacy.of_study.releases`), with DP-SGD through its training. Then, exactly,

    l1         sum over objects of |p - q|, p from the release and q from the records; the sum over nodes of what each says for the product
    error      |p - q| of the probability of each question the study reports (`epgfn.study.objects.questions`): mean and largest
    to_prior, prior_error, lost, enough      as in `epgfn.privacy.of_study.graph_plan`: the same rule for too few records

Nobody's records enter. Noise is fresh each time, so figures move a little.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from epgfn.base.errors import UsageError
from epgfn.gflownet.measure.exact import MAX_VARIABLES
from epgfn.privacy.of_study import graph_plan as planning
from epgfn.privacy.of_study.graph_plan import Asked, Observation, PlanRow, Scope, summary
from epgfn.privacy.of_study.releases import maker_of
from epgfn.privacy.of_study.synthetic import Posterior, SyntheticData, worlds_of
from epgfn.study import Study
from epgfn.study.privacy import MAX_ANSWERED, PrivacyMode

LEAST_WORLDS, MOST_WORLDS = 3, 40
LEAST_TRAINED_WORLDS = 2
"""With DP-SGD a world is a training for every row and node."""
CPU_SECONDS = 15.0
"""After so much no further world is begun, unless a number of worlds is asked for."""


class Planned(NamedTuple):
    """`rows` by records, epsilon and scope; `settings`: what was simulated, by name."""

    rows: list[PlanRow]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Question(Asked):
    """About a study of any other kind; from 3 to 40 worlds unless a number is asked for, with DP-SGD from 2.

    Raises:
        UsageError: no exact posterior or no mechanism is in reach, or a number is out of range.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_reach(self.study)

    @property
    def mode(self) -> PrivacyMode:
        return mode_of(self.study)

    def private_study(self, n: int, epsilon: float, world: int) -> Study:
        """The study as it would run with `n` records at each node; the number of the world is in its seed."""
        asked = self.study.privacy
        names = self.roster
        privacy: dict[str, Any] = {"mode": self.mode, "epsilon": epsilon, "delta": self.delta}
        if asked.adjacency == "replace-one":
            privacy["records"] = dict.fromkeys(names, n)
        alone = {"quorum": 1, "leave_one_out": False}
        changes = {
            "roster": names,
            "seed": self.study.seed + 1000 * world,
            "privacy": privacy,
            "aggregation": alone,
        }
        return self.study.with_changes(changes)

    @property
    def roster(self) -> list[str]:
        """The study's, or as many names as nodes are asked for."""
        own = list(self.study.roster)
        return own if self.parties == len(own) else [f"node-{i + 1}" for i in range(self.parties)]


def mode_of(study: Study) -> PrivacyMode:
    """The study's mode; for one without privacy, that which has a mechanism for its target."""
    if study.privacy.is_private:
        return study.privacy.mode
    modes: list[Any] = list(study.target_kind.mechanisms)
    if not modes:
        raise UsageError(
            f"target '{study.target.kind}' has no private release yet, so there is nothing to plan"
        )
    first: PrivacyMode = modes[0]
    return first


def _by_itself(study: Study) -> bool:
    """Whether the study's release has a plan of its own, which needs no study of one's own to simulate: linear-Gaussian graphs."""
    return study.target_kind.mechanisms[mode_of(study)] == "moments"


def plan(question: Question, progress: Callable[[int, int], None] | None = None) -> Planned:
    """All rows; no row for the product of one node.

    Args:
        progress: called with the worlds done and the most there will be.
    """
    if _by_itself(question.study):
        return _plan_graphs(question, progress)
    started, found = time.process_time(), []
    most = question.worlds or MOST_WORLDS
    least = LEAST_TRAINED_WORLDS if question.mode == "gradient" else LEAST_WORLDS
    simulation = _Simulation(question)
    for number in range(most):
        found.append(list(simulation.world(number)))
        if progress is not None:
            progress(number + 1, most)
        spent = time.process_time() - started
        if question.worlds is None and number + 1 >= least and spent > CPU_SECONDS:
            break
    rows = [summary(question.parties, same) for same in zip(*found, strict=True)]
    return Planned(_sorted(rows), _settings(question, simulation.worlds.objects))


def _plan_graphs(question: Question, progress: Callable[[int, int], None] | None) -> Planned:
    study = question.study
    asked = planning.Question(study, question.records, question.epsilons, question.nodes, question.worlds)
    return Planned(_sorted(planning.plan(asked, progress)), {"mode": "statistic", **_space(study)})


def _sorted(rows: list[PlanRow]) -> list[PlanRow]:
    return sorted(rows, key=lambda row: (row.scope, row.records, row.epsilon))


class _Simulation:
    """SyntheticData, their releases, and how far these move the posteriors."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.scopes: list[Scope] = ["local"] if question.parties == 1 else ["local", "product"]
        self._makers: dict[tuple[int, float], Any] = {}

    @cached_property
    def worlds(self) -> SyntheticData:
        first = self.question.private_study(self.question.records[0], self.question.epsilons[0], 0)
        return worlds_of(first)

    @cached_property
    def _priors(self) -> dict[Scope, Posterior]:
        return {"local": self.worlds.prior(1), "product": self.worlds.prior(self.question.parties)}

    def world(self, number: int) -> Iterator[Observation]:
        """All rows in one world."""
        asked, rng = self.question, np.random.default_rng(number)
        drawn = self.worlds.draw(max(asked.records), asked.parties, rng)
        for n in asked.records:
            sites = [records[:n] for records in drawn]
            exact = [self.worlds.exact(records) for records in sites]
            truth = {scope: self._of(scope, exact) for scope in self.scopes}
            for epsilon in asked.epsilons:
                private = self._released(sites, n, epsilon, number)
                for scope in self.scopes:
                    yield self._seen(n, epsilon, scope, self._of(scope, private), truth[scope])

    def _released(self, sites: Sequence[Any], n: int, epsilon: float, world: int) -> list[Any]:
        out = []
        for records, node in zip(sites, self.question.roster, strict=True):
            maker = self._maker(n, epsilon, world, node)
            out.append(self.worlds.released(maker.finish(maker.observe(self.worlds.bounded(records)))))
        return out

    def _maker(self, n: int, epsilon: float, world: int, node: str) -> Any:
        """A mechanism of integers is made once; DP-SGD has trajectories of its own at each node and in each world."""
        if self.question.mode == "gradient":
            return maker_of(self.question.private_study(n, epsilon, world), node)
        if (n, epsilon) not in self._makers:
            self._makers[n, epsilon] = maker_of(self.question.private_study(n, epsilon, 0), node)
        return self._makers[n, epsilon]

    def _of(self, scope: Scope, parts: Sequence[Any]) -> Posterior:
        return self.worlds.posterior(list(parts[:1] if scope == "local" else parts))

    def _seen(self, n: int, epsilon: float, scope: Scope, p: Posterior, q: Posterior) -> Observation:
        prior, errors = self._priors[scope], np.abs(p.answers - q.answers)
        l1 = math.nan
        if p.objects is not None and q.objects is not None:
            l1 = float(np.abs(p.objects - q.objects).sum())
        return Observation(
            n,
            epsilon,
            scope,
            float(errors.mean()),
            float(errors.max()),
            l1,
            float(np.abs(p.answers - prior.answers).mean()),
            float(np.abs(q.answers - prior.answers).mean()),
        )


def _check_reach(study: Study) -> None:
    if _by_itself(study):
        return
    if mode_of(study) == "gradient" and study.privacy.rate is None:
        raise UsageError("mode 'gradient' needs privacy.rate and privacy.clip before it can be planned")
    listed = study.target_kind.likelihood is not None
    if not listed and len(study.variables) > MAX_VARIABLES:
        raise UsageError(
            f"planning compares exact edge probabilities, which are in reach up to {MAX_VARIABLES} variables, and the study has "
            f"{len(study.variables)}; plan with a study of {MAX_VARIABLES} of them: more variables need more records than that"
        )
    count = study.number_of_objects
    if listed and count > MAX_ANSWERED:
        raise UsageError(
            f"planning compares exact posteriors over all {study.kind.noun}, and this study is about {count:.3g}, more than "
            f"{MAX_ANSWERED}; plan with a smaller space"
        )


def _space(study: Study) -> dict[str, Any]:
    space: dict[str, Any] = {"space": study.space.kind, "variables": len(study.variables)}
    space |= study.kind.planned(study)
    if not study.columns.numeric and not study.columns.single and not study.columns.alignment:
        space["categories"] = [len(v.categories or ()) for v in study.variables]
    return space | {name: getattr(study.target, name) for name in study.target_kind.planned}


def _settings(question: Question, objects: int | None) -> dict[str, Any]:
    study = question.private_study(question.records[0], question.epsilons[0], 0)
    out: dict[str, Any] = {"mode": question.mode, **_space(study)}
    if objects is not None:
        out["objects"] = objects
    if question.mode == "gradient":
        asked, training = study.privacy, study.training
        out |= {
            "rate": asked.rate,
            "clip": asked.clip,
            "steps": training.steps,
            "batch": training.batch,
            "learning_rate": training.learning_rate,
        }
        return out
    (stage,) = maker_of(study, study.roster[0]).planned_claim.stages
    if question.mode == "answers":
        return out | {
            "directions": stage.noise[0].entries,
            "clip_nats": stage.norm_bound / 2.0**stage.grid_bits,
        }
    return out | {"tables": stage.groups, "cells": stage.noise[0].entries}

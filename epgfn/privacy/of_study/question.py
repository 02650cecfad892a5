"""What planning is asked, whether the answer is in reach, and the study that it simulates: `epgfn privacy plan`.

question = Question(study, records=(1000,), epsilons=(1.0, 4.0))
question.private_study(1000, 4.0, world=0)      as it would run
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from epgfn.base.errors import UsageError
from epgfn.gflownet.measure.exact import MAX_VARIABLES
from epgfn.privacy.mechanisms.checks import check_parameters
from epgfn.privacy.of_study.releases import maker_of
from epgfn.study import Study
from epgfn.study.privacy import MAX_ANSWERED, PrivacyMode

DEFAULT_DELTA = 1e-5
MOST_RECORDS = 1_000_000
_ANY_BOUNDS = {"lower": 1.0, "upper": 2.0}
"""A release asks for bounds; made-up records are on the study's scale already, and nothing is moved to a bound."""


@dataclass(frozen=True)
class Question:
    """What to plan for: `records` of each node, `epsilons` of each release, `nodes` in the product (None: the study's roster),
    `worlds` (None: from 3 to 40, with DP-SGD from 2, as time allows), made up from `seed`.

    Raises:
        UsageError: no exact posterior or no mechanism is in reach, or a number is out of range.
    """

    study: Study
    records: tuple[int, ...]
    epsilons: tuple[float, ...]
    nodes: int | None = None
    worlds: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.records or min(self.records) < 2 or max(self.records) > MOST_RECORDS:
            raise UsageError(f"records must be from 2 to {MOST_RECORDS}; give what a node has, roughly")
        if self.parties < 1 or (self.worlds is not None and self.worlds < 2):
            raise UsageError("planning needs at least one node and two worlds")
        for epsilon in self.epsilons:
            check_parameters(epsilon, self.delta)
        if max(self.records) * self.delta >= 1:
            raise UsageError(
                f"delta {self.delta:g} is not below one over {max(self.records)} records; choose a smaller privacy.delta"
            )
        _check_reach(self.study)

    @property
    def parties(self) -> int:
        return len(self.study.roster) if self.nodes is None else self.nodes

    @property
    def delta(self) -> float:
        return self.study.privacy.delta or DEFAULT_DELTA

    @property
    def mode(self) -> PrivacyMode:
        return mode_of(self.study)

    @property
    def roster(self) -> list[str]:
        """The study's, or as many names as nodes are asked for."""
        own = list(self.study.roster)
        return own if self.parties == len(own) else [f"node-{i + 1}" for i in range(self.parties)]

    def private_study(self, n: int, epsilon: float, world: int) -> Study:
        """The study as it would run with `n` records at each node; the number of the world is in its seed."""
        asked = self.study.privacy
        names = self.roster
        privacy: dict[str, Any] = {"mode": self.mode, "epsilon": epsilon, "delta": self.delta}
        if asked.adjacency == "replace-one":
            privacy["records"] = dict.fromkeys(names, n)
        changes = {
            "roster": names,
            "seed": self.study.seed + 1000 * world,
            "variables": _bounded(self.study),
            "privacy": privacy,
            "aggregation": {"quorum": 1, "leave_one_out": False},
        }
        return self.study.with_changes(changes)

    def settings(self, objects: int | None) -> dict[str, Any]:
        """What is simulated, by name; `objects`: how many there are, where they are listed."""
        study = self.private_study(self.records[0], self.epsilons[0], 0)
        out: dict[str, Any] = {"mode": self.mode, **_space(study)}
        if objects is not None:
            out["objects"] = objects
        return out | _release(study)


def mode_of(study: Study) -> PrivacyMode:
    """The study's mode; for one without privacy, that which has a mechanism for its target.

    Raises:
        UsageError: none has.
    """
    if study.privacy.is_private:
        return study.privacy.mode
    modes: list[Any] = list(study.target_kind.mechanisms)
    if not modes:
        raise UsageError(
            f"target '{study.target.kind}' has no private release yet, so there is nothing to plan"
        )
    first: PrivacyMode = modes[0]
    return first


def _bounded(study: Study) -> list[dict[str, Any]]:
    """Its variables, all of them with bounds if they are numbers."""
    listed = [v.model_dump(exclude_unset=True, exclude_none=True) for v in study.variables]
    return [
        v if {"lower", "upper"} <= set(v) or not study.columns.numeric else v | _ANY_BOUNDS for v in listed
    ]


def _check_reach(study: Study) -> None:
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


def _release(study: Study) -> dict[str, Any]:
    """What the mechanism is set to."""
    asked, training = study.privacy, study.training
    if study.mechanism == "gradient":
        return {
            "rate": asked.rate,
            "clip": asked.clip,
            "steps": training.steps,
            "batch": training.batch,
            "learning_rate": training.learning_rate,
        }
    if study.mechanism == "moments":
        return {}
    (stage,) = maker_of(study, study.roster[0]).planned_claim.stages
    if study.mechanism == "answers":
        return {"directions": stage.noise[0].entries, "clip_nats": stage.norm_bound / 2.0**stage.grid_bits}
    return {"tables": stage.groups, "cells": stage.noise[0].entries}

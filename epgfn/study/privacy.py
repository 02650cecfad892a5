"""The study's privacy settings: what every node must promise, and which promises a target can keep.

    [privacy]
    mode = "statistic"     # none | statistic | answers | gradient
    epsilon = 4.0          # the most a node may spend on its records in this study
    delta = 1e-5
    adjacency = "add-remove"

A mode that has no mechanism for the study's target is refused when the study is read, not when a hospital has trained for an hour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from epgfn.study.kinds.base import PrivacyMode, TargetKind

_WHY: Final = {
    "statistic": (
        "it is a function neither of sums of products of the records' numbers alone nor of a table of how many records show what"
    ),
    "answers": "it fits parameters to all records at once, so it is not a sum of one bounded term per record",
    "gradient": "it fits parameters to all records at once, so no record has a gradient of its own to clip",
}
MAX_ANSWERED: Final = 100_000
"""Objects that mode `answers` lists and answers for."""
NO_PRIVACY: Final = (
    "none: whoever can read the policy can read the subposterior it was trained on. The encryption keeps it from "
    "everyone but the coordinator, who can read it."
)


class PrivacySettings(BaseModel):
    """What each node must promise. `none`: whoever reads a policy can read the subposterior.

    epsilon, delta: the largest claim that is taken, for each node's records; required in every other mode.
    adjacency: whether neighbouring data sets differ by a record more or less, or by a record's values. Under the second the numbers of
        records are public, and `records` states them node by node.
    radius: the public clip of a record's norm in the first stage of `statistic`, in units of sqrt(V) on the study's scale.
    unit: whom the promise is for. Of a "person" there may be several records: `person` names the column of everybody's table that tells
        them apart and is used for nothing else, and at most `rows_per_person` records of anybody are used, chosen at random.
    rate, clip: `gradient` alone: the chance of each record to be in a step, and the largest norm (nats) of one record's part of the
        gradient; the steps are those of the study's training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mode: PrivacyMode = "none"
    adjacency: Literal["add-remove", "replace-one"] = "add-remove"
    epsilon: Annotated[float, Field(gt=0, le=60)] | None = None
    delta: Annotated[float, Field(gt=0, le=1e-2)] | None = None
    radius: Annotated[float, Field(ge=0.05, le=100)] = 1.0
    records: dict[str, Annotated[int, Field(ge=1)]] | None = None
    unit: Literal["record", "person"] = "record"
    person: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    rows_per_person: Annotated[int, Field(ge=1, le=1000)] = 1
    rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    clip: Annotated[float, Field(gt=0, le=1e6)] | None = None

    @property
    def is_private(self) -> bool:
        """Whether a node must release with noise."""
        return self.mode != "none"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.is_private:
            if self.model_fields_set - {"mode"}:
                raise ValueError(
                    "mode 'none' protects nothing, so epsilon and the other settings have no meaning; take them out, or choose "
                    "mode = 'statistic'"
                )
            return self
        if self.epsilon is None or self.delta is None:
            raise ValueError(
                f"mode '{self.mode}' needs epsilon and delta, the most a node may claim; for example epsilon = 4.0, delta = 1e-5"
            )
        if (self.adjacency == "replace-one") != (self.records is not None):
            raise ValueError(
                "under adjacency 'replace-one' the numbers of records are public and `records` states them node by node; under "
                "'add-remove' they are secret and it must not"
            )
        if (self.unit == "person") != (self.person is not None) or (
            self.unit == "record" and self.rows_per_person != 1
        ):
            raise ValueError(
                "unit = 'person' needs `person`, the column that says whose a record is, and rows_per_person, the most that are used of "
                "one; without it they have no meaning"
            )
        if self.unit == "person" and (self.mode, self.adjacency) != ("statistic", "add-remove"):
            raise ValueError(
                "persons are protected by mode = 'statistic' under adjacency = 'add-remove' only: the other modes bound what one record "
                "does, and how many records persons have is not public; use these, or one record of each person in the file"
            )
        return self

    @model_serializer(mode="wrap")
    def _only_what_holds(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A mode without settings is written without them."""
        of_persons = ("unit", "person", "rows_per_person")
        return {
            name: value
            for name, value in handler(self).items()
            if name == "mode" or (self.is_private and (self.unit == "person" or name not in of_persons))
        }

    def check_target(self, target: TargetKind) -> None:
        """Raises:
        ValueError: the mode has no mechanism for the target, or a setting of that mechanism is missing or out of place.
        """
        if self.is_private and self.mode not in target.mechanisms:
            others = list(target.mechanisms)
            way = f"use mode = '{others[0]}'" if others else "choose another target, or mode = 'none'"
            raise ValueError(
                f"privacy mode '{self.mode}' has no mechanism for target '{target.name}', because {_WHY[self.mode]}; {way}"
            )
        by_gradient = self.mode == "gradient"
        if (self.rate is not None, self.clip is not None) != (by_gradient, by_gradient):
            raise ValueError(
                "privacy.rate and privacy.clip belong to mode 'gradient', which needs both; for example rate = 0.5, clip = 10.0"
            )
        if by_gradient and self.adjacency != "add-remove":
            raise ValueError(
                "mode 'gradient' is accounted for under adjacency 'add-remove' only; use that, or mode = 'answers'"
            )

    def check_roster(self, roster: Sequence[str]) -> None:
        """Raises:
        ValueError: public numbers of records are not of exactly the roster's nodes, or delta is too large for one of them.
        """
        if self.records is None:
            return
        if set(self.records) != set(roster):
            raise ValueError("privacy.records must state the number of records of every node of the roster")
        if self.delta is not None and self.delta * max(self.records.values()) >= 1:
            raise ValueError(
                "privacy.delta must be below one over the number of records; choose a smaller delta"
            )

    def in_words(self, unit: str = "record") -> str:
        """What the study asks of a node, as a sentence for its operator; `unit` is what one thing to protect is called."""
        if self.epsilon is None or self.delta is None:
            return NO_PRIVACY
        return f"{self.mode}: {meaning(self.epsilon, self.delta, self.adjacency, unit)}"


FALSE_ALARMS: Final = 0.01
"""Of records that are not there, the share that whoever guesses may call members."""


def most_recognised(epsilon: float, delta: float, false_alarms: float) -> float:
    """The largest share of members that any test can recognise on what is (epsilon, delta)-private, if of others it calls a share of
    `false_alarms` members: min(e^epsilon f + delta, 1 - e^-epsilon (1 - delta - f)). Wasserman & Zhou, JASA 105 (2010); Kairouz, Oh &
    Viswanath, ICML 2015."""
    few = math.exp(min(epsilon, 60.0)) * false_alarms + delta
    many = 1 - math.exp(-epsilon) * (1 - delta - false_alarms)
    return max(0.0, min(few, many, 1.0))


def meaning(epsilon: float, delta: float, adjacency: str, unit: str) -> str:
    """What (epsilon, delta) promises, in plain words: what telling neighbours apart can come to, rounded up."""
    share = math.ceil(1000 * most_recognised(epsilon, delta, FALSE_ALARMS)) / 10
    of, alarms = f"at most {share:g} of 100", f"{100 * FALSE_ALARMS:g} of 100"
    if adjacency == "add-remove":
        test = f"wants to tell whether one {unit} is among them recognises {of} that are, if {alarms} that are not may be taken for members"
    else:
        test = (
            f"wants to tell which of two sets of values one {unit} has recognises the first in {of} cases, if in {alarms} cases the "
            f"second may be taken for it; how many {unit}s there are is public"
        )
    return (
        f"epsilon {epsilon:.4g}, delta {delta:.3g}, unit {unit}, adjacency {adjacency}. Whoever sees everything that leaves for this "
        f"study, knows all other {unit}s, and {test}."
    )


__all__ = ["MAX_ANSWERED", "NO_PRIVACY", "PrivacyMode", "PrivacySettings", "meaning", "most_recognised"]

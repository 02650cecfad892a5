"""Subsets of the categories of one variable: which of the items are in the bag?

A record shows one item: with probability `signal` one of the subset, each alike, else any item; the empty subset shows any item alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from epgfn.study.columns import ONE_CATEGORY
from epgfn.study.kinds import (
    DRAWN,
    SUMMED,
    Kind,
    Likelihood,
    Questions,
    SpaceSettings,
    TargetKind,
    TargetSettings,
    listed,
)

if TYPE_CHECKING:
    from torch import Tensor

    from epgfn.study import Study


class SubsetSettings(SpaceSettings):
    """Of what, the one variable says."""

    kind: Literal["subset"]


class ShownSettings(TargetSettings):
    """`signal`: how much of a record the object explains."""

    kind: Literal["shown"]
    signal: Annotated[float, Field(gt=0, lt=1)] = 0.5


def _shown(study: Study, space: Any) -> Likelihood:
    signal, items = study.target.signal, space.n_items

    def probability(state: Any) -> Tensor:
        inside = state.members.double()
        size = inside.sum(1, keepdim=True)
        share = (inside / size.clamp_min(1)).where(size > 0, 1 / items)
        return (1 - signal) / items + signal * share

    return listed(probability, items)


@dataclass(frozen=True)
class Subset(Kind):
    """See the module."""

    def space(self, study: Study) -> Any:
        from epgfn_subset.space import Subsets

        return Subsets(len(study.categories))

    def count(self, study: Study) -> float:
        return 2.0 ** len(study.categories)

    def written(self, study: Study, state: Any) -> list[str]:
        """ "apple, fig", empty for nothing."""
        return [
            ", ".join(item for item, inside in zip(study.categories, row, strict=True) if inside)
            for row in state.members.tolist()
        ]

    def questions(self, study: Study, state: Any) -> Questions:
        """Is it in?"""
        return Questions([f"has {item}" for item in study.categories], state.members)

    def in_words(self, study: Study) -> str:
        return "subsets of the items"

    def panels(self, study: Study) -> dict[str, str]:
        return {"has ": "in the bag"}


SUBSET = Subset(
    "subset",
    SubsetSettings,
    (
        TargetKind(
            "shown",
            ShownSettings,
            ONE_CATEGORY,
            "a record shows one item, drawn from the subset or from anywhere",
            DRAWN,
            SUMMED,
            _shown,
            planned=("signal",),
        ),
    ),
    ("mlp",),
    "subsets",
    "item",
    may_stop_anywhere=True,
    training={"batch": 128, "learning_rate": 1e-2, "steps": 400, "exploration": 0.2},
    aggregation={"batch": 128, "learning_rate": 1e-2, "steps": 400, "exploration": 0.2},
    components="items",
    example=(
        """
variables = [{name = "item", categories = ["apple", "pear", "fig", "plum"]}]
[space]
kind = "subset"
""",
    ),
)

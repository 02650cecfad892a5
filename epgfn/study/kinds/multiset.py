"""Multisets of `size` items, whose kinds are the categories of the one variable.

A record shows one item: with probability `signal` one of the multiset, else any alike (`epgfn.targets.items`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from epgfn.study.columns import ONE_CATEGORY
from epgfn.study.kinds.base import (
    DRAWN,
    SUMMED,
    Kind,
    Questions,
    SpaceSettings,
    TargetKind,
    TargetSettings,
)
from epgfn.study.kinds.likelihood import Likelihood, listed

if TYPE_CHECKING:
    from epgfn.study import Study


class MultisetSettings(SpaceSettings):
    """`size`: how many items a multiset has."""

    kind: Literal["multiset"]
    size: Annotated[int, Field(ge=1, le=1000)]


class ItemsSettings(TargetSettings):
    """`signal`: how much of a record the object explains."""

    kind: Literal["items"]
    signal: Annotated[float, Field(gt=0, lt=1)] = 0.5


def _items(study: Study, space: Any) -> Likelihood:
    from epgfn.targets.items import item_probability

    signal = study.target.signal
    return listed(lambda state: item_probability(state.counts, signal), space.n_items)


_WIDE = {"batch": 256, "learning_rate": 1e-2, "temperature": 1.0, "steps": 1000, "exploration": 0.3}


@dataclass(frozen=True)
class Multiset(Kind):
    """See the module."""

    def space(self, study: Study) -> Any:
        from epgfn.gflownet.spaces import make_space

        return make_space("multiset", n_items=len(study.categories), size=study.space.size)

    def count(self, study: Study) -> float:
        size: int = study.space.size
        return math.comb(len(study.categories) + size - 1, size)

    def written(self, study: Study, state: Any) -> list[str]:
        """ "apple 2, pear 1" """
        return [
            ", ".join(f"{item} {n}" for item, n in zip(study.categories, row, strict=True) if n)
            for row in state.counts.tolist()
        ]

    def questions(self, study: Study, state: Any) -> Questions:
        """At least k of an item?"""
        import torch

        most = study.space.size
        names = [f"{item} >= {k}" for item in study.categories for k in range(1, most + 1)]
        return Questions(names, (state.counts[:, :, None] >= torch.arange(1, most + 1)).flatten(1))

    def in_words(self, study: Study) -> str:
        return f"multisets of {study.space.size} items"

    def panels(self, study: Study) -> dict[str, str]:
        """One an item."""
        return {f"{item} >= ": item for item in study.categories}

    def planned(self, study: Study) -> dict[str, Any]:
        return {"categories": len(study.categories), **super().planned(study)}


MULTISET = Multiset(
    "multiset",
    MultisetSettings,
    (
        TargetKind(
            "items",
            ItemsSettings,
            ONE_CATEGORY,
            "a record shows one item, drawn from the multiset or from anywhere",
            DRAWN,
            SUMMED,
            _items,
            planned=("signal",),
        ),
    ),
    ("mlp",),
    "multisets",
    "number of items",
    training=_WIDE,
    aggregation=_WIDE,
    preferences=0.5,
    components="kinds of items",
    example=(
        """
variables = [{name = "item", categories = ["apple", "pear", "fig"]}]
[space]
kind = "multiset"
size = 4
""",
    ),
)

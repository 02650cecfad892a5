"""Pairs of variables that are probably adjacent, and whether the direction of the edge can be told: what drawings of a posterior show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from epgfn.study import Study

TOLD: Final = 0.5
"""An edge's direction is told where it is compelled in at least this share of the graphs that have the edge, one way or the other."""
LEANS: Final = 0.95
"""The same of the direction's own probability, where a design or knowledge tells more than equivalence, or nothing else is known."""


class Pair(NamedTuple):
    """Two variables that are `adjacent` with that probability, `parent` -> `child` being the more probable direction, and whether it can
    be `told` that the edge goes this way."""

    parent: str
    child: str
    adjacent: float
    probability: float
    told: bool


def pairs_of(table: pd.DataFrame, study: Study) -> list[Pair]:
    """From the rows of `epgfn.learn.conversions.edge_rows`, each pair once, the most probably adjacent first."""
    known = "compelled" in table.columns
    found: dict[frozenset[str], Pair] = {}
    for row in table.to_dict("records"):
        key = frozenset((row["parent"], row["child"]))
        if key in found:  # rows come by probability: the other direction is the more probable one
            continue
        adjacent, p = float(row["adjacent"]), float(row["probability"])
        told = known and float(row["compelled"]) >= TOLD * adjacent
        if study.design.column is not None or not known:
            told = told or p >= LEANS * adjacent
        found[key] = Pair(row["parent"], row["child"], adjacent, p, bool(told and adjacent > 0))
    return sorted(found.values(), key=lambda pair: -pair.adjacent)

"""Combinations of categories that few records show: what rules for releasing tables call small counts.

By the usual rule of thumb for output of secure research environments a table's cells stand for at least ten units each (Brandt and others,
Guidelines for the checking of output based on microdata research, ESSnet SDC, 2010, on frequency tables). Cells that no record shows are
not counted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:  # numpy is loaded to count, and not to know what is small
    from epgfn.study.records.table import Numbers

SMALL: Final = 10
MOST_SETS: Final = 2_000
"""Sets of columns that are looked at; of more, the first."""


class SmallCounts(NamedTuple):
    """`combinations` of values of the columns with these places occur, each in fewer than `SMALL` records; the rarest in `smallest`."""

    columns: tuple[int, ...]
    combinations: int
    smallest: int


def small_counts(columns: Sequence[Numbers], categories: Sequence[int], together: int) -> SmallCounts | None:
    """The first set of `together` columns, (n,) int64 each, that has a combination which one record alone shows, or else the one with the
    rarest; None where no combination is rarer than `SMALL`. Sets of fewer columns have larger counts only."""
    rarest: SmallCounts | None = None
    sets = itertools.combinations(range(len(columns)), min(together, len(columns)))
    for places in itertools.islice(sets, MOST_SETS):
        counts = _counts([columns[i] for i in places], [categories[i] for i in places])
        few = counts[counts < SMALL]
        if len(few) and (rarest is None or few.min() < rarest.smallest):
            rarest = SmallCounts(places, len(few), int(few.min()))
            if rarest.smallest == 1:
                break
    return rarest


def _counts(columns: Sequence[Numbers], categories: Sequence[int]) -> Numbers:
    """How many records show each combination that occurs."""
    import numpy as np

    n, cells = len(columns[0]), math.prod(categories)
    if cells > 1 << 62:
        rows = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
        return rows[1]
    place = np.ravel_multi_index(columns, tuple(categories))
    if cells > 4 * n + 1_000:
        return np.unique(place, return_counts=True)[1]
    counts = np.bincount(place)
    return counts[counts > 0]

"""Noisy tables that overlap made to agree: without that, log p(child | parents) = g(family) - g(parents) sets two noisy counts of the same
records against each other, and their difference swamps what the records say.

    tables = fitted(raw, total)        no negative cell, each sums to `total`, and what they count in common they count alike

All of it is post-processing. After Qardaji, Yang & Li, PriView, SIGMOD 2014, section 4.4.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from epgfn.privacy.mechanisms.discrete import Floats

Subset = tuple[int, ...]


def fitted(raw: Mapping[Subset, Floats], total: float) -> dict[Subset, Floats]:
    """Tables with noise, by the variables they count, as tables that might be counts of `total` records, but for fractions."""
    tables = _projected(agreeing(raw, total), total)
    if len(tables) > 1:
        # Agreeing once more leaves a few small negative cells, cut off here: less harm than tables that disagree.
        tables = {subset: np.maximum(table, 0.0) for subset, table in agreeing(tables, total).items()}
    return tables


def agreeing(tables: Mapping[Subset, Floats], total: float) -> dict[Subset, Floats]:
    """The tables, changed evenly over cells, so that each sum that several hold is their mean, and the sum of all `total`.

    The mean is weighted by 1 / cells of a table, as the sum's variance is in a table whose cells have noise of one variance. From few
    variables to many: what is added for a set changes no sum over fewer variables, which agree by then, nor over others of its size.
    """
    found = dict(tables)
    for size in range(max(map(len, found))):
        margins = {
            subset: {part: _sum(found[subset], subset, part) for part in itertools.combinations(subset, size)}
            for subset in found
        }
        goal = _means(margins, {subset: 1 / table.size for subset, table in found.items()})
        if size == 0:
            goal[()] = np.asarray(total)
        for subset, mine in margins.items():
            for part, value in mine.items():
                found[subset] = found[subset] + _spread(goal[part] - value, subset, part, found[subset])
    return found


def onto_simplex(table: Floats, total: float) -> Floats:
    """The closest table with no negative cell that sums to `total` (Duchi et al., ICML 2008)."""
    flat = table.reshape(-1)
    ordered = np.sort(flat)[::-1]
    excess = (np.cumsum(ordered) - total) / np.arange(1, len(flat) + 1)
    kept = np.nonzero(ordered > excess)[0][-1]
    return np.asarray(np.maximum(flat - excess[kept], 0.0).reshape(table.shape))


def _projected(tables: Mapping[Subset, Floats], total: float) -> dict[Subset, Floats]:
    return {subset: onto_simplex(table, total) for subset, table in tables.items()}


def _sum(table: Floats, subset: Subset, part: Subset) -> Floats:
    """Over the variables that are not in `part`."""
    return np.asarray(table.sum(axis=tuple(i for i, v in enumerate(subset) if v not in part)))


def _means(
    margins: Mapping[Subset, Mapping[Subset, Floats]], weights: Mapping[Subset, float]
) -> dict[Subset, Floats]:
    sums: dict[Subset, Floats] = {}
    totals: dict[Subset, float] = {}
    for subset, mine in margins.items():
        for part, value in mine.items():
            sums[part] = np.asarray(sums.get(part, 0.0) + value * weights[subset])
            totals[part] = totals.get(part, 0.0) + weights[subset]
    return {part: np.asarray(value / totals[part]) for part, value in sums.items()}


def _spread(missing: Floats, subset: Subset, part: Subset, table: Floats) -> Floats:
    """What to add to each cell so that the sums over `part` grow by `missing`."""
    shape = [table.shape[i] if v in part else 1 for i, v in enumerate(subset)]
    return np.asarray(missing.reshape(shape) * (missing.size / table.size))

"""Few values that stand apart from all others of their column, and few records that alone make two columns look related.

Both are judged by the column itself, since honest columns have long tails: how far a value goes beyond the next one is compared with
how fast the tail that the others make thins out (Hill's estimator), so that a log-normal column may have a far value where a normal
one may not.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from epgfn.study.records.table import Floats

Places = npt.NDArray[np.int64]

FEWEST: Final = 10
"""Values below which nothing is said."""
SPREADS, GAP = 8.0, 4.0
"""Robust spreads from the median, and from the next value, that a value must at least be away."""
STEPS: Final = 3.0
"""Smallest steps between the others that it must be away from the next one, as counts and scores have steps."""
MOST_TOGETHER: Final = 10
"""Values that stand apart together."""
_TAIL, _LEAST_TAIL, _MOST_TAIL = 0.5, 8, 50
"""Share of the values on one side of the median that the tail is judged by, at least and at most so many of them."""
_FAR_ENOUGH, _PER_DECADE, _FROM = 4.0, 1.4, 30
"""The step to the next value in units of the mean step of the tail: at `_FROM` values, and more for each ten times as many."""
_TOGETHER: Final = 2.0
"""More of it for several values, which may be chosen in more ways."""
PRODUCT, SHIFT = 4.0, 4.0
"""Standard errors of a correlation: what a record adds to it, and by how much it changes (Fisher's z) without the record."""


MOST_DECISIVE: Final = 3
"""Records that are few."""
TIMES: Final = 6.0
"""What the product of such a record is of the largest values of all others in each column, multiplied."""
_MOST_LOOKED_AT: Final = 1000
"""Records, those with the largest products, as of long tails there may be many."""
_DIFFERENT: Final = 5
"""Values of a column without which a correlation is no measure of much."""


class Leverage(NamedTuple):
    """`places` of the few records that make the correlation of columns `i` and `j` what it is, `r`; without them it is `rest`."""

    i: int
    j: int
    places: Places
    r: float
    rest: float


def standing_apart(x: Floats, least_spread: float = 0.0) -> Places:
    """The places in `x` (n,), all finite, of the values that stand apart from all others, smallest first; mostly there are none.
    `least_spread`: what the others spread at least, where it is known what such columns do."""
    if len(x) < FEWEST:
        return np.zeros(0, dtype=np.int64)
    middle = float(np.median(x))
    order = np.argsort(x, kind="stable")
    below = _many_apart(middle - x[order], least_spread)
    above = _many_apart((x[order] - middle)[::-1], least_spread)
    return np.concatenate([order[:below], order[len(x) - above :]])


def _many_apart(away: Floats, least_spread: float) -> int:
    """How many of the first values of `away` (n,), falling distances from the median, stand apart from the rest."""
    side = int((away > 0).sum())
    n = len(away)
    found = 0
    for g in range(1, min(MOST_TOGETHER, max(1, n // 20), side) + 1):
        gap = away[g - 1] - away[g]
        if gap <= 0:
            continue
        rest = away[g:]
        steps = -np.diff(rest)
        steps = steps[steps > 0]
        spread = float(rest.std()) if len(steps) == 1 else _spread(rest, side - g)
        if not spread or not len(steps):
            continue
        enough = max(spread, least_spread)
        if away[g - 1] <= SPREADS * enough or gap <= max(GAP * enough, STEPS * float(steps.min())):
            continue
        k = int(min(max(_TAIL * (side - g), _LEAST_TAIL), _MOST_TAIL, len(rest) - 1))
        tail = np.maximum(rest[: k + 1], 0.0) + 2.0 * spread
        mean_step = max(float(np.log(tail[:k] / tail[k]).mean()), 1e-3)
        step = g * float(np.log((away[g - 1] + 2.0 * spread) / tail[0])) / mean_step
        wanted = _FAR_ENOUGH + _PER_DECADE * np.log10(max(n, _FROM) / _FROM) + _TOGETHER * (g > 1)
        if step > wanted:
            found = g
    return found


def _spread(away: Floats, side: int) -> float:
    """A robust standard deviation of falling distances from the median, of which the first `side` are positive: the larger of that of all
    and of that side alone; by squares where more than half are equal."""
    spread = 1.4826 * float(np.median(np.abs(away)))
    if side >= FEWEST // 2:
        spread = max(spread, 1.4826 * float(np.median(away[:side])))
    return spread if spread > 0 and side >= FEWEST // 2 else max(spread, float(np.sqrt((away**2).mean())))


def leverages(columns: Floats) -> list[Leverage]:
    """Pairs of the `columns` (V, n), all finite, whose correlation a few records make.

    A record counts if the product of its two robustly standardised values is `PRODUCT` standard errors of a correlation, so that the
    score of a graph would rest on it, and far more than the largest values of all others would make; a pair, if its correlation without
    such records is `SHIFT` standard errors from that with them.
    """
    count, n = columns.shape
    if n < FEWEST or count < 2:
        return []
    z = np.stack([_standardised(x) for x in columns])
    least = PRODUCT * np.sqrt(n)
    top = np.partition(np.abs(z), count - 2, axis=0)[-2:]
    strength = top.prod(0)
    records = np.flatnonzero(strength > least)
    records = records[np.argsort(-strength[records])[:_MOST_LOOKED_AT]]
    products = np.abs(z[:, None, records] * z[None, :, records]) > least
    found = []
    for i, j in zip(*np.nonzero(np.triu(products.any(2), 1)), strict=True):
        places = _decisive(np.abs(z[[i, j]]), least)
        rest = np.delete(columns[[i, j]], places, axis=1)
        if not len(places) or min(len(np.unique(column)) for column in rest) < _DIFFERENT:
            continue
        r, without = (float(np.asarray(np.corrcoef(pair))[0, 1]) for pair in (columns[[i, j]], rest))
        change = abs(np.arctanh(np.clip(r, -0.999, 0.999)) - np.arctanh(np.clip(without, -0.999, 0.999)))
        if change * np.sqrt(n - 3) > SHIFT:
            found.append(Leverage(int(i), int(j), places, r, without))
    return found


def _decisive(z: Floats, least: float) -> Places:
    """The few records whose product in `z` (2, n), absolute values, is above `least` and far above that of the largest others of each."""
    order = np.argsort(-z.prod(0))[: MOST_DECISIVE + 1]
    for g in range(MOST_DECISIVE, 0, -1):
        if z[:, order[g - 1]].prod() > max(
            least, TIMES * float(np.delete(z, order[:g], axis=1).max(1).prod())
        ):
            return np.sort(order[:g])
    return order[:0]


def _standardised(x: Floats) -> Floats:
    away = x - np.median(x)
    spread = 1.4826 * float(np.median(np.abs(away))) or float(x.std())
    return away / spread if spread > 0 else away * 0.0

"""Units that are mistaken for one another: by which factor, or from which scale, a column would fit the study's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from epgfn.study.records.table import Floats


@dataclass(frozen=True)
class Change:
    """`words`: what is done to the values; `name`: of what it is a conversion, empty for a power of ten; `hints`: parts of the names of
    columns that it is likely of."""

    words: str
    apply: Callable[[Floats], Floats]
    name: str = ""
    hints: tuple[str, ...] = ()


FACTORS: Final[tuple[tuple[float, str, tuple[str, ...]], ...]] = (
    (38.67, "cholesterol in mg/dL and mmol/L", ("chol", "ldl", "hdl")),
    (88.57, "triglycerides in mg/dL and mmol/L", ("trig",)),
    (18.02, "glucose in mg/dL and mmol/L", ("gluc", "sugar")),
    (88.4, "creatinine in mg/dL and µmol/L", ("crea",)),
    (59.48, "uric acid in mg/dL and µmol/L", ("uric",)),
    (17.1, "bilirubin in mg/dL and µmol/L", ("bili",)),
    (2.54, "inches and centimetres", ("height", "length", "waist", "size")),
    (30.48, "feet and centimetres", ("height", "length")),
    (2.2046, "pounds and kilograms (0.4536)", ("weight", "mass")),
    (7.5006, "kPa and mmHg", ("pressure", "po2", "pco2")),
    (4.184, "kcal and kJ", ("energy",)),
    (12.0, "months and years", ("age", "month", "year")),
    (365.25, "days and years", ("age", "day", "year")),
    (60.0, "minutes and hours, or seconds and minutes", ("time", "duration")),
    (24.0, "hours and days", ("time", "duration")),
)
POWERS: Final = (10.0, 100.0, 1e3, 1e4, 1e6, 1e9)


def _times(factor: float) -> Callable[[Floats], Floats]:
    return lambda x: x * factor


def _changes() -> tuple[Change, ...]:
    known: list[Change] = []
    for factor, name, hints in (*FACTORS, *((power, "", ()) for power in POWERS)):
        known += [
            Change(f"divided by {factor:g}", _times(1 / factor), name, hints),
            Change(f"times {factor:g}", _times(factor), name, hints),
        ]
    warm = ("temp",)
    return (
        *known,
        Change("as (x - 32) / 1.8", lambda x: (x - 32) / 1.8, "degrees Fahrenheit and Celsius", warm),
        Change("as 32 + 1.8 x", lambda x: 32 + 1.8 * x, "degrees Celsius and Fahrenheit", warm),
        Change("less 273.15", lambda x: x - 273.15, "kelvins and degrees Celsius", warm),
        Change("plus 273.15", lambda x: x + 273.15, "degrees Celsius and kelvins", warm),
    )


CHANGES: Final = _changes()
MOST_OFF, MOST_SPREAD, LEAST_SPREAD = 2.0, 2.5, 0.4
"""What a column is like that fits its scale."""
OFF_SCALE: Final = 3.0
"""Scale units from the centre, beyond which the middle of a group of values does not fit."""
FEWEST_IN_A_GROUP: Final = 5
SHARE_OF_A_GROUP: Final = 0.05
APART: Final = 4.0
"""Spreads between the middles of two groups of values, the larger spread counting."""
MOST_BETWEEN: Final = 0.05
"""Share of the values in the middle third between them."""


class TwoUnits(NamedTuple):
    """How many values are in the lower and in the higher group; whether the lower is the one that fits the scale; and the changes that
    would make the other fit."""

    low: int
    high: int
    low_fits: bool
    changes: list[Change]


def fitting(raw: Floats, scaled: Callable[[Floats], Floats], column: str, most: int = 3) -> list[Change]:
    """The changes that would put `raw` (n,) on its public scale, best first, `scaled` being how the study does it."""
    found = []
    for change in CHANGES:
        off, spread = place(scaled(change.apply(raw)))
        if abs(off) <= MOST_OFF and LEAST_SPREAD <= spread <= MOST_SPREAD:
            likely = any(hint in column.lower() for hint in change.hints)
            found.append((abs(off) + abs(np.log(spread)) - 2.0 * likely, change))
    return [change for _, change in sorted(found, key=lambda pair: pair[0])[:most]]


def two_units(raw: Floats, scaled: Callable[[Floats], Floats], column: str) -> TwoUnits | None:
    """The two groups of `raw` (n,) of which one fits the public scale and the other would after a known change; None: there are none such.

    They are told apart where the variance between them is largest, of their logarithms if all are positive or of the values, and cut in
    the widest gap between their middles.
    """
    ordered = np.sort(raw)
    for x in (np.log(ordered), ordered) if ordered[0] > 0 else (ordered,):
        at = _cut(x)
        if min(at, len(x) - at) < max(FEWEST_IN_A_GROUP, SHARE_OF_A_GROUP * len(x)):
            continue
        low, high = float(np.median(x[:at])), float(np.median(x[at:]))
        begins, ends = np.searchsorted(x, [low, high])
        at = int(begins + np.argmax(np.diff(x[begins : ends + 1]))) + 1
        spreads = [
            1.4826 * float(np.median(np.abs(part - middle)))
            for part, middle in ((x[:at], low), (x[at:], high))
        ]
        third = (high - low) / 3
        between = float(((x > low + third) & (x < high - third)).mean())
        if not min(spreads) or high - low < APART * max(spreads) or between > MOST_BETWEEN:
            continue
        groups = ordered[:at], ordered[at:]
        for fits, other in ((0, 1), (1, 0)):
            off, spread = place(scaled(groups[fits]))
            away, _ = place(scaled(groups[other]))
            if abs(off) <= MOST_OFF and LEAST_SPREAD <= spread <= MOST_SPREAD and abs(away) > OFF_SCALE:
                changes = fitting(groups[other], scaled, column)
                if changes:
                    return TwoUnits(at, len(x) - at, fits == 0, changes)
    return None


def _cut(ordered: Floats) -> int:
    """How many of the smallest of `ordered` (n,) make one group of two, by the variance between the groups (Otsu)."""
    n, total = len(ordered), np.cumsum(ordered)
    left = np.arange(1, n)
    between = (total[:-1] / left - (total[-1] - total[:-1]) / (n - left)) ** 2 * left * (n - left)
    return int(np.argmax(between)) + 1


def place(x: Floats) -> tuple[float, float]:
    """Median and spread of the finite numbers, 0 and 0 without any; the spread is a standard deviation, by the median deviation where that
    is not 0, so that few cells have no say."""
    x = x[np.isfinite(x)]
    if not len(x):
        return 0.0, 0.0
    middle = float(np.median(x))
    spread = 1.4826 * float(np.median(np.abs(x - middle)))
    return middle, spread or (float(x.std()) if np.ptp(x) > 0 else 0.0)

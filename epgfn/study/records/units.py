"""Units that are mistaken for one another: by which factor, or from which scale, a column would fit the study's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

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


def fitting(raw: Floats, scaled: Callable[[Floats], Floats], column: str, most: int = 3) -> list[Change]:
    """The changes that would put `raw` (n,) on its public scale, best first, `scaled` being how the study does it."""
    found = []
    for change in CHANGES:
        off, spread = place(scaled(change.apply(raw)))
        if abs(off) <= MOST_OFF and LEAST_SPREAD <= spread <= MOST_SPREAD:
            likely = any(hint in column.lower() for hint in change.hints)
            found.append((abs(off) + abs(np.log(spread)) - 2.0 * likely, change))
    return [change for _, change in sorted(found, key=lambda pair: pair[0])[:most]]


def place(x: Floats) -> tuple[float, float]:
    """Median and spread of the finite numbers, 0 and 0 without any; the spread is a standard deviation, by the median deviation where that
    is not 0, so that few cells have no say."""
    x = x[np.isfinite(x)]
    if not len(x):
        return 0.0, 0.0
    middle = float(np.median(x))
    spread = 1.4826 * float(np.median(np.abs(x - middle)))
    return middle, spread or float(x.std())

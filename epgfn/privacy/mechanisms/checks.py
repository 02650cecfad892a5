"""What is refused before any noise is drawn. These sentences are for the operator at the node; none of them is ever sent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from epgfn.base.errors import RefusedError, UsageError
from epgfn.privacy.accounting import MAX_EPSILON
from epgfn.privacy.claims.claims import Stage
from epgfn.privacy.mechanisms.discrete import Floats

_FAR = 1.5
"""A record beyond so many radii was meant for another scale."""


MOST_SCALE = float(1 << 53)
"""Grid steps of noise that any stage may have, known beforehand; a second stage may have four times as many, and 2^56 can be drawn."""


def check_noise(stages: Sequence[Stage]) -> None:
    """Raises:
    UsageError: there is more noise in these than can be drawn.
    """
    if max(part.scale for stage in stages for part in stage.noise) > MOST_SCALE:
        raise UsageError(
            "so small an epsilon needs more noise than can be drawn for so many variables and records of one person, or so wide a radius; "
            "take a larger epsilon, fewer of them, or a smaller radius"
        )


def check_parameters(epsilon: float, delta: float) -> None:
    """Raises:
    UsageError: epsilon is not above 0 and at most `MAX_EPSILON`, or delta is not inside (0, 1e-2].
    """
    if not (0 < epsilon <= MAX_EPSILON):
        raise UsageError(f"privacy.epsilon must be above 0 and at most {MAX_EPSILON:g}; choose one")
    if not (0 < delta <= 1e-2):
        raise UsageError("privacy.delta must be above 0 and at most 0.01; it should be far below 1 / records")


def check_delta(delta: float, n: int) -> None:
    """Raises:
    RefusedError: "delta-too-large": delta is not below 1 / n, so a mechanism might publish a record outright.
    """
    if delta * n >= 1:
        raise RefusedError(
            "delta-too-large",
            "privacy.delta must be below one over the number of records; choose a smaller delta in the study",
        )


def check_bounds(records: Floats, lower: Floats, upper: Floats) -> Floats:
    """Records with each number moved into its public bounds; (n, V), (V,), (V,), all on the study's scale.

    Raises:
        RefusedError: "missing-bounds": a bound is missing or not finite. "bounds-clip-most": more than half of the records
            lie outside, so the study was made for other data.
    """
    if not (np.isfinite(lower).all() and np.isfinite(upper).all() and (lower < upper).all()):
        raise RefusedError(
            "missing-bounds",
            "privacy needs public bounds for every variable: set lower and upper of each in the study, from the "
            "literature or the instrument, never from these records",
        )
    outside = np.asarray((records < lower) | (records > upper))
    _require_minority(np.asarray(outside.any(1)), "public bounds")
    return np.clip(records, lower, upper)


def check_radius(records: Floats, radius: float) -> None:
    """Raises:
    RefusedError: "bounds-clip-most": more than half of the records are longer than 1.5 times the clipping radius.
    """
    _require_minority(np.sqrt(np.square(records).sum(1)) > _FAR * radius, "clipping radius")


def _require_minority(outside: npt.NDArray[np.bool_], what: str) -> None:
    if len(outside) and math.fsum(outside) * 2 > len(outside):
        raise RefusedError(
            "bounds-clip-most",
            f"more than half of the records lie outside the study's {what}; check units and scales, and agree on wider "
            "ones with the other parties (this sentence is about the data: keep it here)",
        )

"""Integers in, integers out: records rounded onto a public grid, and discrete Gaussian noise by OpenDP.

Floating-point noise leaks through its low bits (Mironov, CCS 2012), so nothing released is ever a float: a record's
contribution is a vector of integers whose norm is bounded by construction, contributions add up exactly, and OpenDP's
sampler (Canonne, Kamath & Steinke 2020, exact, from the operating system's randomness) adds integer noise. There is no seed.

The contribution of a record depends on that record alone, down to the last bit: sums along a row run over its columns in
a fixed order with element-wise operations, because a library's matrix product may round one row differently when another
is added.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

GRID_BITS = 10
"""A record's unit is 2^10 grid steps: rounding is far below the noise, and squares of 10^5 records fit 53 bits."""
_EXACT = 1 << 53  # integers up to here are exact in float64
_MAX_VALUE = 1 << 62
_FAR = float(1 << 20)  # a coordinate beyond this many radii saturates; its row is clipped in any case
_ROWS = 4096


def norm_bound(radius: float, grid_bits: int = GRID_BITS) -> int:
    """The radius in grid steps, rounded up: the L2 norm that no row of `clipped_rows` exceeds.

    Raises:
        ValueError: the radius is not above 0, or too large for exact sums.
    """
    bound = math.ceil(radius * 2.0**grid_bits) if 0 < radius < math.inf else 0
    if not 0 < bound**2 < _EXACT:
        raise ValueError("a clipping radius must be above 0 and below 2^26 grid steps")
    return bound


def clipped_rows(rows: Floats, radius: float, grid_bits: int = GRID_BITS) -> Ints:
    """Each row scaled into the ball of `radius`, then rounded to the grid: (n, d) -> (n, d) int64 of norm <= `norm_bound`.

    Rounding moves a row by at most sqrt(d) / 2 steps, so rows are clipped to that much less than the bound. The bound is
    checked on the integers; a row that broke it would become zero. A number that is none becomes zero as well.

    Raises:
        ValueError: the radius leaves no room for rounding.
    """
    bound, d = norm_bound(radius, grid_bits), rows.shape[1]
    room = bound - math.sqrt(d) / 2 - 1
    if room < bound / 2:
        raise ValueError("the clipping radius is too few grid steps for so many numbers per record")
    out = np.empty(rows.shape, dtype=np.int64)
    for start in range(0, len(rows), _ROWS):
        block = np.nan_to_num(rows[start : start + _ROWS], nan=0.0, posinf=np.inf, neginf=-np.inf)
        block = np.clip(block, -_FAR * radius, _FAR * radius) * 2.0**grid_bits
        norm = np.sqrt(_squares(block))
        grid = np.rint(block * (room / np.maximum(norm, room))[:, None])
        grid[_squares(grid) > float(bound) ** 2] = 0.0
        out[start : start + _ROWS] = grid.astype(np.int64)
    return out


def product(rows: Floats, matrix: Floats) -> Floats:
    """rows @ matrix, each row by itself and in a fixed order: (n, d), (d, k) -> (n, k)."""
    out = np.zeros((len(rows), matrix.shape[1]))
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        for i in range(rows.shape[1]):
            out[start : start + _ROWS] += block[:, i : i + 1] * matrix[i]
    return out


def gram(rows: Ints) -> Ints:
    """Z^T Z of integer rows, exact: (n, d) -> (d, d) int64.

    Raises:
        ValueError: so many and long rows that a sum might not fit.
    """
    if len(rows) * int(np.abs(rows).max(initial=0)) ** 2 >= _MAX_VALUE:
        raise ValueError("too many records for this clipping radius")
    return _exact(lambda block: block.T @ block, rows, (rows.shape[1], rows.shape[1]))


def total(rows: Ints) -> Ints:
    """The sum of integer rows, exact: (n, d) -> (d,) int64."""
    return np.asarray(rows.sum(0), dtype=np.int64)


def discrete_gaussian(values: Ints, scale: float) -> Ints:
    """Each integer plus discrete Gaussian noise P(k) proportional to exp(-k^2 / (2 scale^2)), k in the integers.

    Values saturate at 2^62, a property of the output alone. The scale is used as exactly the number that the float is.

    Raises:
        ValueError: the scale is not above 0 or so large that noise would not fit.
    """
    if not 0 < scale < _MAX_VALUE / 64:
        raise ValueError("the scale of the noise must be above 0 and below 2^56 grid steps")
    flat = np.clip(values.reshape(-1), -_MAX_VALUE, _MAX_VALUE).tolist()
    noisy = np.array(_sampler(scale)(flat), dtype=np.int64)
    return np.clip(noisy, -_MAX_VALUE, _MAX_VALUE).reshape(values.shape)


def opendp_version() -> str:
    """Name and version of the sampler."""
    from importlib.metadata import version

    return f"opendp {version('opendp')} discrete Gaussian"


@lru_cache(maxsize=64)
def _sampler(scale: float) -> Any:
    import opendp.prelude as dp  # loaded here: most commands need no noise

    dp.enable_features("contrib")
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    return dp.m.make_gaussian(domain, dp.l2_distance(T="f64"), scale=scale)


def _squares(block: Floats) -> Floats:
    """(n,) squared norms, columns in order."""
    out = np.zeros(len(block))
    for column in block.T:
        out += column * column
    return out


def _exact(function: Any, rows: Ints, shape: tuple[int, ...]) -> Ints:
    """Sum of `function` over blocks of rows small enough that float64 arithmetic on them is exact."""
    out = np.zeros(shape, dtype=np.int64)
    largest = max(1, int(np.abs(rows).max(initial=0)))
    size = max(1, min(65_536, _EXACT // largest**2))
    for start in range(0, len(rows), size):
        out += function(rows[start : start + size].astype(np.float64)).astype(np.int64)
    return out

"""Linear algebra of the two-stage release: all of it works on what was released already, so it costs no privacy.

y ~ N(0, I_m) clipped to the ball of radius B has second moment c(B) I, and a small symmetric traceless perturbation E of
the covariance changes it by c'(B) E:

    c(B)  = E min(r, B)^2 / m                = F_{m+2}(B^2) + B^2 / m (1 - F_m(B^2))
    c'(B) = E min(1, B/r)^2 r^4 / (m (m+2))  = F_{m+4}(B^2) + B^2 / (m+2) (1 - F_{m+2}(B^2))

with r = |y| and F_k the distribution function of chi-squared with k degrees of freedom. A shift of the mean comes through
clipping with the factor E min(r^2, B r) / m. `unclip` divides these out, which is right for Gaussian records and within a
few per cent for others; the un-whitened result is never told more precisely than the noise allows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import chdtr, chdtrc, gammaln

from epgfn.privacy.discrete import Floats

_STAGE_ONE_BIAS = 0.1  # how far clipping may have bent a whitened entry of the rough statistic
_MAX_STRETCH = 20.0
LEAST_FACTOR, _MOST_FACTOR = 1.2, 2.4


class Whitening(NamedTuple):
    """x = centre + back @ y and y = (x - centre) @ forward, with y about N(0, I); `eigenvalues` (m,) of the rough covariance."""

    centre: Floats
    forward: Floats
    back: Floats
    eigenvalues: Floats


def floored(matrix: Floats, floor: float) -> Floats:
    """The symmetric matrix with its eigenvalues raised to `floor`."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray((vectors * np.maximum(values, floor)) @ vectors.T)


def whitening(second_moment: Floats, mean: Floats, floor: float) -> Whitening:
    """From a rough second moment about zero and a rough mean, both a record's."""
    values, vectors = np.linalg.eigh(second_moment - np.outer(mean, mean))
    values = np.maximum(values, floor)
    root = np.sqrt(values)
    return Whitening(mean, vectors / root, vectors * root, values)


def clip_factor(relative_noise: float) -> float:
    """Radius of the second clip over sqrt(m): wider where noise is small beside the number of records.

    `relative_noise` is the noise's scale at a radius of 1.4 sqrt(m), over the released n. Fitted to 40 simulated worlds of
    five variables: 1.35 at a relative noise of 4 %, .42 more for each factor of ten below, in steps of .05.
    """
    wanted = 1.35 + 0.42 * math.log10(0.04 / max(relative_noise, 1e-9))
    return round(min(max(wanted, LEAST_FACTOR), _MOST_FACTOR) * 20) / 20


def unclip(moment: Floats, radius: float) -> tuple[Floats, float, float]:
    """The covariance of y before clipping, from E[clipped y y^T]; with c' and the mean's factor at its scale."""
    m = len(moment)
    level = float(np.trace(moment)) / m
    stretch = _stretch(level, radius, m)
    deviation = _deviation_factor(radius / stretch, m)
    covariance = stretch**2 * np.eye(m) + (moment - level * np.eye(m)) / deviation
    return covariance, deviation, _mean_factor(radius / stretch, m)


def weighed(covariance: Floats, noise: float, rough_noise: float, eigenvalues: Floats) -> Floats:
    """Entry by entry the best mix of the identity, which is what stage one says, and the covariance of stage two.

    `noise` and `rough_noise` are the standard deviations of a diagonal entry in both, the latter before whitening.
    """
    m = len(covariance)
    shape = np.where(np.eye(m, dtype=bool), 1.0, 0.5)
    first = (rough_noise**2 / np.outer(eigenvalues, eigenvalues) + _STAGE_ONE_BIAS**2) * shape
    weight = first / (first + noise**2 * shape)
    return np.asarray((1 - weight) * np.eye(m) + weight * covariance)


def _stretch(level: float, radius: float, m: int) -> float:
    """s such that N(0, s^2 I) clipped to the radius has second moment level * I."""
    level = min(max(level, 1e-6), 0.98 * radius**2 / m)
    low, high = 1e-3, _MAX_STRETCH
    for _ in range(50):
        middle = math.sqrt(low * high)
        if middle**2 * _level_factor(radius / middle, m) < level:
            low = middle
        else:
            high = middle
    return low


def _level_factor(radius: float, m: int) -> float:
    square = radius**2
    return float(chdtr(m + 2, square) + square / m * chdtrc(m, square))


def _deviation_factor(radius: float, m: int) -> float:
    square = radius**2
    return float(chdtr(m + 4, square) + square / (m + 2) * chdtrc(m + 2, square))


def _mean_factor(radius: float, m: int) -> float:
    square = radius**2
    mean_norm = math.sqrt(2) * math.exp(gammaln((m + 1) / 2) - gammaln(m / 2))
    return float(chdtr(m + 2, square) + radius * mean_norm / m * chdtrc(m + 1, square))

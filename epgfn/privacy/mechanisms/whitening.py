"""Linear algebra of the two-stage release: all of it works on what was released already, so it costs no privacy.

y ~ N(0, S) clipped to the ball of radius B has a second moment with the eigenvectors of S and the eigenvalues

    g_i(l) = l_i E_u[ u_i^2 (m F_{m+2}(h) + h (1 - F_m(h))) ],    h = B^2 / sum_k l_k u_k^2,

l the eigenvalues of S, u uniform on the sphere and F_k the distribution function of chi-squared with k degrees of freedom. `unclip`
inverts it. Near S = I a small symmetric traceless perturbation E of the covariance changes the moment by c' E, and the clipped
moment of n records says as much about E as the moment of `e n` records that were not clipped:

    c' = F_{m+4}(B^2) + B^2 / (m+2) (1 - F_{m+2}(B^2)),    e = c'^2 / (F_{m+4}(B^2) + B^4 / (m (m+2)) (1 - F_m(B^2))).

A shift of the mean comes through clipping with the factor E min(r^2, B r) / m. This is right for Gaussian records and approximate
for others.

Noise of variance s^2 on the diagonal of a covariance near I and s^2 / 2 beside it has the pattern of sampling error, 2/n and 1/n. So
a noisy covariance is worth `effective_records`, 2 / (2 / (e n) + s^2): scored as if it came from so many records, it claims no
more certainty than it has.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import chdtr, chdtrc, gammaln

from epgfn.privacy.mechanisms.discrete import Floats

_LEAST_VARIANCE, _MOST_VARIANCE = (
    1e-4,
    400.0,
)  # of what was whitened; the most there is where noise fills the ball
_FULLEST = 0.95  # share of B^2 that a clipped second moment's trace is taken for at most
_DIRECTIONS = 320
_ROUNDS = 60
LEAST_FACTOR, _MOST_FACTOR = 1.2, 2.4


class Whitening(NamedTuple):
    """x = centre + back @ y and y = (x - centre) @ forward, with y about N(0, I)."""

    centre: Floats
    forward: Floats
    back: Floats


def whitening(second_moment: Floats, mean: Floats, floor: float) -> Whitening:
    """From a rough second moment about zero and a rough mean, both a record's."""
    values, vectors = np.linalg.eigh(second_moment - np.outer(mean, mean))
    values = np.maximum(values, floor)
    root = np.sqrt(values)
    return Whitening(mean, vectors / root, vectors * root)


def clip_factor(relative_noise: float) -> float:
    """Radius of the second clip over sqrt(m): wider where noise is small beside the number of records.

    `relative_noise` is the noise's scale at a radius of 1.4 sqrt(m), over the released n. Fitted to 40 simulated worlds of
    five variables: 1.35 at a relative noise of 4 %, .42 more for each factor of ten below, in steps of .05.
    """
    wanted = 1.35 + 0.42 * math.log10(0.04 / max(relative_noise, 1e-9))
    return round(min(max(wanted, LEAST_FACTOR), _MOST_FACTOR) * 20) / 20


def unclip(moment: Floats, radius: float, floor: float) -> Floats:
    """The covariance of y before clipping, from E[clipped y y^T], (m, m); the moment's eigenvalues are raised to `floor`."""
    values, vectors = np.linalg.eigh((moment + moment.T) / 2)
    values = np.maximum(values, floor)
    values *= min(1.0, _FULLEST * radius**2 / values.sum())
    found = values
    for _ in range(_ROUNDS):
        found = np.clip(found * values / _clipped(found, radius), _LEAST_VARIANCE, _MOST_VARIANCE)
    return np.asarray((vectors * found) @ vectors.T)


def effective_records(n: float, covariance: Floats, radius: float, noise: float) -> float:
    """How many records, released without clipping and noise, would say as much as `n` records clipped to the radius; at least one.

    `covariance` (m, m) as `unclip` found it; `noise` the standard deviation of a diagonal entry of the clipped second moment.
    """
    level, m = float(np.trace(covariance)) / len(covariance), len(covariance)
    square = radius**2 / level
    through = _deviation_factor(math.sqrt(square), m)
    spread = float(chdtr(m + 4, square) + square**2 / (m * (m + 2)) * chdtrc(m, square))
    return max(1.0, n / (spread / through**2 + n * (noise / through / level) ** 2 / 2))


def mean_factor(covariance: Floats, radius: float) -> float:
    """What clipping leaves of a small shift of the mean."""
    m = len(covariance)
    return _mean_factor(radius / math.sqrt(float(np.trace(covariance)) / m), m)


def _clipped(values: Floats, radius: float) -> Floats:
    """g of the docstring: eigenvalues (m,) before clipping -> after it."""
    m = len(values)
    squares = _directions(m)  # (M, m)
    h = radius**2 / (squares @ values)
    return np.asarray(values * (squares * (m * chdtr(m + 2, h) + h * chdtrc(m, h))[:, None]).mean(0))


@lru_cache(maxsize=8)
def _directions(m: int) -> Floats:
    """(M, m) squared coordinates of points on the sphere, the same whenever asked; rotated through all coordinates, so that each
    has exactly the mean 1/m."""
    drawn = np.square(np.random.default_rng(0).normal(size=(-(-_DIRECTIONS // m), m)))
    drawn /= drawn.sum(1, keepdims=True)
    return np.concatenate([np.roll(drawn, shift, 1) for shift in range(m)])


def _deviation_factor(radius: float, m: int) -> float:
    square = radius**2
    return float(chdtr(m + 4, square) + square / (m + 2) * chdtrc(m + 2, square))


def _mean_factor(radius: float, m: int) -> float:
    square = radius**2
    mean_norm = math.sqrt(2) * math.exp(gammaln((m + 1) / 2) - gammaln(m / 2))
    return float(chdtr(m + 2, square) + radius * mean_norm / m * chdtrc(m + 1, square))

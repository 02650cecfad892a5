"""What a release costs: Gaussian differential privacy, its discrete form, and Poisson-subsampled Gaussians.

A mechanism is mu-GDP if telling two neighbouring data sets apart from its output is no easier than telling N(0, 1) from
N(mu, 1). Adding N(0, sigma^2 I) to a function of L2 sensitivity Delta is exactly mu-GDP with mu = Delta / sigma; adaptive
composition gives mu = sqrt(sum mu_i^2); and mu-GDP is (epsilon, delta)-DP exactly for

    delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu).

Dong, Roth & Su, JRSS-B 84 (2022); Balle & Wang, ICML 2018. Noise here is the discrete Gaussian, which is not exactly
mu-GDP; `discrete_epsilon` pays for the difference (docs/privacy.md proves it). Every number is rounded to the safe side:
epsilon up, mu down.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import version

import numpy as np
from scipy.special import log_ndtr

SAFE = 1e-9
"""Relative margin by which a root is moved to the safe side; bisection and rounding are far below it."""
MARGIN = 5e-7
"""Added to epsilon: more than the discretisation error of accountants that compute the same numerically (dp-accounting's PLD)."""
MAX_EPSILON = 60.0
MAX_MU = 100.0
_TAIL = 16.0  # standard deviations given up in the tail bound of the discrete Gaussian: probability exp(-128)
_PRV_ERROR = 0.01


def gdp_delta(mu: float, epsilon: float) -> float:
    """delta of mu-GDP at epsilon; 0 for mu = 0."""
    if mu <= 0:
        return 0.0
    log_a = float(log_ndtr(mu / 2 - epsilon / mu))
    log_b = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    return math.exp(log_a) * -math.expm1(min(log_b - log_a, 0.0))


def gdp_epsilon(mu: float, delta: float) -> float:
    """Smallest epsilon with delta(epsilon) <= delta, rounded up; infinity above `MAX_EPSILON`.

    Raises:
        ValueError: delta is not inside (0, 1), or mu is negative or not a number.
    """
    _check_delta(delta)
    if not mu >= 0:
        raise ValueError("mu must not be negative")
    if gdp_delta(mu, 0.0) <= delta:
        return 0.0
    if mu > MAX_MU or gdp_delta(mu, MAX_EPSILON) > delta:
        return math.inf
    return _upper_root(lambda e: gdp_delta(mu, e) > delta, 0.0, MAX_EPSILON) * (1 + SAFE) + MARGIN


def gdp_mu(epsilon: float, delta: float) -> float:
    """Largest mu that is (epsilon, delta)-DP, rounded down.

    Raises:
        ValueError: epsilon is not inside (0, `MAX_EPSILON`], or delta not inside (0, 1).
    """
    _check(epsilon, delta)
    inside = max(0.0, epsilon - 1.1 * MARGIN)
    return _upper_root(lambda m: gdp_delta(m, inside) <= delta, 0.0, MAX_MU) * (1 - 2 * SAFE)


def compose(mus: Iterable[float]) -> float:
    """mu of releases one after the other, each free to depend on those before: sqrt(sum mu_i^2)."""
    return math.sqrt(math.fsum(mu * mu for mu in mus))


# --- the discrete Gaussian --------------------------------------------------------------------------------------------


def discrete_slack(entries: int, sigma: float) -> float:
    """How much epsilon the discrete Gaussian costs over the continuous one, for `entries` numbers of at least scale `sigma`.

    With P the product of discrete Gaussians and Q that of rounded continuous ones, both on the integers,
    log dP/dQ <= eta = entries / (8 sigma^2) everywhere and log dQ/dP <= eta + t / (8 sigma^2) outside an event of
    Q-probability at most exp(-128). The slack is the sum of the two bounds.
    """
    root = math.sqrt(entries)
    radius = root + _TAIL + root / (2 * sigma)
    return (2 * entries + radius**2) / (8 * sigma**2)


def discrete_epsilon(mu: float, delta: float, entries: int, sigma: float) -> float:
    """epsilon at delta of discrete Gaussian releases whose continuous twins compose to mu-GDP, rounded up.

    Args:
        mu: composed sensitivity over scale. entries: how many numbers are released in all stages together.
        sigma: the smallest scale among them, in grid units.

    The smaller of two proved bounds: rounded Gaussians plus `discrete_slack`, and zero-concentrated DP with rho = mu^2 / 2
    (Canonne, Kamath & Steinke 2020), which holds on any grid.

    Raises:
        ValueError: a parameter is outside its range.
    """
    _check_delta(delta)
    if entries < 1 or not sigma > 0:
        raise ValueError("a release has at least one entry and a scale above 0")
    concentrated = zcdp_epsilon(mu * mu / 2, delta)
    slack = discrete_slack(entries, sigma)
    left = delta * math.exp(-min(slack, 1.0)) - math.exp(MAX_EPSILON - _TAIL**2 / 2)
    if slack > 0.01 or left <= 0:
        return concentrated
    return min(concentrated, (gdp_epsilon(mu, left) + slack) * (1 + SAFE))


def discrete_mu(epsilon: float, delta: float, entries: int, sigma: Callable[[float], float]) -> float:
    """Largest mu (to 1e-12, rounded down) for which `discrete_epsilon` stays at or below epsilon.

    `sigma(mu)` is the smallest scale, in grid units, that a mechanism of this mu would use.
    """
    _check(epsilon, delta)
    fits = lambda m: discrete_epsilon(m, delta, entries, sigma(m)) <= epsilon  # noqa: E731
    return _upper_root(fits, 0.0, MAX_MU) * (1 - SAFE)


def zcdp_epsilon(rho: float, delta: float) -> float:
    """epsilon at delta of rho-zCDP: inf over a > 1 of a rho + (log(1/delta) + (a-1) log(1-1/a) - log a) / (a-1).

    Any a gives a valid bound, so the search need not be exact. Canonne, Kamath & Steinke, NeurIPS 2020, proposition 12.
    """
    _check_delta(delta)
    if not rho >= 0:
        raise ValueError("rho must not be negative")
    if rho == 0:
        return 0.0
    a = 1 + np.exp(np.linspace(math.log(1e-4), math.log(1e6), 2_000))
    bound = a * rho + (math.log(1 / delta) + (a - 1) * np.log1p(-1 / a) - np.log(a)) / (a - 1)
    return max(0.0, float(bound.min())) * (1 + SAFE)


# --- Poisson-subsampled Gaussians -------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def subsampled_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> float:
    """Upper bound on epsilon of `steps` Gaussian queries on Poisson samples, add/remove adjacency.

    Opacus' PRV accountant (Gopi, Lee & Wutschitz, NeurIPS 2021), its upper bound. Its GDP accountant is never used: it
    rests on a central limit theorem and gives too small an epsilon.

    Raises:
        ValueError: a parameter is outside its range.
    """
    from opacus.accountants import PRVAccountant  # loaded here: it takes seconds

    _check_delta(delta)
    if not (noise_multiplier > 0 and 0 < sample_rate <= 1 and steps >= 1):
        raise ValueError("noise multiplier above 0, sample rate inside (0, 1] and at least one step")
    if sample_rate == 1:
        return gdp_epsilon(math.sqrt(steps) / noise_multiplier, delta)
    accountant = PRVAccountant()
    accountant.history = [(noise_multiplier, sample_rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(accountant.get_epsilon(delta, eps_error=_PRV_ERROR))


def noise_multiplier(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """Smallest noise multiplier (to 1e-3, relative where it is above 1, rounded up) whose `subsampled_epsilon` is at most epsilon.

    Raises:
        ValueError: a parameter is outside its range, or no multiplier up to 1000 is enough.
    """
    _check(epsilon, delta)
    # Where many steps come together they are nearly one Gaussian: from there on, since small noise is slow to account for.
    guess = 1.05 * sample_rate * math.sqrt(steps) / gdp_mu(epsilon, delta)
    low, high = 0.3, min(max(1.0, guess), 1000.0)
    while subsampled_epsilon(high, sample_rate, steps, delta) > epsilon:
        low, high = high, high * 2
        if high > 1000:
            raise ValueError("no noise multiplier up to 1000 is enough; take fewer steps or a larger epsilon")
    while high - low > 1e-3 * max(1.0, high):
        middle = (low + high) / 2
        if subsampled_epsilon(middle, sample_rate, steps, delta) > epsilon:
            low = middle
        else:
            high = middle
    return high


def prv_version() -> str:
    """Name and version of the accountant behind `subsampled_epsilon`."""
    return f"opacus {version('opacus')} PRVAccountant, eps_error {_PRV_ERROR}"


def _upper_root(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where `holds`, true at `low` and false from some point on, changes; to working precision."""
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if holds(middle):
            low = middle
        else:
            high = middle
    return high


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError("delta must be inside (0, 1)")


def _check(epsilon: float, delta: float) -> None:
    _check_delta(delta)
    if not 0 < epsilon <= MAX_EPSILON:
        raise ValueError(f"epsilon must be above 0 and at most {MAX_EPSILON:g}")

"""Attacks a release: runs it thousands of times with and without one record, and measures the epsilon it really has.

The attacker gets a score of each output (best: the log-likelihood ratio of the two data sets) and thresholds it. If the
release is mu-GDP, no threshold has false-positive and false-negative rates with Phi^-1(1 - FPR) - Phi^-1(FNR) > mu; so exact
(Clopper-Pearson) upper limits on both rates give a lower limit on mu, and mu an epsilon at delta (Nasr et al., USENIX
Security 2023). For DP-SGD the same with its own family, Poisson-subsampled Gaussians of the claimed rate and steps: the largest noise
whose whole curve FNR + e^epsilon(d) FPR >= 1 - d allows the observed rates.

The threshold is chosen on one half of the runs and judged on the other. A measured epsilon above the claimed one means that
the code is wrong, at the stated confidence; one below it proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import beta

from epgfn.privacy import accounting
from epgfn.privacy.mechanisms.discrete import Floats

_THRESHOLDS = 400
_CURVE = (0.01, 0.2)  # deltas at which the curve of a subsampled Gaussian is looked at
_LEAST_NOISE, _MOST_NOISE, _STEP = 0.4, 12.8, 1.1
Convert = Callable[[float, float], float]
"""Upper limits of the false-positive and false-negative rates -> measured epsilon."""


@dataclass(frozen=True)
class Measured:
    """`epsilon`: measured lower limit, at one-sided `confidence`; `claimed`; `runs` on each data set; the two rates' upper limits."""

    claimed: float
    epsilon: float
    false_positive: float
    false_negative: float
    confidence: float
    runs: int

    @property
    def broken(self) -> bool:
        """The release is not as private as it claims."""
        return self.epsilon > self.claimed


def attack(
    release: Callable[[Any], Any],
    score: Callable[[Any], float],
    without: Any,
    with_record: Any,
    *,
    claimed: float,
    convert: Convert,
    runs: int,
    confidence: float = 0.95,
) -> Measured:
    """Release both data sets `runs` times each and measure epsilon; `score` is large where `with_record` seems likelier."""
    scores = [np.array([score(release(data)) for _ in range(runs)]) for data in (without, with_record)]
    return measure(*scores, claimed=claimed, convert=convert, confidence=confidence)


def measure(
    without: Floats, with_record: Floats, *, claimed: float, convert: Convert, confidence: float = 0.95
) -> Measured:
    """The measured epsilon from the scores of both sides, (runs,) each."""
    half = min(len(without), len(with_record)) // 2
    levels = np.linspace(0.001, 0.999, _THRESHOLDS)
    thresholds = np.unique(np.quantile(np.concatenate([without[:half], with_record[:half]]), levels))
    _, threshold, sign = max(
        (_separation(*_rates(without[:half], with_record[:half], t, sign, confidence)), t, sign)
        for t in thresholds
        for sign in (1, -1)
    )
    rates = _rates(without[half:], with_record[half:], threshold, sign, confidence)
    epsilon = convert(*rates) if sum(rates) < 1 else 0.0
    return Measured(claimed, epsilon, *rates, confidence, 2 * half)


def gaussian(delta: float) -> Convert:
    """For releases that claim Gaussian DP."""
    return lambda fp, fn: accounting.gdp_epsilon(max(0.0, _separation(fp, fn)), delta)


def subsampled(rate: float, steps: int, delta: float) -> Convert:
    """For DP-SGD that claims Poisson samples at `rate` and `steps` steps."""

    def allows(noise: float, rates: tuple[float, float]) -> bool:
        fp, fn = max(rates), min(rates)
        return all(
            fn + math.exp(min(accounting.subsampled_epsilon(noise, rate, steps, d), 500.0)) * fp >= 1 - d
            and fp + math.exp(min(accounting.subsampled_epsilon(noise, rate, steps, d), 500.0)) * fn >= 1 - d
            for d in _CURVE
        )

    def convert(fp: float, fn: float) -> float:
        # From above, since small noise is slow to account for; `high` never allows the rates, so it errs to the safe side.
        low = high = _MOST_NOISE
        while not allows(low, (fp, fn)):
            low, high = low / 2, low
            if low < _LEAST_NOISE:
                return accounting.subsampled_epsilon(high, rate, steps, delta)
        while high / low > _STEP:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if allows(middle, (fp, fn)) else (low, middle)
        return accounting.subsampled_epsilon(high, rate, steps, delta)

    return convert


def _separation(false_positive: float, false_negative: float) -> float:
    return float(ndtri(1 - false_positive) - ndtri(false_negative))


def _rates(
    without: Floats, with_record: Floats, threshold: float, sign: int, confidence: float
) -> tuple[float, float]:
    """Upper limits on both rates of calling "with" where sign * score > sign * threshold; ties go to "without"."""
    false_positives = int((sign * without > sign * threshold).sum())
    false_negatives = int((sign * with_record <= sign * threshold).sum())
    return (
        _upper(false_positives, len(without), confidence),
        _upper(false_negatives, len(with_record), confidence),
    )


def _upper(count: int, runs: int, confidence: float) -> float:
    """Clopper-Pearson upper limit of a rate; half of the error goes to each of the two rates."""
    if count >= runs:
        return 1.0
    return float(beta.ppf(1 - (1 - confidence) / 2, count + 1, runs - count))

"""Attacks a release: runs it thousands of times with and without one record, and measures the epsilon it really has.

The attacker gets a score of each output (best: the log-likelihood ratio of the two data sets) and thresholds it. If the
release is mu-GDP, no threshold has false-positive and false-negative rates with Phi^-1(1 - FPR) - Phi^-1(FNR) > mu; so exact
(Clopper-Pearson) upper limits on both rates give a lower limit on mu, and mu an epsilon at delta (Nasr et al., USENIX
Security 2023). For mechanisms that are not Gaussian, the bound that any (epsilon, delta)-DP release obeys:
FNR + e^epsilon FPR >= 1 - delta and the reverse.

The threshold is chosen on one half of the runs and judged on the other. A measured epsilon above the claimed one means that
the code is wrong, at the stated confidence; one below it proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import ndtri
from scipy.stats import beta

from epgfn.privacy import accounting
from epgfn.privacy.discrete import Floats

_THRESHOLDS = 400
Test = Literal["gaussian", "any"]


@dataclass(frozen=True)
class Measured:
    """`epsilon`: measured lower limit at `delta`, at one-sided `confidence`; `claimed`; `runs` on each data set."""

    claimed: float
    epsilon: float
    mu: float
    delta: float
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
    delta: float,
    runs: int,
    test: Test = "gaussian",
    confidence: float = 0.95,
) -> Measured:
    """Release both data sets `runs` times each and measure epsilon; `score` is large where `with_record` seems likelier."""
    scores = [np.array([score(release(data)) for _ in range(runs)]) for data in (without, with_record)]
    return measure(*scores, claimed=claimed, delta=delta, test=test, confidence=confidence)


def measure(
    without: Floats,
    with_record: Floats,
    *,
    claimed: float,
    delta: float,
    test: Test = "gaussian",
    confidence: float = 0.95,
) -> Measured:
    """The measured epsilon from the scores of both sides, (runs,) each."""
    half = min(len(without), len(with_record)) // 2
    levels = np.linspace(0.001, 0.999, _THRESHOLDS)
    thresholds = np.unique(np.quantile(np.concatenate([without[:half], with_record[:half]]), levels))
    best, chosen = -math.inf, (float(thresholds[0]), 1)
    for threshold in thresholds:
        for sign in (1, -1):
            found = _value(without[:half], with_record[:half], threshold, sign, delta, test, confidence)
            if found > best:
                best, chosen = found, (float(threshold), sign)
    value = _value(without[half:], with_record[half:], *chosen, delta, test, confidence)
    value = max(0.0, value)
    mu = value if test == "gaussian" else 0.0
    epsilon = accounting.gdp_epsilon(value, delta) if test == "gaussian" else value
    return Measured(claimed, epsilon, mu, delta, confidence, 2 * half)


def _value(
    without: Floats,
    with_record: Floats,
    threshold: float,
    sign: int,
    delta: float,
    test: Test,
    confidence: float,
) -> float:
    """Lower limit on mu, or on epsilon, of calling "with" where sign * score > sign * threshold; ties go to "without"."""
    false_positive = _upper(int((sign * without > sign * threshold).sum()), len(without), confidence)
    false_negative = _upper(int((sign * with_record <= sign * threshold).sum()), len(with_record), confidence)
    if test == "gaussian":
        return float(ndtri(1 - false_positive) - ndtri(false_negative))
    ratios = [
        (1 - delta - a) / b for a, b in ((false_negative, false_positive), (false_positive, false_negative))
    ]
    return math.log(max(*ratios, 1.0))


def _upper(count: int, runs: int, confidence: float) -> float:
    """Clopper-Pearson upper limit of a rate; half of the error goes to each of the two rates."""
    if count >= runs:
        return 1.0
    return float(beta.ppf(1 - (1 - confidence) / 2, count + 1, runs - count))

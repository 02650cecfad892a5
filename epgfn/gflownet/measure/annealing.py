"""What populations of Markov chains that cool down have in common, whatever they are chains of."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

KEPT_SHARE: Final = 0.8
"""Of a population's chains, effectively, from one temperature to the next."""


def next_beta(beta: float, score: npt.NDArray[np.float64], kept: float = KEPT_SHARE) -> float:
    """The inverse temperature, at most 1, at which chains of (C,) `score` (nats) are effectively a share `kept` of what they are at
    `beta`."""

    def share(after: float) -> float:
        weight = np.exp((after - beta) * (score - score.max()))
        return float(weight.sum() ** 2 / (weight**2).sum() / len(weight))

    if share(1.0) >= kept:
        return 1.0
    low, high = beta, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) >= kept else (low, middle)
    return max(low, math.nextafter(beta, 2.0))


def rows_drawn_anew(
    log_weight: npt.NDArray[np.float64], random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """(C,) rows of as many chains, each in proportion to its weight (systematic resampling)."""
    weight = np.exp(log_weight - log_weight.max())
    below = np.cumsum(weight / weight.sum())
    level = (random.random() + np.arange(len(weight))) / len(weight)
    return np.minimum(np.searchsorted(below, level), len(weight) - 1)

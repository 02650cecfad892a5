"""Whether a model may be believed, from its own samples weighted towards the target it was trained on. No truth is needed.

    weights   log w = log R(x) + log p_B(tau | x) - log p_F(tau), tau ~ p_F: all equal where the flow is right
    share     effective sample size over sample size, (sum w)^2 / (n sum w^2)
    k-hat     shape of a generalised Pareto distribution fitted to the largest weights: above .7 they are too heavy-tailed for
              any average over them to be trusted (Vehtari et al., JMLR 25 (2024), arXiv 1507.02646)

Own samples cannot show a mode that a model never visits. So weights alone never make a verdict "good": that takes an answer from
elsewhere, such as exact probabilities, or objects drawn by others (`measure.coverage`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

Verdict = Literal["good", "usable after weighting", "not to be relied on"]
LARGEST_ERROR: Final = 0.05
"""Of any probability a model gives, against the exact one, where it is known: half of what makes a posterior wrong."""
LARGEST_KHAT, LEAST_SAMPLES = 0.7, 200.0
"""Beyond this k-hat, or with fewer effective samples, weighted averages are no more to be relied on than plain ones."""
ENOUGH_SAMPLES: Final = 1000.0
"""Effective samples without which nothing is called good by weights: fewer are off by .05 too easily."""

CHAINS_AGREE: Final = 0.1
"""Halves of Markov chains that differ by more in one edge give no answer: together they are off by about half as much, or more."""

TIES: Final = 1e-3
"""Weights that differ by less are those of one object, and rounding: no tail."""
FEW_TIMES: Final = 10.0
"""Where the largest of many weights is no more than so many times their mean there is no heavy tail, whatever is fitted to the few
values that weights of few objects take."""

LEAST_KHAT: Final = -1.0
"""Below it tails are so light that the number says nothing more."""


def pareto_khat(log_weight: Tensor) -> float:
    """k-hat of (n,) log weights: at least -1, which is that of a uniform distribution, and given where all are equal; +inf where there are
    too few to tell (fewer than 25).

    The largest min(n / 5, 3 sqrt(n)) weights' excess over the next is fitted by Zhang & Stephens' estimator (Technometrics 51 (2009)),
    with the weak prior of Vehtari et al. towards .5.
    """
    log_weight_of = np.sort(log_weight.double().numpy())
    n = len(log_weight_of)
    tail = math.ceil(min(n / 5, 3 * math.sqrt(n)))
    if tail < 5:
        return math.inf
    weight = np.exp(log_weight_of - log_weight_of[-1])
    excess = weight[-tail:] - weight[-tail - 1]
    excess = excess[excess > TIES * weight[-tail - 1]]
    if len(excess) < 5:
        return LEAST_KHAT
    tail = len(excess)
    found = float((tail * _pareto_shape(excess) + 10 * 0.5) / (tail + 10))
    found = max(found, LEAST_KHAT)
    return min(found, 0.5) if weight.mean() * FEW_TIMES >= 1 else found


def _pareto_shape(x: npt.NDArray[np.float64]) -> float:
    """Shape k of sorted (n,) excesses; positive is heavy-tailed."""
    n = len(x)
    grid = 30 + math.isqrt(n)
    quarter = x[math.floor(n / 4 + 0.5) - 1]
    theta = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / 3 / quarter
    theta[theta == 0] = 1e-12 / x[-1]  # the exponential distribution, which is the limit
    k = np.log1p(-theta[:, None] * x).mean(1)
    log_likelihood = n * (np.log(-theta / k) - k - 1)
    weight = np.exp(log_likelihood - log_likelihood.max())
    weight /= weight.sum()
    best = float((theta * weight).sum())
    return float(np.log1p(-best * x).mean())


def weights_hold(effective_samples: float, khat: float) -> bool:
    """Whether averages over weighted samples are to be relied on."""
    return khat <= LARGEST_KHAT and effective_samples >= LEAST_SAMPLES


def verdict_of(
    *,
    effective_samples: float,
    khat: float,
    moved: float,
    largest_error: float | None = None,
    weighted_error: float | None = None,
    missing: float | None = None,
    chains_error: float | None = None,
    chains_weighted_error: float | None = None,
    chains_apart: float = 0.0,
    chains_silent: bool = False,
) -> Verdict:
    """The grade of a model: "good" of its samples as they are.

    Args:
        moved: the most that weighting moves any probability. largest_error, weighted_error: of any of them before and after weighting,
            where the exact answer is known. missing: the share of the target that objects from elsewhere show to be lacking, where it is
            not known and such objects were looked at. chains_error, chains_weighted_error: of any probability before and after weighting
            against Markov chains that agree among themselves, where the exact answer is not known; `chains_apart` how far halves of them
            differ, and so how far they may be off, which a model that is near them shares; `chains_silent` where they do not agree, so
            that nobody knows: the objects that the model was taught, and that it is judged by, come from the same chains, and what these
            missed nobody has seen.
    """
    holds = weights_hold(effective_samples, khat)
    if largest_error is not None:
        if largest_error <= LARGEST_ERROR:
            return "good"
        after = largest_error if weighted_error is None else weighted_error
        return "usable after weighting" if holds and after <= LARGEST_ERROR else "not to be relied on"
    if chains_error is not None and (missing or 0.0) <= LARGEST_ERROR:
        if chains_error <= min(LARGEST_ERROR, CHAINS_AGREE - chains_apart):
            return "good"
        after = chains_error if chains_weighted_error is None else chains_weighted_error
        return "usable after weighting" if holds and after <= LARGEST_ERROR else "not to be relied on"
    if chains_silent or not holds or moved > 2 * LARGEST_ERROR or (missing or 0.0) > LARGEST_ERROR:
        return "not to be relied on"  # so far off, there may be more that nothing shows
    good = missing is not None and moved <= LARGEST_ERROR and effective_samples >= ENOUGH_SAMPLES
    return "good" if good else "usable after weighting"


def error_of_product(spreads: Sequence[float]) -> float:
    """The most that errors of models, of standard deviation `spreads` nats in log p, move a probability under their product by:
    between two halves of the mass a difference of s nats moves s / 4, and independent errors add up to s = sqrt(sum of squares)."""
    return math.sqrt(sum(spread**2 for spread in spreads)) / 4


def verdict_of_product(verdict: Verdict, error: float, *, contradict: bool, strange: bool = False) -> Verdict:
    """The grade of a model that was held against a product of models which may be wrong themselves by `error` (`error_of_product`). Models
    that `contradict` one another say little of where their product lies; one that is `strange` there was hardly ever there, and neither
    its own consistency nor that of the product with itself says whether it is right (`measure.overlap`)."""
    if error > 2 * LARGEST_ERROR or strange:
        return "not to be relied on"
    if verdict == "good" and (error > LARGEST_ERROR or contradict):
        return "usable after weighting"
    return verdict

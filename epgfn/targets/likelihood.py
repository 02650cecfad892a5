"""Maximised likelihoods of x_j | x_Pa ~ N(b + theta^T x_Pa, sigma_j^2): fixed variance, profiled variance, BIC.

With RSS_j(Pa) = min over b and theta of sum (x_j - b - theta^T x_Pa)^2 = det S[Pa + j] / det S[Pa], S the scatter about the
records' own mean (`target.mean = "known"`: b = 0 and S = X^T X, about the study's public centre):

    max-likelihood       -n/2 log(2 pi sigma^2) - RSS / (2 sigma^2)             sigma fixed by the study
    profile-likelihood   -n/2 (log(2 pi RSS / n) + 1)                           sigma_j^2 = RSS / n as well
    bic                  profile-likelihood - p / 2 * log n                     n: this party's own records

p = |Pa| + 2 counts the coefficients, the intercept and the variance (|Pa| + 1 with a known mean). The first is the score of
the EP-GFlowNet paper's federated example (da Silva et al., ICML 2024): R(G | D) = prod_i max over theta of
P(D_i | G, theta). An added parent never lowers the first two, so their posteriors favour dense graphs; BGe and BIC do not.

Where a variable is a linear combination of others RSS is zero. The fixed variance scores that as it is; the other two have
no maximum there, and refuse, naming the variables.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError
from epgfn.gflownet.spaces.base import distinct, pack_bits
from epgfn.targets.gaussian import (
    DegenerateError,
    Mean,
    Moments,
    Settings,
    correlation,
    factorise,
    log_unexplained,
    require_scale,
)


def max_likelihood(moments: Moments, sets: Tensor, settings: Settings) -> Tensor:
    """Log-likelihood at the best b and theta for fixed sigma, nats: n, mean and scatter, (K,) -> (V, K) float64; undefined where j is
    in Pa.

    Raises:
        DegenerateError: columns are far off the study's scale.
    """
    scatter = moments.of_score(settings.mean)
    require_scale(scatter, moments.n, settings.sigma**2, moments.judged)
    rss = scatter.diagonal()[:, None] * log_unexplained(scatter, sets).exp()
    return _fixed_variance(rss, moments.n, settings.sigma)


def profile_likelihood(moments: Moments, sets: Tensor, settings: Settings) -> Tensor:
    """Log-likelihood at the best b, theta and sigma_j, nats: as `max_likelihood`.

    Raises:
        DegenerateError: a variable is a linear combination of others, or constant.
        EpgfnError: the records are too few to leave anything unexplained by as many parents.
    """
    scatter, n = moments.of_score(settings.mean), moments.n
    _require_records(n, int(sets.sum(1).max()) + (settings.mean == "unknown"))
    left = log_unexplained(scatter, sets)
    members = sets.T  # (V, K)
    _require_full_rank(left, members if moments.judged is None else members | ~moments.judged[:, None])
    log_rss = (scatter.diagonal()[:, None].log() + left).masked_fill(members, 0.0)
    return -n / 2 * (math.log(2 * math.pi / n) + 1 + log_rss)


def bic(moments: Moments, sets: Tensor, settings: Settings) -> Tensor:
    """Profile likelihood less half of log n a parameter, nats: as `profile_likelihood`."""
    parameters = sets.sum(1).double() + (1 if settings.mean == "known" else 2)
    return profile_likelihood(moments, sets, settings) - parameters / 2 * math.log(moments.n)


def pooled_profile_score(
    records: Tensor, adjacency: Tensor, sigma: float = 1.0, mean: Mean = "unknown"
) -> Tensor:
    """Score(G) = sum_i max over theta of log P(D_i | G, theta) on pooled records, in nats.

    X_i | X_Pa ~ N(b + theta^T x_Pa, sigma^2) with sigma fixed, b = 0 where the mean is known. Whoever computes it holds
    everybody's records: it is for demonstrations and simulations. Each distinct (variable, parent set) is fitted once,
    whatever its size.

    Args:
        records: (n, V); adjacency: (B, V, V) bool, [b, i, j] = edge i -> j; sigma: standard deviation, > 0.

    Returns:
        (B,) float64.

    Raises:
        DegenerateError: a column is not finite, or its spread is lost in rounding.
    """
    moments = Moments.of_records(records)
    scatter = moments.of_score(mean)
    parents = adjacency.transpose(1, 2)  # (B, V, V)
    every = torch.stack([parents, parents | torch.eye(adjacency.shape[1], dtype=torch.bool)])
    first, where = distinct(pack_bits(every.flatten(0, 2)))
    log_det, rank = factorise(correlation(scatter), every.flatten(0, 2)[first])
    without, family = where.view(every.shape[:3])
    share = torch.where(rank[family] > rank[without], (log_det[family] - log_det[without]).exp(), 0.0)
    return _fixed_variance(scatter.diagonal() * share, moments.n, sigma).sum(1)


def _require_records(n: float, coefficients: int) -> None:
    if n < coefficients + 1:
        raise EpgfnError(
            f"there are too few records: with as many parents as the study allows this target needs at least {coefficients + 1}; "
            'lower space.max_parents, or take target "bge", whose prior serves where records are few'
        )


def _require_full_rank(left: Tensor, members: Tensor) -> None:
    singular = torch.isneginf(left) & (~members)
    if bool(singular.any()):
        j, k = singular[:, singular.any(0).nonzero()[0, 0]].nonzero()[0, 0], singular.any(0).nonzero()[0, 0]
        named = sorted({int(j), *members[:, k].nonzero()[:, 0].tolist()})
        raise DegenerateError(
            named,
            "they are linear combinations of each other, so that this target has no maximum; leave one of them out of the study",
        )


def _fixed_variance(rss: Tensor, n: float, sigma: float) -> Tensor:
    return -n / 2 * math.log(2 * math.pi * sigma**2) - rss / (2 * sigma**2)

"""Maximised likelihoods of x_j | x_Pa ~ N(theta^T x_Pa, sigma_j^2): fixed variance, profiled variance, BIC.

With RSS_j(Pa) = min over theta of sum (x_j - theta^T x_Pa)^2 = det S[Pa + j] / det S[Pa], S = X^T X with the ridge of
`gaussian.ridged`, and no intercept (the study's public centre is the zero):

    max-likelihood       -n/2 log(2 pi sigma^2) - RSS / (2 sigma^2)             sigma fixed by the study
    profile-likelihood   -n/2 (log(2 pi RSS / n) + 1)                           sigma_j^2 = RSS / n as well
    bic                  profile-likelihood - (|Pa| + 1) / 2 * log n            n: this party's own records

The first is the score of the EP-GFlowNet paper's federated example (da Silva et al., ICML 2024): R(G | D) = prod_i max
over theta of P(D_i | G, theta). An added parent never lowers the first two, so their posteriors favour dense graphs;
BGe and BIC do not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from epgfn.gflownet.spaces.parent_sets import popcount
from epgfn.targets.gaussian import Settings, family_log_determinants, log_determinants, ridged, scatter


def max_likelihood(statistic: Tensor, n: float, masks: Tensor, settings: Settings) -> Tensor:
    """Log-likelihood at the best theta for fixed sigma, nats: X^T X (V, V), n, (K,) -> (V, K) float64; undefined where j is in Pa."""
    return _fixed_variance(_log_rss(statistic, masks), n, settings.sigma)


def profile_likelihood(statistic: Tensor, n: float, masks: Tensor, settings: Settings) -> Tensor:
    """Log-likelihood at the best theta and sigma_j, nats: as `max_likelihood`."""
    return -n / 2 * (math.log(2 * math.pi / n) + 1 + _log_rss(statistic, masks))


def bic(statistic: Tensor, n: float, masks: Tensor, settings: Settings) -> Tensor:
    """Profile likelihood less half of log n a parameter, nats: as `max_likelihood`."""
    parameters = popcount(masks).double() + 1
    return profile_likelihood(statistic, n, masks, settings) - parameters / 2 * math.log(n)


def pooled_profile_score(records: Tensor, adjacency: Tensor, sigma: float = 1.0) -> Tensor:
    """Score(G) = sum_i max over theta of log P(D_i | G, theta) on pooled records, in nats.

    X_i | X_Pa ~ N(theta^T X_Pa, sigma^2) with sigma fixed. Whoever computes it holds everybody's records: it is for
    demonstrations and simulations. Each distinct (variable, parent set) is fitted once, whatever its size.

    Args:
        records: (n, V); adjacency: (B, V, V) bool, [b, i, j] = edge i -> j; sigma: standard deviation, > 0.

    Returns:
        (B,) float64.

    Raises:
        EpgfnError: the records are degenerate.
    """
    n_variables = adjacency.shape[1]
    bits = 1 << torch.arange(n_variables)
    parents = (adjacency.to(torch.int64) * bits[:, None]).sum(1)  # (B, V)
    sets, where = torch.unique(torch.stack([parents, parents | bits]), return_inverse=True)
    log_dets = log_determinants(ridged(scatter(records)), sets)[where]  # (2, B, V)
    return _fixed_variance(log_dets[1] - log_dets[0], len(records), sigma).sum(1)


def _log_rss(statistic: Tensor, masks: Tensor) -> Tensor:
    """log RSS_j(Pa), (V, K)."""
    log_dets = family_log_determinants(ridged(statistic.double()), masks)
    return log_dets.families - log_dets.parents


def _fixed_variance(log_rss: Tensor, n: float, sigma: float) -> Tensor:
    return -n / 2 * math.log(2 * math.pi * sigma**2) - log_rss.exp() / (2 * sigma**2)

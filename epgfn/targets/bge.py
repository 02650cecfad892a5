"""BGe: the marginal likelihood of a linear-Gaussian network, equal for Markov-equivalent graphs.

Zero-mean form. x ~ N(0, W^-1), W ~ Wishart(alpha_w degrees of freedom, parametric matrix T = t I), so that a set Y of l
variables has

    p(D_Y) = pi^(-l n / 2) * Gamma_l((n + a_l) / 2) / Gamma_l(a_l / 2) * |T_YY|^(a_l / 2) / |R_YY|^((n + a_l) / 2),
    R = T + X^T X,   a_l = alpha_w - V + l,

and the local score is log p(D_{Pa + j}) - log p(D_Pa). Geiger & Heckerman, Annals of Statistics 30 (2002), with the
corrected block degrees of freedom of Kuipers, Moffa & Heckerman, Annals of Statistics 42 (2014).

Their form also integrates over an unknown mean with precision alpha_mu W, which adds n alpha_mu / (n + alpha_mu) times the
outer product of (sample mean - prior mean) to R and centres X^T X by the sample mean. We take the mean as known, and zero after the
study's public centring, because then the statistic is X^T X alone: it adds up over parties, its release has a fixed
sensitivity, and no party's own mean moves its scale. A study whose public centres are far off pays for it in fit, so
centres should come from the literature or a pilot. alpha_mu enters only through Kuipers' choice
t = alpha_mu (alpha_w - V - 1) / (alpha_mu + 1), which with their unknown mean gives a record the prior covariance I, and
with the known mean alpha_mu / (alpha_mu + 1) I.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.spaces.parent_sets import popcount
from epgfn.targets.gaussian import Settings, family_log_determinants


def score(statistic: Tensor, n: float, masks: Tensor, settings: Settings) -> Tensor:
    """log p(D_{Pa + j}) - log p(D_Pa) in nats: X^T X (V, V), n, (K,) -> (V, K) float64; undefined where j is in Pa.

    Raises:
        UsageError: alpha_w is not above V + 1. EpgfnError: the records are degenerate.
    """
    alpha_w = len(statistic) + 2.0 if settings.alpha_w is None else settings.alpha_w
    return bge(statistic, n, masks, alpha_mu=settings.alpha_mu, alpha_w=alpha_w)


def bge(statistic: Tensor, n: float, masks: Tensor, *, alpha_mu: float, alpha_w: float) -> Tensor:
    """The same from the sufficient statistic: X^T X (V, V) and the number of records n."""
    n_variables = statistic.shape[0]
    if alpha_w <= n_variables + 1:
        raise UsageError(
            f"target.alpha_w must be above the number of variables plus one ({n_variables + 1}); leave it out for {n_variables + 2}"
        )
    t = alpha_mu * (alpha_w - n_variables - 1) / (alpha_mu + 1)
    prior = t * torch.eye(n_variables, dtype=torch.float64)
    log_dets = family_log_determinants(prior + statistic.double(), masks)
    parents = popcount(masks).double()  # (K,)
    freedom = alpha_w - n_variables + parents  # of the parents' block; the family's has one more
    return (
        torch.lgamma((n + freedom + 1) / 2)
        - torch.lgamma((freedom + 1) / 2)
        - n / 2 * math.log(math.pi)
        + (freedom + parents + 1) / 2 * math.log(t)
        + (n + freedom) / 2 * log_dets.parents
        - (n + freedom + 1) / 2 * log_dets.families
    )

"""BGe: the marginal likelihood of a linear-Gaussian network, equal for Markov-equivalent graphs.

x ~ N(mu, W^-1), W ~ Wishart(alpha_w degrees of freedom, parametric matrix T = t I). With S the scatter of n records about
their mean m, a_l = alpha_w - V + l and R below, a set Y of l variables has

    log p(D_Y) = -(l n / 2) log pi + log Gamma_l((n + a_l) / 2) - log Gamma_l(a_l / 2)
                 + (a_l / 2) log |T_YY| - ((n + a_l) / 2) log |R_YY| + l c,

and the local score is log p(D_{Pa + j}) - log p(D_Pa). Geiger & Heckerman, Annals of Statistics 30 (2002), with the block
degrees of freedom of Kuipers, Moffa & Heckerman, Annals of Statistics 42 (2014). What is known of the mean:

    unknown, flat           R = T + S,                                       c = -(log n) / 2
    unknown, alpha_mu > 0   R = T + S + n alpha_mu / (n + alpha_mu) m m^T,   c = log(alpha_mu / (n + alpha_mu)) / 2
    known                   R = T + X^T X,                                   c = 0

Flat (alpha_mu = 0, the default) is the limit alpha_mu -> 0 of mu ~ N(0, (alpha_mu W)^-1), less log alpha_mu / 2 of each
variable, which is the same for every graph: nothing depends on m, so adding a constant to a column changes no score. A density
of mu that is uniform whatever W is would have n - 1 in place of n.

t is on the study's scale: with alpha_w = V + 2, the default, t is the prior mean of each variable's variance.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.targets.gaussian import (
    DegenerateError,
    Moments,
    Settings,
    correlation,
    factorise_families,
    require_scale,
)

DEFAULT_T = 1.0
KNOWN_MEAN_ALPHA_MU = 1.0
_TOLERANCE = 1e-15


def score(moments: Moments, sets: Tensor, settings: Settings) -> Tensor:
    """log p(D_{Pa + j}) - log p(D_Pa) in nats: n, mean and scatter, (K,) -> (V, K) float64; undefined where j is in Pa.

    Raises:
        UsageError: alpha_w is not above V + 1. DegenerateError: columns are far off the study's scale.
    """
    known = _known(moments, settings)
    require_scale(moments.of_score(settings.mean), moments.n, known.t, moments.judged)
    return bge(known.scatter, moments.n, sets, t=known.t, alpha_w=known.alpha_w) + known.constant


class Precision(NamedTuple):
    """What records say of W under a complete graph: Wishart with `degrees` of freedom and parametric matrix `r` (V, V) float64, R above."""

    r: Tensor
    degrees: float


def precision(moments: Moments, settings: Settings) -> Precision:
    """The posterior of W, of which any graph's parameters are made: by parameter modularity a variable has given its parents the
    coefficients and the variance that it has in the block of its family, whatever the rest of the graph.

    Raises:
        UsageError: alpha_w is not above V + 1.
    """
    known, v = _known(moments, settings), len(moments.scatter)
    _check(known.alpha_w, v)
    return Precision(
        known.scatter.double() + known.t * torch.eye(v, dtype=torch.float64), known.alpha_w + moments.n
    )


class _Known(NamedTuple):
    """R - T, t, alpha_w and c of the module's table."""

    scatter: Tensor
    t: float
    alpha_w: float
    constant: float


def _known(moments: Moments, settings: Settings) -> _Known:
    v = len(moments.scatter)
    alpha_w = v + 2.0 if settings.alpha_w is None else settings.alpha_w
    if settings.mean == "known":
        alpha_mu = KNOWN_MEAN_ALPHA_MU if settings.alpha_mu is None else settings.alpha_mu
        t = known_mean_t(alpha_mu, alpha_w, v) if settings.t is None else settings.t
        return _Known(moments.about_zero, t, alpha_w, 0.0)
    t = DEFAULT_T if settings.t is None else settings.t
    scatter, constant = unknown_mean(moments, settings.alpha_mu or 0.0)
    return _Known(scatter, t, alpha_w, constant)


def unknown_mean(moments: Moments, alpha_mu: float) -> tuple[Tensor, float]:
    """R - T (V, V) and c of the module's table; `alpha_mu` 0 for the flat prior."""
    scatter, n = moments.about_mean(), moments.n
    if alpha_mu == 0 or moments.mean is None:
        return scatter, -math.log(n) / 2
    pull = n * alpha_mu / (n + alpha_mu)
    outer = torch.outer(moments.mean, moments.mean)
    return scatter + pull * outer, math.log(alpha_mu / (n + alpha_mu)) / 2


def known_mean_t(alpha_mu: float, alpha_w: float, n_variables: int) -> float:
    """The t of studies with a known mean that set none: Kuipers, Moffa & Heckerman's choice. Errors as `bge`."""
    _check(alpha_w, n_variables)
    return alpha_mu * (alpha_w - n_variables - 1) / (alpha_mu + 1)


def bge(scatter: Tensor, n: float, sets: Tensor, *, t: float, alpha_w: float) -> Tensor:
    """The score without c, from R - T (V, V) and n: (V, K) float64.

    Raises:
        UsageError: alpha_w is not above V + 1. DegenerateError: R is not positive definite to working precision.
    """
    v = scatter.shape[0]
    _check(alpha_w, v)
    r = scatter.double() + t * torch.eye(v, dtype=torch.float64)
    scale = r.diagonal().log()  # (V,)
    found = factorise_families(correlation(r), sets, _TOLERANCE)
    parents = sets.sum(1)
    short = (found.families.rank <= parents) & ~sets.T
    if bool(short.any()) or not bool(torch.isfinite(scale).all()):
        j, k = short.nonzero()[0].tolist() if bool(short.any()) else (0, 0)
        named = sorted({j, *sets[k].nonzero()[:, 0].tolist()})
        raise DegenerateError(
            named,
            "they differ too much in size, or are linear combinations of each other; check their centres and scales",
        )
    of_parents = found.parents.log_det + sets.double() @ scale
    of_families = found.families.log_det + sets.double() @ scale + scale[:, None]
    size = parents.double()
    below = alpha_w - v + size  # a_l of the parents' block; the family's is one more
    return (
        torch.lgamma((n + below + 1) / 2)
        - torch.lgamma((below + 1) / 2)
        - n / 2 * math.log(math.pi)
        + (below + size + 1) / 2 * math.log(t)
        + (n + below) / 2 * of_parents
        - (n + below + 1) / 2 * of_families
    )


def _check(alpha_w: float, n_variables: int) -> None:
    if alpha_w <= n_variables + 1:
        raise UsageError(
            f"target.alpha_w must be above the number of variables plus one ({n_variables + 1}); leave it out for {n_variables + 2}"
        )

"""Public priors over graphs as local shares: log pi(G) = sum_j log pi_j(Pa_j), up to a constant.

uniform: 0. edge: prod over edges of p / (1 - p), so each parent adds the log-odds of one edge. fan-in: every number of parents
is as likely as any other, and so are the sets of one size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from epgfn.gflownet.spaces.parent_sets import popcount


def log_prior(masks: Tensor, n_variables: int, log_edge_odds: float) -> Tensor:
    """Log pi_j(Pa) in nats: (K,) -> (V, K) float64, finite everywhere (also where j is in Pa, which scores rule out).

    `log_edge_odds` is log p/(1-p); 0 for the uniform prior.
    """
    share = popcount(masks).double() * log_edge_odds
    return share.expand(n_variables, -1).clone()


def log_fan_in_prior(masks: Tensor, n_variables: int) -> Tensor:
    """-log C(V - 1, |Pa|) in nats: (K,) -> (V, K) float64, finite everywhere. V = `n_variables`.

    A uniform prior over graphs favours dense ones, of which there are more; this one gives each number of parents the same
    weight. Koivisto & Sood, Journal of Machine Learning Research 5 (2004); Friedman & Koller, Machine Learning 50 (2003).

    Raises:
        ValueError: a set of all V variables, which can be nobody's parents.
    """
    size = popcount(masks).double()  # (K,)
    if bool((size >= n_variables).any()):
        raise ValueError("a parent set leaves out at least the variable itself")
    others = torch.tensor(float(n_variables), dtype=torch.float64)
    choose = torch.lgamma(others) - torch.lgamma(size + 1) - torch.lgamma(others - size)
    return (-choose).expand(n_variables, -1).clone()

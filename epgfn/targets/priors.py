"""Public priors over graphs as local shares: log pi(G) = sum_j log pi_j(Pa_j), up to a constant.

uniform: 0. edge: prod over edges of p / (1 - p), so each parent adds the log-odds of one edge.
"""

from __future__ import annotations

from torch import Tensor

from epgfn.spaces.parent_sets import popcount


def log_prior(masks: Tensor, n_variables: int, log_edge_odds: float) -> Tensor:
    """Log pi_j(Pa) in nats: (K,) -> (V, K) float64, finite everywhere (also where j is in Pa, which scores rule out).

    `log_edge_odds` is log p/(1-p); 0 for the uniform prior.
    """
    share = popcount(masks).double() * log_edge_odds
    return share.expand(n_variables, -1).clone()

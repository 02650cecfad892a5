"""Targets of graphs: what a graph is worth to one party, log R(G) = sum_j phi_j(Pa_j) in nats.

A linear-Gaussian target is one function in one file, from n, mean and scatter of the records (`gaussian.Moments`) and parent sets (K,) to
local log-scores (V, K), and one line in `TARGETS`.
That it needs nothing else of the records is what lets a noisy statistic stand in for them; BDeu needs counts of
categories in the same way. The prior is added here, so that no target can forget its N-th root.

Targets of other objects are sums over records: their likelihoods are in `epgfn.study.kinds`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from epgfn.targets import bge, likelihood
from epgfn.targets.gaussian import Moments, Settings

LocalScore = Callable[[Moments, Tensor, Settings], Tensor]
TARGETS: dict[str, LocalScore] = {
    "bge": bge.score,
    "bic": likelihood.bic,
    "profile-likelihood": likelihood.profile_likelihood,
    "max-likelihood": likelihood.max_likelihood,
}


__all__ = [
    "TARGETS",
    "LocalScore",
]

"""Public priors over graphs as local shares: log pi(G) = sum_j log pi_j(Pa_j), up to a constant.

uniform: 0. edge: prod over edges of p / (1 - p), so each parent adds the log-odds of one edge. fan-in: every number of parents
is as likely as any other, and so are the sets of one size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


class Settings(Protocol):
    """What priors read of a study's [prior]."""

    @property
    def edge_probability(self) -> float: ...
    @property
    def expected_parents(self) -> float | None: ...


LogPrior = Callable[[Tensor, int, Settings], Tensor]


def uniform(sets: Tensor, n_variables: int, settings: Settings) -> Tensor:
    """0 nats: (K, V) bool parent sets -> (V, K) float64."""
    return torch.zeros(n_variables, len(sets), dtype=torch.float64)


def edge(sets: Tensor, n_variables: int, settings: Settings) -> Tensor:
    """|Pa| log p / (1 - p), nats, p = `edge_probability`, or `expected_parents` / (V - 1): (K, V) bool -> (V, K) float64, also where j is
    in Pa, which scores rule out."""
    return (sets.sum(1).double() * general_log_odds(n_variables, settings)).expand(n_variables, -1).clone()


def general_log_odds(n_variables: int, settings: Settings) -> float:
    """Of an edge of which nothing else is said, under kind "edge"."""
    if settings.expected_parents is not None:
        return log_odds(settings.expected_parents / (n_variables - 1))
    return log_odds(settings.edge_probability)


def log_odds(probability: float) -> float:
    """log p / (1 - p)."""
    return math.log(probability) - math.log1p(-probability)


def by_edge(sets: Tensor, odds: Tensor) -> Tensor:
    """Sum over parents i of `odds` (V, V) nats, [i, j] of the edge i -> j: (K, V) bool -> (V, K) float64."""
    return (sets.double() @ odds.double()).T


def fan_in(sets: Tensor, n_variables: int, settings: Settings) -> Tensor:
    """-log C(V - 1, |Pa|) in nats: (K, V) bool -> (V, K) float64, finite everywhere. V = `n_variables`.

    A uniform prior over graphs favours dense ones, of which there are more; this one gives each number of parents the same
    weight. Koivisto & Sood, Journal of Machine Learning Research 5 (2004); Friedman & Koller, Machine Learning 50 (2003).

    Raises:
        ValueError: a set of all V variables, which can be nobody's parents.
    """
    size = sets.sum(1).double()  # (K,)
    if bool((size >= n_variables).any()):
        raise ValueError("a parent set leaves out at least the variable itself")
    others = torch.tensor(float(n_variables), dtype=torch.float64)
    choose = torch.lgamma(others) - torch.lgamma(size + 1) - torch.lgamma(others - size)
    return (-choose).expand(n_variables, -1).clone()


PRIORS: dict[str, LogPrior] = {"edge": edge, "fan-in": fan_in, "uniform": uniform}
"""By the names that a study gives them; what a kind of study may ask for is in its `priors`."""

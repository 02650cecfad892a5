"""What a table of BGe scores, as a model carries it, says of the records it was computed from: how many there are, and how they correlate.

A node in privacy mode none sends such a table to whoever opens its model. Of each variable only differences of scores are in it. With
R and a_l of `epgfn.targets.bge`, what a first parent adds says the correlation of two variables, if n and their R_jj were known; what a
second adds must then agree with the correlations of three. There are as many such conditions as triples of variables, and V + 1 unknowns:
with five variables or more they have one solution, which is found by damped least squares from many starts, and known by being whole.

    found = from_bge(table, alpha_w=7.0, t=1.0)       found.n, found.correlations

Numpy alone: a node shows this before anything leaves, and loads nothing heavy for it.
"""

from __future__ import annotations

import itertools
import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LEAST_VARIABLES: Final = 5
MOST_VARIABLES: Final = 8
"""Of more, the first ones are enough."""
MOST_RECORDS: Final = 1e5
_STARTS: Final = 40
_PER_START: Final = 4
_ITERATIONS: Final = 40
_WIDTH: Final = 7.0
"""How far log R_jj may be from log n: variances from e^-7 to e^7 on the study's scale."""
_AGREES: Final = 1e-10
_WHOLE: Final = 1e-4
_CLEAR: Final = 1e3
"""By how much another whole number must be worse."""


class Recovered(NamedTuple):
    """n; (V,) variances and (V, V) absolute values of correlations of the records, on the study's scale, of the first variables."""

    n: int
    variances: Array
    correlations: Array


def from_bge(table: Array, *, alpha_w: float, t: float, seed: int = 0) -> Recovered | None:
    """The records behind (V, K) local scores in nats, each row up to a constant, columns as `epgfn.gflownet.spaces.parent_sets`, of an
    unknown mean with a flat prior; None where no solution is found, or there are too few variables or parents for one."""
    v = len(table)
    if v < LEAST_VARIABLES or table.shape[1] < 1 + v + v * (v - 1) // 2:
        return None
    conditions = _Conditions(table, alpha_w, t)
    draw, m = np.random.default_rng(seed), conditions.variables
    for n in np.geomspace(8, MOST_RECORDS, _STARTS):
        for attempt in range(_PER_START):
            log_r = np.full(m, math.log(n)) + (draw.normal(0, 1.2, m) if attempt else 0.0)
            theta, off = _solve(conditions, np.concatenate([[math.log(n)], log_r]), free=0)
            if off < _AGREES and (found := _whole(conditions, theta)) is not None:
                return found
    return None


class _Conditions:
    """How far (log n, log R_jj of each variable) are from agreeing with a table: one number a triple of variables."""

    def __init__(self, table: Array, alpha_w: float, t: float) -> None:
        v = len(table)
        self.variables = m = min(v, MOST_VARIABLES)
        self.t, self._below = t, alpha_w - v
        everyone = {pair: k for k, pair in enumerate(itertools.combinations(range(v), 2))}
        pairs = list(itertools.combinations(range(m), 2))
        self.pairs, triples = np.array(pairs), list(itertools.combinations(range(m), 3))
        self._triples = np.array(triples)
        self._one = np.array([table[j, 1 + i] - table[j, 0] for i, j in pairs])
        self._two = np.array([table[j, 1 + v + everyone[i, k]] - table[j, 0] for i, k, j in triples])
        at = {pair: k for k, pair in enumerate(pairs)}
        self._sides = np.array([[at[i, k], at[i, j], at[k, j]] for i, k, j in triples])

    def squares(self, theta: Array) -> tuple[Array, Array]:
        """(P,) log(1 - rho^2) of R for each pair, and log R_ii + log R_jj."""
        n, log_r = math.exp(theta[0]), theta[1:]
        sums = log_r[self.pairs].sum(1)
        gain = self._one - (self._known(2, n) - 2 * self._known(1, n)) + sums / 2
        return -gain / ((n + self._below + 2) / 2), sums

    def off(self, theta: Array) -> Array:
        """(T,) |R| of three variables, as a share of the product of their R_jj, less what their correlations give, whatever their signs."""
        n, log_r = math.exp(theta[0]), theta[1:]
        logs, sums = self.squares(theta)
        side = self._sides[:, 0]
        known = self._known(3, n) - self._known(2, n) - self._known(1, n)
        half = (n + self._below) / 2
        three = (
            -self._two + known + (half + 1) * (logs + sums)[side] + (half + 0.5) * log_r[self._triples[:, 2]]
        )
        share = np.exp(np.minimum(three / (half + 1.5) - log_r[self._triples].sum(1), 1.0))
        rho = (1 - np.exp(np.minimum(logs, 0.5)))[self._sides]
        product = 2 * np.sqrt(np.maximum(rho.prod(1), 0.0))
        one, other = share - (1 - rho.sum(1)) - product, share - (1 - rho.sum(1)) + product
        found: Array = np.where(np.abs(one) < np.abs(other), one, other)
        return found

    def _known(self, size: int, n: float) -> float:
        """The part of log p of so many variables that depends on n alone, but for what is linear in their number."""
        a = self._below + size
        gammas = (math.lgamma((n + a - k) / 2) - math.lgamma((a - k) / 2) for k in range(size))
        return math.fsum(gammas) + a / 2 * size * math.log(self.t)


def _solve(conditions: _Conditions, theta: Array, free: int) -> tuple[Array, float]:
    """Levenberg and Marquardt from `theta`, its first `free` numbers fixed; where it ends, and how far off it is."""
    damping, off = 1e-3, conditions.off(theta)
    cost = float(off @ off)
    for _ in range(_ITERATIONS):
        slope = _slope(conditions, theta, free)
        gradient, curvature = slope.T @ off, slope.T @ slope
        for _ in range(12):
            damped = curvature + damping * np.diag(curvature.diagonal() + 1e-300)
            new = theta.copy()
            new[free:] += np.clip(np.linalg.lstsq(damped, -gradient, rcond=None)[0], -2, 2)
            inside = 0.5 < new[0] < math.log(2 * MOST_RECORDS) and np.abs(new[1:] - new[0]).max() < _WIDTH
            tried = conditions.off(new) if inside else off
            if inside and np.isfinite(tried).all() and tried @ tried < cost:
                break
            damping *= 10
        else:
            break
        still = cost - tried @ tried <= 1e-9 * cost
        theta, off, cost, damping = new, tried, float(tried @ tried), max(damping / 10, 1e-15)
        if cost < 1e-28 or still:
            break
    return theta, math.sqrt(cost)


def _slope(conditions: _Conditions, theta: Array, free: int) -> Array:
    columns = []
    for k in range(free, len(theta)):
        step = np.zeros(len(theta))
        step[k] = 1e-6 * max(1.0, abs(theta[k]))
        columns.append((conditions.off(theta + step) - conditions.off(theta - step)) / (2 * step[k]))
    return np.stack(columns, axis=1)


def _whole(conditions: _Conditions, theta: Array) -> Recovered | None:
    """The solution, if its number of records is whole and the whole numbers beside it are far worse."""
    n = round(math.exp(theta[0]))
    if n < 4 or abs(math.exp(theta[0]) - n) > _WHOLE * max(1.0, n / 1000):
        return None
    at = {
        m: _solve(conditions, np.concatenate([[math.log(m)], theta[1:]]), free=1) for m in (n - 1, n, n + 1)
    }
    best, off = at[n]
    if min(at[n - 1][1], at[n + 1][1]) < _CLEAR * max(off, 1e-14):
        return None
    logs, sums = conditions.squares(best)
    scatter = np.exp(best[1:]) - conditions.t
    correlations = np.eye(conditions.variables)
    for (i, j), log, both in zip(conditions.pairs, logs, sums, strict=True):
        square = max(0.0, -math.expm1(log)) * math.exp(both)
        correlations[i, j] = correlations[j, i] = math.sqrt(square / (scatter[i] * scatter[j]))
    return Recovered(n, scatter / (n - 1), correlations)

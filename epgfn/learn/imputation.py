"""Blanks filled in many times on the node: draws of what was not seen, given a graph and parameters that are drawn too.

Data augmentation (Tanner & Wong, JASA 82, 1987; Schafer, Analysis of Incomplete Multivariate Data, 1997, 5.4): in turn the parameters given
the filled-in records, and the blanks of each record given its other cells and the parameters. With a graph drawn given the records in
each turn, what is drawn has the distribution p(graph, parameters, blanks | what was seen).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from epgfn.base.errors import EpgfnError

Floats = npt.NDArray[np.float64]
Graph = npt.NDArray[np.bool_]
FIRST: Final = 100
"""Rounds before the first table is taken."""
BETWEEN: Final = 5
"""Rounds from one table to the next."""


class Blanks:
    """The blanks (NaN) of `records` (n, V) on the study's scale, drawn by `rng`. Parameters have the prior of BGe
    (`epgfn.targets.bge`) with `t` and `alpha_w`: of each variable with p parents 1 / variance ~ Gamma((alpha_w - V + p + 1) / 2, t / 2),
    coefficients ~ N(0, variance / t), the mean flat.

    Raises:
        EpgfnError: a column has fewer than two values.
    """

    def __init__(self, records: Floats, t: float, alpha_w: float, rng: np.random.Generator) -> None:
        blank = np.isnan(records)
        if ((~blank).sum(0) < 2).any():
            raise EpgfnError(
                "a column has fewer than two values, so nothing can be filled in from it; take it out of the study"
            )
        self._records, self._t, self._alpha_w, self._rng = records, t, alpha_w, rng
        self._rows = np.flatnonzero(blank.any(1))
        self._patterns, which = np.unique(blank[self._rows], axis=0, return_inverse=True)
        self._which = which.reshape(-1)

    def filled_in(self, count: int) -> list[Floats]:
        """`count` tables like the records, drawn with every edge there."""
        x, v = self._records.copy(), self._records.shape[1]
        mean = np.nanmean(x, axis=0)
        precision = np.diag(1 / (np.nanvar(x, axis=0) + 1e-9))
        every, tables = np.triu(np.ones((v, v), dtype=bool), 1), list[Floats]()
        for round_ in range(FIRST + BETWEEN * count):
            x = self._blanks(x, mean, precision)
            if round_ >= FIRST and (round_ - FIRST) % BETWEEN == 0:
                tables.append(x.copy())
            mean, precision = self._parameters(x, every)
        return tables

    def again(self, table: Floats, graph: Graph) -> Floats:
        """A table drawn from this one on, given a graph (V, V), [i, j] = i -> j."""
        for _ in range(BETWEEN):
            table = self._blanks(table, *self._parameters(table, graph))
        return table

    def _blanks(self, table: Floats, mean: Floats, precision: Floats) -> Floats:
        """Of a normal distribution with precision W the blanks m of a record have, given its other cells o, precision W_mm and mean
        mu_m - W_mm^-1 W_mo (x_o - mu_o)."""
        x, table = table[self._rows], table.copy()
        of_m, of_o = self._patterns[:, :, None], self._patterns[:, None, :]
        inner = precision * (of_m & of_o) + np.eye(len(mean)) * ~of_m
        factor = np.linalg.inv(np.linalg.cholesky(inner))  # (P, V, V): W_mm^-1 = F^T F
        across = factor @ (precision * (of_m & ~of_o))
        hidden = self._patterns[self._which]
        seen = np.where(hidden, 0.0, x - mean)
        pull = self._rng.normal(size=x.shape) - np.einsum("rij,rj->ri", across[self._which], seen)
        drawn = mean + np.einsum("rji,rj->ri", factor[self._which], pull)
        table[self._rows] = np.where(hidden, drawn, x)
        return table

    def _parameters(self, x: Floats, graph: Graph) -> tuple[Floats, Floats]:
        """Mean (V,) and precision (V, V) drawn given (n, V) records and a graph: least squares on t I + S."""
        (n, v), rng = x.shape, self._rng
        centre = x.mean(0)
        scatter = self._t * np.eye(v) + (x - centre).T @ (x - centre)
        across, weight = np.eye(v), np.zeros(v)
        for j in range(v):
            parents = np.flatnonzero(graph[:, j])
            inner = np.linalg.inv(scatter[np.ix_(parents, parents)])
            best = inner @ scatter[parents, j]
            rest = scatter[j, j] - scatter[parents, j] @ best
            weight[j] = rng.gamma((n + self._alpha_w - v + len(parents) + 1) / 2) / (rest / 2)
            spread = np.linalg.cholesky(inner) @ rng.normal(size=len(parents))
            across[parents, j] = -(best + spread / math.sqrt(weight[j]))
        root = across * np.sqrt(weight)  # precision = root root^T
        return centre + np.linalg.solve(root.T, rng.normal(size=v)) / math.sqrt(n), root @ root.T

"""Random networks of numbers or of categories: where made-up records of a study of graphs come from.

network = GaussianNetwork(n_variables, rng)
network.draw(n, rng)                            (n, V) records
"""

from __future__ import annotations

import math

import numpy as np

from epgfn.privacy.mechanisms.discrete import Floats, Ints


class GaussianNetwork:
    """A random linear network: records x = e M with e ~ N(0, I), each variable of unit variance. `mixing` is M, (V, V) float64.

    In a random order each pair has an edge with probability min(1/2, 2 / (V - 1)); weights are uniform on +-(0.5, 1.2).
    """

    def __init__(self, n_variables: int, rng: np.random.Generator) -> None:
        v = n_variables
        place = np.argsort(rng.permutation(v))
        later = place[:, None] < place[None]
        edges = later & (rng.random((v, v)) < min(0.5, 2 / (v - 1)))
        weights = edges * rng.uniform(0.5, 1.2, (v, v)) * rng.choice([-1.0, 1.0], (v, v))
        mixing = np.linalg.inv(np.eye(v) - weights)
        self.mixing: Floats = mixing / np.sqrt(np.square(mixing).sum(0))

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """(n, V) numbers on the study's scale."""
        records: Floats = rng.normal(size=(n, len(self.mixing))) @ self.mixing
        return records


class DiscreteNetwork:
    """A random network of categorical variables: an edge for each pair of a random order with probability 1/2, up to two parents,
    and for each configuration of parents probabilities drawn uniformly."""

    def __init__(self, categories: tuple[int, ...], rng: np.random.Generator) -> None:
        self.categories = categories
        order = rng.permutation(len(categories))
        self._steps = []
        for place, j in enumerate(order):
            parents = [int(i) for i in order[:place] if rng.random() < 0.5][:2]
            rows = math.prod(categories[i] for i in parents)
            self._steps.append((int(j), parents, rng.dirichlet(np.ones(categories[j]), size=rows)))

    def draw(self, n: int, rng: np.random.Generator) -> Ints:
        """(n, V) categories from 0 on."""
        columns = np.zeros((n, len(self.categories)), dtype=np.int64)
        for j, parents, table in self._steps:
            row = np.zeros(n, dtype=np.int64)
            for i in parents:
                row = row * self.categories[i] + columns[:, i]
            columns[:, j] = (rng.random(n)[:, None] > np.cumsum(table[row], 1)[:, :-1]).sum(1)
        return columns

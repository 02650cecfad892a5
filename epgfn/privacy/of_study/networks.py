"""Random networks of numbers or of categories: where made-up records of a study of graphs come from.

network = GaussianNetwork(n_variables, rng)
network.draw(n, rng)                            (n, V) records
"""

from __future__ import annotations

import math

import numpy as np

from epgfn.gflownet.spaces import EdgeRules
from epgfn.privacy.mechanisms.discrete import Floats, Ints


def _order(v: int, rng: np.random.Generator, rules: EdgeRules | None) -> Ints:
    """The V variables in a random order, each after its required parents."""
    order: Ints = rng.permutation(v)
    if rules is None:
        return order
    required, left, found = rules.required.cpu().numpy(), list(order), []
    while left:
        first = next(j for j in left if not required[left, j].any())
        found.append(first)
        left.remove(first)
    return np.array(found)


class GaussianNetwork:
    """A random linear network: records x = e M with e ~ N(0, I), each variable of unit variance. `mixing` is M, (V, V) float64.

    In a random order each pair has an edge with probability min(1/2, 2 / (V - 1)); weights are uniform on +-(0.5, 1.2). `rules` that the
    edges keep: those that are barred are left out, those that are required are there.
    """

    def __init__(self, n_variables: int, rng: np.random.Generator, rules: EdgeRules | None = None) -> None:
        v = n_variables
        place = np.argsort(_order(v, rng, rules))
        later = place[:, None] < place[None]
        edges = later & (rng.random((v, v)) < min(0.5, 2 / (v - 1)))
        if rules is not None:
            edges = (edges & rules.allowed.cpu().numpy()) | rules.required.cpu().numpy()
        weights = edges * rng.uniform(0.5, 1.2, (v, v)) * rng.choice([-1.0, 1.0], (v, v))
        mixing = np.linalg.inv(np.eye(v) - weights)
        self.mixing: Floats = mixing / np.sqrt(np.square(mixing).sum(0))

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """(n, V) numbers on the study's scale."""
        records: Floats = rng.normal(size=(n, len(self.mixing))) @ self.mixing
        return records


class DiscreteNetwork:
    """A random network of categorical variables: an edge for each pair of a random order with probability 1/2, up to two parents,
    and for each configuration of parents probabilities drawn uniformly. `rules` as above; what is required comes first."""

    def __init__(
        self, categories: tuple[int, ...], rng: np.random.Generator, rules: EdgeRules | None = None
    ) -> None:
        self.categories = categories
        order = _order(len(categories), rng, rules)
        self._steps = []
        for place, j in enumerate(order):
            parents, needed = [int(i) for i in order[:place] if rng.random() < 0.5], []
            if rules is not None:
                needed = rules.required[:, j].nonzero()[:, 0].tolist()
                parents = needed + [i for i in parents if bool(rules.allowed[i, j]) and i not in needed]
            parents = parents[: max(2, len(needed))]
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

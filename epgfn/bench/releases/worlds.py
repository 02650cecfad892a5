"""Simulated records, the same for the same generator."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Tails = Literal["gaussian", "student", "laplace"]


def noise(shape: tuple[int, int], tails: Tails, rng: np.random.Generator) -> Floats:
    """Unit variance: Gaussian, Student's t with 5 degrees of freedom, or Laplace."""
    if tails == "student":
        return np.asarray(rng.standard_t(5, shape) / math.sqrt(5 / 3))
    if tails == "laplace":
        return np.asarray(rng.laplace(size=shape) / math.sqrt(2))
    return rng.normal(size=shape)


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

"""Exact posteriors over listed DAGs, for many score tables over the same parent sets: what does not depend on scores is worked out once.

dags = ListedDags(masks, n_variables)
p = dags.probabilities(table)
dags.edges(p)
"""

from __future__ import annotations

import torch
from torch import Tensor

from epgfn.gflownet.measure.exact import enumerate_dags, table_columns
from epgfn.gflownet.spaces.parent_sets import popcount


class ListedDags:
    """All D DAGs over `n_variables` <= 5 variables; `masks` (K,) int64 are all parent sets up to the largest of them.

    Raises:
        UsageError: more than 5 variables.
    """

    def __init__(self, masks: Tensor, n_variables: int) -> None:
        adjacency = enumerate_dags(n_variables, int(popcount(masks).max()))
        self._columns, _ = table_columns(masks, adjacency)  # (D, V)
        self._edges = adjacency.flatten(1).double()
        self._variables = torch.arange(n_variables)

    def __len__(self) -> int:
        return len(self._edges)

    def probabilities(self, table: Tensor) -> Tensor:
        """(V, K) log-scores in nats -> (D,), float64 for float64 scores, in the order of `enumerate_dags`."""
        return torch.softmax(table[self._variables, self._columns].sum(1), 0)

    def edges(self, p: Tensor) -> Tensor:
        """(D,) probabilities -> (V, V), [i, j] = P(i -> j)."""
        v = len(self._variables)
        return (p @ self._edges).view(v, v)

"""Random rules for edges, and what keeps them, worked out from all DAGs by themselves."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from epgfn.gflownet.measure import exact
from epgfn.gflownet.spaces import EdgeRules


def drawn_rules(v: int, fan_in: int, seed: int) -> EdgeRules:
    """A few edges of a random order are required, any others barred with a probability that is random too."""
    rng = np.random.default_rng(seed)
    place = rng.permutation(v)
    required = (place[:, None] < place[None]) & (rng.random((v, v)) < 0.3)
    for j in range(v):
        some = np.nonzero(required[:, j])[0]
        required[some[fan_in:], j] = False
    allowed = (rng.random((v, v)) < rng.choice([0.3, 0.7, 1.0])) | required
    np.fill_diagonal(allowed, False)
    return EdgeRules(torch.from_numpy(allowed), torch.from_numpy(required))


def kept(rules: EdgeRules, fan_in: int) -> Tensor:
    """(D, V, V) bool: every DAG that keeps the rules and the fan-in, edge by edge in plain Python."""
    v, found = len(rules.allowed), []
    for graph in exact.enumerate_dags(v, fan_in).tolist():
        fits = all(
            (rules.allowed[i, j] or not graph[i][j]) and (graph[i][j] or not rules.required[i, j])
            for i in range(v)
            for j in range(v)
        )
        if fits:
            found.append(graph)
    return torch.tensor(found, dtype=torch.bool)


def as_set(graphs: Tensor) -> set[tuple[bool, ...]]:
    return {tuple(graph) for graph in graphs.flatten(1).tolist()}

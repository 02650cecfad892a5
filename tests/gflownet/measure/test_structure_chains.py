"""Markov chains over DAGs find the edge probabilities that the enumeration of all DAGs gives."""

from __future__ import annotations

import torch

from epgfn.gflownet.measure import exact
from epgfn.gflownet.measure.structure_chains import edge_marginals
from epgfn.gflownet.spaces import DagBySinks
from epgfn.gflownet.spaces.parent_sets import parent_masks


def test_chains_from_the_empty_graph_reach_the_posterior() -> None:
    space, generator = DagBySinks(4, 2), torch.Generator().manual_seed(0)
    table = torch.randn(4, space.n_sets, dtype=torch.float64, generator=generator) * 2
    table = table.masked_fill(space.parents.T, -torch.inf)
    truth = torch.as_tensor(exact.edge_marginals(table, parent_masks(4, 2)))
    start = torch.zeros(400, 4, 4, dtype=torch.bool)
    found = edge_marginals(table, start, 2, 80, generator)
    assert float((found.edges - truth).abs().mean()) < 0.01
    assert float((found.edges - truth).abs().max()) < 0.03
    assert found.error < 0.01

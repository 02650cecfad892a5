"""Parents of several variables drawn together leave the posterior as it is, and reach what single moves do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from epgfn.gflownet.measure.exact import edge_marginals
from epgfn.gflownet.measure.structure_chains import Chains
from epgfn.gflownet.spaces.parent_sets import parent_masks, parent_sets


@pytest.mark.parametrize(
    ("v", "fan_in", "spread", "deep"),
    [(2, 1, 1.0, 0.0), (5, 3, 1.0, 0.0), (6, 3, 3.0, 900.0), (8, 2, 6.0, 0.0)],
)
def test_alone_they_find_the_exact_posterior(v: int, fan_in: int, spread: float, deep: float) -> None:
    """From graphs without edges, scores at random, which is harder than what records give: eight variables are more than a block holds.
    `deep` nats between no parents and any, beyond what weights can be as numbers."""
    held = parent_sets(v, fan_in)
    table = (
        torch.randn(v, len(held), generator=torch.Generator().manual_seed(v), dtype=torch.float64) * spread
    )
    table[:, ~held.any(1)] -= deep
    table[held.T] = -torch.inf
    exact = torch.as_tensor(edge_marginals(table, parent_masks(v, fan_in)))
    tables, random = Chains(table, fan_in), np.random.default_rng(1)
    population = tables.without_edges(1000)
    tables.move(population, 1, random)
    found = torch.zeros(v, v, dtype=torch.float64)
    for number in range(30):
        tables.move_blocks(population, v, random)
        if number >= 10:
            found += tables.graphs(population).double().mean(0) / 20
    assert float((found - exact).abs().max()) < 0.02
    graphs = tables.graphs(population)
    columns = (graphs.transpose(1, 2)[:, :, None] == held).all(3).double().argmax(2)
    held_scores = table.gather(1, columns.T).sum(0) - table.amax(1).sum()
    torch.testing.assert_close(torch.from_numpy(tables.log_scores(population)), held_scores)

"""What `ListedDags` promises: the exact posterior of any table over its parent sets."""

from __future__ import annotations

import pytest
import torch

from epgfn.base.errors import UsageError
from epgfn.gflownet.measure.exact import edge_marginals, posterior
from epgfn.gflownet.measure.listed_dags import ListedDags
from epgfn.gflownet.spaces.parent_sets import parent_masks


@pytest.mark.parametrize(("n_variables", "max_parents", "number"), [(3, 2, 25), (4, 1, None), (4, 3, 543)])
def test_probabilities_and_edges_are_those_of_the_exact_posterior(
    n_variables: int, max_parents: int, number: int | None
) -> None:
    masks = parent_masks(n_variables, max_parents)
    dags = ListedDags(masks, n_variables)
    assert number is None or len(dags) == number
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        table = torch.randn(n_variables, len(masks), dtype=torch.float64, generator=generator) * 3
        p = dags.probabilities(table)
        torch.testing.assert_close(p, posterior(table, masks)[1])
        edges = torch.from_numpy(edge_marginals(table, masks))
        torch.testing.assert_close(dags.edges(p), edges, atol=1e-9, rtol=0)


def test_six_variables_are_too_many_to_list() -> None:
    with pytest.raises(UsageError, match="1 to 5 variables"):
        ListedDags(parent_masks(6, 1), 6)

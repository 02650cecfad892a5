"""Scores under a design leave out, or keep apart, the rows in which a variable was set: against arithmetic of another kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from epgfn.base.errors import EpgfnError
from epgfn.bench.truth import _by_families
from epgfn.bench.truth_cases import CASES, Case
from epgfn.gflownet.measure import exact
from epgfn.gflownet.measure.exact import enumerate_dags
from epgfn.learn.exact import exact_of_table
from epgfn.learn.scores import score_table, study_masks
from epgfn.study import Study


@pytest.mark.parametrize("name", ["design", "design-of-categories"])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_score_is_the_marginal_likelihood_of_the_rows_it_may_use(name: str, seed: int) -> None:
    case: Case = CASES[name][0](seed)
    for node in (0, 2):
        found = score_table(case.study, torch.as_tensor(case.records[node]), 3)
        known = torch.isfinite(found)
        torch.testing.assert_close(found[known], _by_families(case, node)[known], rtol=0, atol=1e-9)


def test_the_product_over_nodes_of_different_designs_is_what_listing_all_graphs_gives() -> None:
    case: Case = CASES["design"][0](0)
    study = case.study
    total = torch.stack([score_table(study, torch.as_tensor(part), 3) for part in case.records]).sum(0)
    graphs = enumerate_dags(5)
    graphs = graphs[graphs.sum(1).amax(1) <= 3]
    column, _ = exact.table_columns(study_masks(study), graphs)
    tables = torch.stack([_by_families(case, node) for node in range(3)]).sum(0)
    log_weight = tables[torch.arange(5), column].sum(1)
    expected = torch.einsum("d,dij->ij", torch.softmax(log_weight, 0), graphs.double())
    found = exact_of_table(study, total)
    assert found is not None
    names = study.variable_names
    for i, tail in enumerate(names):
        for j, head in enumerate(names):
            if i != j:
                assert abs(found.probabilities[f"{tail}->{head}"] - float(expected[i, j])) < 1e-9


def _two(kind: str, target: str) -> Study:
    told = ", ".join(f'{{name = "{n}", centre = 0, scale = 1}}' for n in "xyz")
    return Study.from_bytes(
        f'name = "t"\nroster = ["a"]\nvariables = [{told}]\nspace.max_parents = 2\ntarget.kind = "{target}"\n'
        f'[design]\ncolumn = "arm"\nkind = "{kind}"\nsets = {{ usual = [], off = ["x"] }}\n'.encode()
    )


def _records(n: int, off: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(n, 3))
    x[:, 1] += x[:, 0]
    return np.column_stack([x, np.arange(n) < off])


@pytest.mark.parametrize("target", ["bge", "bic", "profile-likelihood", "max-likelihood"])
def test_rows_that_set_a_variable_tell_which_way_an_edge_goes(target: str) -> None:
    """Without them x -> y and y -> x are one class; y follows what x was set to, so x is its cause."""
    records = _records(200, 100)
    records[:100, 0] = np.random.default_rng(6).normal(size=100) * 2
    records[:100, 1] = records[:100, 0] + np.random.default_rng(7).normal(size=100)
    table = score_table(_two("perfect", target), records, 1)
    (none, of_x, of_y) = (int((study_masks(_two("perfect", target)) == m).nonzero()) for m in (0, 1, 2))
    forward, back = table[0, none] + table[1, of_x], table[1, none] + table[0, of_y]
    assert float(forward - back) > 10


@pytest.mark.parametrize("kind", ["bge", "bic"])
def test_a_variable_that_was_set_in_all_records_has_one_score_for_all_parents(kind: str) -> None:
    table = score_table(_two("perfect", kind), _records(50, 50), 1)
    assert (table[0][torch.isfinite(table[0])] == 0).all() and float(table[1].max()) < -10


def test_refusals_say_in_which_rows() -> None:
    few = _records(50, 48)
    with pytest.raises(
        EpgfnError,
        match="in the rows of usual, which are what the score of x is taken from, there are too few records",
    ):
        score_table(_two("perfect", "bic"), few, 1)
    still = _records(50, 20)
    still[:20, 0] = 2.0
    with pytest.raises(
        EpgfnError, match=r"in the rows of off, .*column x: it is constant.*'perfect' leaves such rows out"
    ):
        score_table(_two("imperfect", "bge"), still, 1)

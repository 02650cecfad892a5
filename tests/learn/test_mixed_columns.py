"""Score tables of categories and numbers together, and what three nodes' tables come to: against arithmetic of another kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from epgfn.bench.families import mixed
from epgfn.bench.truth import _by_families
from epgfn.bench.truth_cases import CASES, Case
from epgfn.gflownet.measure import exact
from epgfn.gflownet.measure.exact import enumerate_dags
from epgfn.learn.exact import exact_of_table
from epgfn.learn.scores import score_table, study_masks, study_sets
from epgfn.study import Study


def sizes_of(study: Study) -> list[int]:
    return [0 if v.is_number else len(v.categories or ()) for v in study.variables]


@pytest.mark.parametrize("seed", [0, 1])
def test_every_score_of_a_node_is_the_marginal_likelihood_of_its_records(seed: int) -> None:
    case: Case = CASES["mixed"][0](seed)
    for node in (0, 2):
        found = score_table(case.study, torch.as_tensor(case.records[node]), 3)
        expected = _by_families(case, node)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


def test_the_product_of_three_nodes_is_what_listing_all_graphs_gives() -> None:
    case: Case = CASES["mixed"][0](0)
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
    assert int(((expected > 0.01) & (expected < 0.99)).sum()) > 3


def test_a_score_takes_the_rows_that_are_complete_for_it_and_in_which_its_variable_was_not_set() -> None:
    case: Case = CASES["mixed"][0](0)
    sizes, rng = sizes_of(case.study), np.random.default_rng(1)
    x = np.asarray(case.records[1], dtype=float)
    one = next(j for j, size in enumerate(sizes) if size)
    number = sizes.index(0)
    arms = rng.integers(0, 2, len(x))
    told = {"column": "arm", "sets": {"usual": [], "set": [f"v{one}", f"v{number}"]}}
    study = case.study.with_changes({"design": told, "data": {"missing": "complete-rows"}})
    x[rng.random(x.shape) < 0.1] = np.nan
    found = score_table(study, torch.as_tensor(np.column_stack([x, arms])), 1)
    categories = [j for j, size in enumerate(sizes) if size]
    for k, members in enumerate(study_sets(study).tolist()):
        parents = [i for i, there in enumerate(members) if there]
        for j in range(len(sizes)):
            if j in parents or (sizes[j] and any(not sizes[i] for i in parents)):
                assert found[j, k] == -torch.inf
                continue
            needed = categories if sizes[j] else list(range(len(sizes)))
            rows = ~np.isnan(x[:, needed]).any(1)
            if j in (one, number):
                rows &= arms == 0
            assert float(found[j, k]) == pytest.approx(mixed(x[rows], j, parents, sizes), abs=1e-8)


def test_a_node_that_lacks_what_has_no_effects_scores_the_rest() -> None:
    case: Case = CASES["mixed"][0](2)
    study, sizes = case.study, sizes_of(case.study)
    last = max(j for j, size in enumerate(sizes) if not size)
    changed = study.with_changes(
        {
            "data": {"lacks": {"n1": [f"v{last}"]}},
            "prior": {"leaves": [f"v{last}"]},
            "target": {"alpha_w": 9.0},
        }
    )
    x = np.asarray(case.records[1], dtype=float)
    x[:, last] = np.nan
    found = score_table(changed, torch.as_tensor(x), 3)
    part = np.delete(np.asarray(case.records[1]), last, axis=1)
    held = [j for j in range(len(sizes)) if j != last]
    without = Study.from_bytes(study.raw).with_changes(
        {
            "variables": [v for v in _raw(study) if v["name"] != f"v{last}"],
            "target": {"alpha_w": 8.0},
        }
    )
    table = score_table(without, torch.as_tensor(part), 1)
    column = {tuple(row): k for k, row in enumerate(study_sets(without).tolist())}
    for k, members in enumerate(study_sets(study).tolist()):
        if members[last]:
            continue
        own = column[tuple(members[j] for j in held)]
        torch.testing.assert_close(found[held, k], table[:, own])
    assert set(found[last][torch.isfinite(found[last])].tolist()) == {0.0}


def _raw(study: Study) -> list[dict[str, object]]:
    return [v.model_dump(exclude_unset=True) for v in study.variables]

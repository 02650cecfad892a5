"""The figures of `epgfn demo`: what it says about the distance from the truth must be the truth."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kinds
from epgfn.gflownet.measure.exact import posterior
from epgfn.learn.aggregate import train_global
from epgfn.learn.local import train_local
from epgfn.learn.model import Model
from epgfn.learn.policy import initial_policy
from epgfn.learn.scores import score_table, study_masks
from epgfn.run.comparison.graphs import Comparison, compare, edge_matrix
from epgfn.study import Study
from epgfn.study.records.tables import load_records
from report_run import make_comparison

Trained = tuple[Study, dict[str, np.ndarray], dict[str, Model], Model]


@pytest.fixture
def trained(small_study: Study, small_files: dict[str, Path]) -> Trained:
    """Two trained local models and the global one."""
    study = small_study.with_changes({"prior": {"kind": "edge", "edge_probability": 0.2}})
    records = {node: load_records(small_files[node], study) for node in study.roster}
    tensors = {node: train_local(study, x, seed=1).tensors for node, x in records.items()}
    local = {node: Model(study, held) for node, held in tensors.items()}
    return study, records, local, Model(study, train_global(study, tensors, seed=1).tensors)


def test_the_exact_marginals_are_those_of_listing_every_graph(trained: Trained) -> None:
    study, records, local, model = trained
    told: list[tuple[int, int]] = []
    result = compare(
        study, records, local, model, [("a", "b")], 500, seed=1, progress=lambda *at: told.append(at)
    )
    # The prior enters the product once, though two nodes carry a share of it each.
    for edges, records_of, parties in [
        (result.exact_edges, list(records.values()), 2),
        (result.exact_local_edges["north"], [records["north"]], 2),
    ]:
        table = torch.stack([score_table(study, x, n_parties=parties) for x in records_of]).sum(0)
        graphs, probability = posterior(table, study_masks(study))
        expected = (graphs.double() * probability[:, None, None]).sum(0).numpy()
        np.testing.assert_allclose(edges, expected, atol=1e-10)
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert sorted(result.local_edge_mae) == ["north", "south"]
    assert len(result.pooled_global) == len(result.pooled_local["south"]) == 500
    assert 0 <= result.global_edge_mae <= result.global_edge_max_error <= 1


def test_an_absent_node_takes_no_share_of_the_prior_with_it(trained: Trained) -> None:
    study, records, local, model = trained
    only = {"north": records["north"]}
    result = compare(study, only, {"north": local["north"]}, model, None, 10, seed=1)
    table = score_table(study, records["north"], n_parties=1)  # the whole prior
    graphs, probability = posterior(table, study_masks(study))
    expected = (graphs.double() * probability[:, None, None]).sum(0).numpy()
    assert result.exact_edges is not None
    np.testing.assert_allclose(result.exact_edges, expected, atol=1e-10)


def test_the_same_seed_gives_the_same_figures(trained: Trained) -> None:
    study, records, local, model = trained
    first, second = (compare(study, records, local, model, None, 50, seed=4).to_json() for _ in range(2))
    assert first == second


def test_the_null_is_the_error_of_the_empty_graph(small_study: Study) -> None:
    comparison = make_comparison(small_study)
    assert comparison.exact_edges is not None
    off_diagonal = comparison.exact_edges[~np.eye(3, dtype=bool)]
    assert comparison.null_edge_mae == pytest.approx(off_diagonal.mean())
    assert comparison.null_edge_max_error == pytest.approx(off_diagonal.max())


def test_perfect_models_have_no_error_and_rank_as_the_exact_posterior_does(small_study: Study) -> None:
    comparison = make_comparison(small_study, error=0.0)
    assert comparison.global_edge_mae == comparison.global_edge_max_error == 0
    assert set(comparison.local_edge_mae.values()) == {0.0}
    assert comparison.auroc_global == comparison.auroc_exact


def test_what_is_not_known_is_null_and_never_a_number(small_study: Study) -> None:
    figures = make_comparison(small_study, exact=False).to_json()
    unknown = (
        "global_edge_mae",
        "global_edge_max_error",
        "null_edge_mae",
        "null_edge_max_error",
        "auroc_exact",
    )
    assert [figures[key] for key in unknown] == [None] * len(unknown)
    assert set(figures["local_edge_mae"].values()) == {None}
    assert math.isfinite(figures["auroc_global"])
    json.dumps(figures, allow_nan=False)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_what_is_written_to_the_summary_reads_back_the_same(seed: int, exact: bool) -> None:
    study = Study.from_bytes(STUDY)
    figures = json.loads(json.dumps(make_comparison(study, seed, exact=exact).to_json(), allow_nan=False))
    assert Comparison.from_json(figures).to_json() == figures


def test_edges_of_other_variables_are_left_out() -> None:
    matrix = edge_matrix([("a", "b"), ("b", "elsewhere"), ("c", "a")], ["a", "b", "c"])
    assert matrix.nonzero()[0].tolist() == [0, 2] and matrix.nonzero()[1].tolist() == [1, 0]


def test_graphs_over_categories_are_compared_with_their_exact_edges_and_have_no_pooled_score(
    tmp_path: Path,
) -> None:
    study = kinds.study("categories")
    files = {n: kinds.write_records("categories", tmp_path / n, 40, k) for k, n in enumerate(study.roster)}
    records = {node: load_records(path, study) for node, path in files.items()}
    models = {
        node: Model(study, initial_policy(study, score_table(study, x, 2), torch.Generator()))
        for node, x in records.items()
    }
    result = compare(study, records, models, models["north"], None, 400, seed=1)
    table = torch.stack([score_table(study, x, n_parties=2) for x in records.values()]).sum(0)
    graphs, probability = posterior(table, study_masks(study))
    expected = (graphs.double() * probability[:, None, None]).sum(0).numpy()
    np.testing.assert_allclose(result.exact_edges, expected, atol=1e-10)
    assert len(result.pooled_global) == 0 and result.pooled_local == {}
    assert Comparison.from_json(json.loads(json.dumps(result.to_json()))).to_json() == result.to_json()


STUDY = b"""
name = "three"
roster = ["north", "south"]
space = {max_parents = 2}
variables = [{name = "a"}, {name = "b"}, {name = "c"}]
"""

"""The figures of a simulated study that is not about graphs: what is said about the distance from the truth is the truth."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from epgfn.learn.model import Model, terminating_distribution
from epgfn.learn.policy import initial_policy
from epgfn.learn.target import target_of
from epgfn.run.comparison.objects import ObjectComparison, compare_objects
from epgfn.study import Study
from epgfn.study.records.tables import load_records
from kinds import TEXTS, study, write_records

KINDS = ("multiset", "sequence", "hypergrid", "phylogeny")


def models_of(loaded: Study) -> tuple[dict[str, Model], Model]:
    """Untrained models, whose errors are large, each another."""
    made = [
        Model(loaded, {name: tensor * (1 + k) for name, tensor in tensors.items()})
        for k in range(3)
        for tensors in [initial_policy(loaded, None, torch.Generator().manual_seed(k))]
    ]
    return dict(zip(loaded.roster, made, strict=False)), made[2]


def compared(kind: str, folder: Path) -> tuple[Study, dict[str, Any], ObjectComparison]:
    loaded = study(kind)
    files = {node: write_records(kind, folder / node, 40, seed) for seed, node in enumerate(loaded.roster)}
    records = {node: load_records(path, loaded) for node, path in files.items()}
    local, together = models_of(loaded)
    return loaded, records, compare_objects(loaded, records, local, together, samples=100, seed=1)


@pytest.mark.parametrize("kind", KINDS)
def test_distances_are_those_of_listing_every_object(kind: str, tmp_path: Path) -> None:
    loaded, records, found = compared(kind, tmp_path)
    local, together = models_of(loaded)
    state, learned = terminating_distribution(together)
    own = {node: target_of(loaded, x).log_reward(state).softmax(0) for node, x in records.items()}
    exact = torch.stack([p.log() for p in own.values()]).sum(0).softmax(0)
    assert found.is_exact and found.objects == len(exact)
    assert found.global_l1 == pytest.approx(float((learned - exact).abs().sum()))
    assert found.uniform_l1 == pytest.approx(float((exact - 1 / len(exact)).abs().sum()))
    drawn = {node: terminating_distribution(model).mass for node, model in local.items()}
    for node in loaded.roster:
        assert found.local_l1[node] == pytest.approx(float((drawn[node] - own[node]).abs().sum()))
    product = torch.stack([p.log() for p in drawn.values()]).sum(0).softmax(0)
    assert found.product_of_locals_l1 == pytest.approx(float((product - exact).abs().sum()))
    assert 0.01 < found.global_l1 <= 2
    assert 0 < found.global_marginal_mae <= found.global_marginal_max_error <= found.global_l1 / 2 + 1e-9
    assert sorted(found.local_marginal_mae) == sorted(loaded.roster)
    assert [row.learned for row in found.top] == sorted((row.learned for row in found.top), reverse=True)
    assert found.top[0].learned == pytest.approx(float(learned.max()))
    # What is written to the summary reads back the same.
    again = ObjectComparison.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert again == found


def test_who_is_not_in_the_product_is_not_in_the_truth_either(tmp_path: Path) -> None:
    loaded, records, _ = compared("multiset", tmp_path)
    local, together = models_of(loaded)
    only = {"north": records["north"]}
    found = compare_objects(loaded, only, {"north": local["north"]}, together, samples=10, seed=1)
    assert found.exact_marginals == found.exact_local_marginals["north"]
    assert list(found.local_l1) == ["north"]


def test_where_objects_cannot_be_listed_nothing_is_made_up(tmp_path: Path) -> None:
    text = TEXTS["sequence"].replace("max_length = 3", "max_length = 40")
    loaded = Study.from_bytes(text.encode())
    records = {
        node: load_records(write_records("sequence", tmp_path / node, 20), loaded) for node in loaded.roster
    }
    local, together = models_of(loaded)
    found = compare_objects(loaded, records, local, together, samples=64, seed=1)
    assert not found.is_exact and math.isnan(found.global_l1) and math.isnan(found.global_marginal_mae)
    figures = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert figures["global_l1"] is None and figures["exact_marginals"] is None and figures["top"] == []
    assert figures["global_marginals"]["length >= 1"] <= 1
    assert ObjectComparison.from_json(figures).to_json() == figures


@pytest.mark.parametrize(
    "wrong",
    [{"global_l1": "x"}, {"global_marginals": [1]}, {"top": [["a", 1.0]]}, {"exact_marginals": {"a": None}}],
)
def test_a_damaged_comparison_is_refused(wrong: dict[str, object], tmp_path: Path) -> None:
    figures = compared("multiset", tmp_path)[2].to_json()
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        ObjectComparison.from_json({**figures, **wrong})

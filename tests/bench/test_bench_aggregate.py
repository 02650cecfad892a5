"""The benchmark of aggregation: its truths are exact, its rows hold what they promise, and its baselines do what they are called."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch

from epgfn.base.errors import UsageError
from epgfn.bench.aggregate import Setting, aggregate, node_seed
from epgfn.bench.baselines import BASELINES, Case, categorical
from epgfn.bench.products import PRODUCTS, SPLITS, yardsticks
from epgfn.bench.products.yardsticks import Edges, ListedProduct
from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.gflownet.spaces import Hypergrid, Multiset, Space

FIELDS = {
    "instance",
    "nodes",
    "method",
    "l1_median",
    "l1_min",
    "l1_max",
    "l1_product_of_locals",
    "l1_locals",
    "ratio",
}
FIELDS |= {"cpu_s_local", "cpu_s_global", "seeds", "split", "undertrained"}


@pytest.mark.parametrize("name", sorted(PRODUCTS))
def test_each_node_has_a_reward_of_its_own_and_models_that_stack(name: str) -> None:
    federation = PRODUCTS[name](nodes=3)
    space = federation.space
    models = [federation.train([node], node_seed(1, node), 1).tensors() for node in range(3)]
    stack, start = federation.make(models), federation.start(models, 1)
    assert (federation.nodes, stack.n_models, start.n_models) == (3, 3, 1)
    assert stack.choices(space.initial(2)).log_prob.shape[0] == 3
    assert torch.isfinite(start.choices(space.initial(2)).log_prob.logsumexp(2)).all()
    if isinstance(federation.yardstick, ListedProduct):
        own = [federation.yardstick.node_truth(node) for node in range(3)]
        assert all(l1(own[a], own[b]) > 0.01 for a, b in ((0, 1), (0, 2), (1, 2)))
        product = exact_distribution(torch.stack([p.log() for p in own]).sum(0))
        assert l1(product, federation.yardstick.truth) < 1e-9


def test_how_sites_are_dealt_changes_the_nodes_and_not_the_product() -> None:
    even, skewed = (PRODUCTS["phylogeny-7"](split=split).yardstick for split in SPLITS)
    assert isinstance(even, ListedProduct) and isinstance(skewed, ListedProduct)
    assert l1(even.truth, skewed.truth) < 1e-6
    assert l1(even.node_truth(0), skewed.node_truth(0)) > 0.1
    assert 0.05 < float(even.truth.max()) < 0.9  # a posterior with something to find


def test_a_skewed_federation_has_nodes_that_see_different_things() -> None:
    for name in ("grid-2x12", "multiset-10x8", "sequence-6x6"):
        yardstick = PRODUCTS[name](nodes=2, split="skewed").yardstick
        assert isinstance(yardstick, ListedProduct)
        assert l1(yardstick.node_truth(0), yardstick.node_truth(1)) > 0.2


def test_answers_from_objects_count_them() -> None:
    yardstick = PRODUCTS["grid-2x12"](nodes=2).yardstick
    assert isinstance(yardstick, ListedProduct)
    counted = yardstick.of_objects(yardstick.states)
    assert torch.equal(counted, torch.full((144,), 1 / 144, dtype=torch.float64))


def test_rows_hold_every_method_and_ours_is_nearest_of_those_that_see_no_reward() -> None:
    seen: list[dict[str, Any]] = []
    threads = torch.get_num_threads()
    setting = Setting(nodes=2, seeds=1, budget=0.8, baselines=True)
    rows = aggregate(["grid-2x12"], setting, on_row=seen.append)
    assert rows == seen and torch.get_num_threads() == threads
    by_method = {row["method"]: row for row in rows}
    assert set(by_method) == {"aggregating", *BASELINES} - {"mcmc"}  # a grid has no score table
    for row in rows:
        assert set(row) >= FIELDS
        assert 0 <= row["l1_min"] <= row["l1_median"] <= row["l1_max"] <= 2
        assert row["ratio"] == row["l1_median"] / row["l1_product_of_locals"]
    ours = by_method["aggregating"]["l1_median"]
    assert all(ours < by_method[name]["l1_median"] for name in ("pcvi", "fedavg", "pooled-samples"))


def test_an_undertrained_client_costs_the_product() -> None:
    setting = Setting(nodes=2, seeds=1, budget=0.5)
    well, badly = (aggregate(["dag-5-bge"], setting._replace(undertrained=k))[0] for k in (0, 2))
    assert well["l1_product_of_locals"] < badly["l1_product_of_locals"]
    assert badly["undertrained"] == 2


def test_where_objects_cannot_be_listed_edges_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yardsticks, "GRAPHS", 20_000)
    federation = PRODUCTS["sachs-11"](nodes=2)
    assert isinstance(federation.yardstick, Edges)
    exact = federation.yardstick.errors(federation.yardstick.truth)
    null = federation.yardstick.errors(torch.full((11, 11), 0.5, dtype=torch.float64))
    assert exact == {"edge_error_mean": 0.0, "edge_error_max": 0.0}
    assert null["edge_error_mean"] > 0.1
    row = aggregate(["sachs-11"], Setting(nodes=2, seeds=1, budget=0.1))[0]
    assert row["l1_median"] is row["l1_product_of_locals"] is row["ratio"] is None
    assert 0 < row["edge_error_mean_median"] < row["edge_error_max_median"] < 1


def test_chains_weigh_modes_that_no_single_edge_connects() -> None:
    federation = PRODUCTS["dag-5-bge"]()  # two edges apart: moves of single edges give an L1 of .86
    found = BASELINES["mcmc"](Case(federation, [], 1, 1, 1, cpu_s=1.5))
    assert found is not None and found.cpu_s_local is None
    assert abs(float(found.answer.sum()) - 1) < 1e-9
    assert federation.yardstick.errors(found.answer)["l1"] < 0.05


@pytest.mark.parametrize("space", [Hypergrid(2, 3), Multiset(3, 4)])
def test_categoricals_find_a_target_of_their_own_kind(space: Space) -> None:
    family = categorical.family_of(ListedProduct(space, []))
    theta = torch.randn(family.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    target = family.mass(theta)
    assert abs(float(target.sum()) - 1) < 1e-9
    assert l1(family.mass(categorical.fitted(family, target.log())), target) < 1e-2


@pytest.mark.parametrize(
    ("only", "setting"),
    [
        (["grid-3x3"], Setting()),
        ([], Setting(seeds=0)),
        ([], Setting(budget=0.0)),
        ([], Setting(nodes=0)),
        ([], Setting(split="by-size")),
        (["grid-2x12"], Setting(nodes=2, undertrained=3)),
    ],
)
def test_a_wrong_question_is_refused(only: list[str], setting: Setting) -> None:
    with pytest.raises(UsageError):
        aggregate(only, setting)


def test_the_command_prints_one_object() -> None:
    command = [
        sys.executable,
        "-m",
        "epgfn.cli.main",
        "bench",
        "aggregate",
        "--only",
        "grid-2x12",
        "--nodes",
        "2",
    ]
    options = ["--seeds", "1", "--budget", "0.3", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, timeout=300, text=True)
    assert done.returncode == 0, done.stderr
    assert [row["method"] for row in json.loads(done.stdout)["rows"]] == ["aggregating"]
    refused = subprocess.run([*command, "--split", "odd"], capture_output=True, timeout=300, text=True)
    assert refused.returncode == 2
    assert "skewed" in refused.stderr

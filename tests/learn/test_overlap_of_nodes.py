"""Nodes whose records say the same agree; one whose file holds something else contradicts the others, by name."""

from __future__ import annotations

import numpy as np
import pytest
from torch import Tensor

from epgfn.bench.truth_cases import CASES
from epgfn.learn.aggregate import train_global
from epgfn.learn.local import train_local
from epgfn.study import Study
from worlds import BY_EDGES, BY_SINKS


def locally(study: Study, node: int, records: np.ndarray) -> dict[str, Tensor]:
    return train_local(study, records, seed=node).tensors


def contradictions(study: Study, trained: list[dict[str, Tensor]]) -> list[list[str]]:
    models = dict(zip(study.roster, trained, strict=True))
    found = train_global(study, models, seed=1).diagnostics["overlap"]
    assert set(found["nodes"]) == set(models)
    assert (found["verdict"] == "contradict") == bool(found["contradictions"])
    return [sorted(pair) for pair in found["contradictions"]]


def of_network(weights: dict[tuple[int, int], float], seed: int, n: int = 400) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, 4))
    for (i, j), weight in weights.items():
        x[:, j] += weight * x[:, i]
    return x


BRIEF = {"steps": 80}
"""What a pair says is plain long before models are exact."""
BRIEFLY_BY_EDGES = BY_EDGES.with_changes({"training": BRIEF, "aggregation": BRIEF})


@pytest.mark.parametrize("study", [BY_SINKS, BRIEFLY_BY_EDGES], ids=["sinks", "edges"])
def test_one_node_with_other_dependences_is_named(study: Study) -> None:
    same, other = {(0, 1): 1.0, (2, 3): 1.0}, {(0, 2): 1.0, (1, 3): 1.0}
    agreeing = [locally(study, node, of_network(same, node + 1)) for node in (0, 1)]
    assert contradictions(study, [*agreeing, locally(study, 2, of_network(same, 3))]) == []
    assert contradictions(study, [*agreeing, locally(study, 2, of_network(other, 3))]) == [
        ["north", "west"],
        ["south", "west"],
    ]


def test_codes_of_missing_values_in_one_file_show() -> None:
    case = CASES["codes"][0](0)
    brief = {"steps": 20}
    study = case.study.with_changes({"training": brief, "aggregation": brief})
    trained = [locally(study, node, part) for node, part in enumerate(case.records)]
    assert contradictions(study, trained) == [["n0", "n2"], ["n1", "n2"]]

"""Effects over graphs of the posterior: against sums over all graphs, in the columns' own units, and refused where there are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from torch import Tensor

from epgfn.base.errors import RefusedError, UsageError
from epgfn.gflownet.measure.exact import enumerate_dags
from epgfn.learn.effects import Effect, effects, statistic_read, statistic_said
from epgfn.learn.exact import graphs_of_table
from epgfn.learn.scores import study_sets
from epgfn.learn.shared import pooled, statistic_of
from epgfn.study import Study
from epgfn.study.records.tables import load_records

NODES = ["north", "south", "west"]
V = 4


def study_of(scales: tuple[float, ...] = (1.0,) * V, **tables: Any) -> Study:
    variables = [
        {"name": name, "centre": 0.0, "scale": scale} for name, scale in zip("abcd", scales, strict=True)
    ]
    target = {"kind": "bge", "parameters": "shared", **tables.pop("target", {})}
    said = {
        "name": "t",
        "roster": NODES,
        "variables": variables,
        "space": {"max_parents": 3},
        "target": target,
        **tables,
    }
    return Study.from_bytes(tomli_w.dumps(said).encode())


def parts(seed: int) -> list[Tensor]:
    """Records of three sites of a random linear world."""
    rng = np.random.default_rng(seed)
    weights = np.triu(rng.normal(size=(V, V)), 1) * (rng.random((V, V)) < 0.6)
    mix = np.linalg.inv(np.eye(V) - weights)
    return [torch.from_numpy(rng.normal(size=(n, V)) @ mix + 1) for n in (15, 25, 20)]


def asked(study: Study, records: list[Tensor], of: str, n: int = 20_000) -> dict[str, Effect]:
    found = pooled(
        study, {node: statistic_of(study, part) for node, part in zip(NODES, records, strict=True)}
    )
    assert found.moments is not None
    known = statistic_read(study, statistic_said(found.moments))
    return effects(study, known, graphs_of_table(study, found.table, n, 5), "exact", n, of, 6)


def summed(study: Study, records: list[Tensor], i: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean effects of variable i, and the share of graphs without a path, from all records: every graph, weighted by its score."""
    x = torch.cat(records).numpy()
    r = np.eye(V) + (x - x.mean(0)).T @ (x - x.mean(0))
    table = pooled(study, {"north": statistic_of(study, torch.cat(records))}).table.numpy()
    where = _places(study)
    weights, means, paths = [], [], []
    for graph in np.asarray(enumerate_dags(V)).astype(bool):
        coefficients, score = np.zeros((V, V)), 0.0
        for j in range(V):
            parents = np.flatnonzero(graph[:, j])
            coefficients[parents, j] = np.linalg.solve(r[np.ix_(parents, parents)], r[parents, j])
            score += table[j, where[tuple(parents.tolist())]]
        power, reach = np.eye(V), np.zeros((V, V))
        for _ in range(V):
            power = power @ coefficients
            reach += power
        walks = np.linalg.matrix_power(np.eye(V) + graph, V) > 0
        weights.append(score)
        means.append(reach[i])
        paths.append(walks[i])
    share = np.exp(np.array(weights) - max(weights))
    share /= share.sum()
    return share @ np.array(means), 1 - share @ np.array(paths)


def _places(study: Study) -> dict[tuple[int, ...], int]:

    return {tuple(row.nonzero()[:, 0].tolist()): k for k, row in enumerate(study_sets(study))}


@pytest.mark.parametrize("seed", range(5))
def test_effects_are_those_of_all_graphs(seed: int) -> None:
    study, records = study_of(), parts(seed)
    for i, of in enumerate("abcd"):
        found = asked(study, records, of)
        mean, none = summed(study, records, i)
        for j, on in enumerate("abcd"):
            if i != j:
                assert found[on].mean == pytest.approx(mean[j], abs=0.01 + 4 * found[on].error)
                assert found[on].zero == pytest.approx(none[j], abs=0.02)
                assert found[on].low <= found[on].median <= found[on].high


def test_a_known_effect_is_found_in_the_columns_own_units(tmp_path: Any) -> None:
    """a -> b -> c with 2 and -3 in the columns' units, whatever the scales are; b cannot be told from a cause of a by records alone."""
    rng = np.random.default_rng(1)
    a, d = rng.normal(5, 2, size=(2, 3000))
    b = 2 * a + rng.normal(0, 3, 3000)
    c = -3 * b + 10 * d + rng.normal(0, 5, 3000)
    path = tmp_path / "all.csv"
    np.savetxt(path, np.column_stack([a, b, c, d]), delimiter=",", header="a,b,c,d", comments="")
    study = study_of((2.0, 5.0, 30.0, 1.5), prior={"tiers": [["a"], ["b"], ["c"]]})
    records = torch.as_tensor(load_records(path, study))
    found = asked(study, [records[:500], records[500:1500], records[1500:]], "a")
    assert found["b"].mean == pytest.approx(2, abs=0.1) and found["c"].mean == pytest.approx(-6, abs=0.4)
    assert found["b"].low < 2 < found["b"].high and found["c"].low < -6 < found["c"].high
    assert found["b"].zero < 0.01 and found["c"].positive < 0.01 and found["d"].zero > 0.9
    assert found["c"].unit == "c per 1 of a"
    assert 0.5 < np.std(found["b"].draws) / (3 / np.std(a) / np.sqrt(3000)) < 2


@pytest.mark.parametrize(
    ("tables", "why"),
    [
        ({"target": {"parameters": "own"}}, "which never leave it"),
        ({"target": {"kind": "bic"}}, "no distribution of coefficients"),
        ({"design": {"column": "arm", "sets": {"none": [], "one": ["a"]}}}, "has a design"),
    ],
)
def test_where_none_can_be_told_the_sentence_says_why(tables: dict[str, Any], why: str) -> None:
    known = pooled(study_of(), {"north": statistic_of(study_of(), parts(0)[0])}).moments
    assert known is not None
    with pytest.raises(UsageError, match=why):
        effects(study_of(**tables), known, torch.zeros(1, V, V).bool(), "exact", 1.0, "a", 0)


def test_what_is_no_statistic_is_refused() -> None:
    study = study_of()
    good = statistic_said(pooled(study, {"north": statistic_of(study, parts(0)[0])}).moments)  # type: ignore[arg-type]
    for change in (
        {"records": -1},
        {"mean": [1.0]},
        {"scatter": "x"},
        {"scatter": [[1.0]]},
        {"records": float("nan")},
    ):
        with pytest.raises(RefusedError, match="none of this study"):
            statistic_read(study, {**good, **change})

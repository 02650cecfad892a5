"""Each export is read by the tool that it is for, and says what the run says."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import epgfn
import kinds
from epgfn.cli.main import ExportFormat
from epgfn.run.exports import EXPORTS, Options, export
from epgfn.run.exports.options import tokens
from epgfn.run.pairs import pairs_of
from epgfn.study import Study
from report_run import make_run
from small import SMALL_STUDY

LEAST = 0.2
AWKWARD = ["LDL (mg/dl)", 'the "third"', "é_x-y\\z"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, epgfn.RunResult]:
    """A run about graphs over numbers with awkward names, one over categories, and one about trees."""
    root = tmp_path_factory.mktemp("runs")
    numbers = Study.from_bytes(SMALL_STUDY.encode()).with_changes(
        {"variables": [{"name": name} for name in AWKWARD]}
    )
    studies = {"numbers": numbers, "categories": kinds.study("categories"), "trees": kinds.study("phylogeny")}
    return {name: epgfn.load_run(make_run(root / name, study)) for name, study in studies.items()}


def read_graphml(run: epgfn.RunResult, raw: bytes) -> None:
    import networkx as nx

    network = nx.read_graphml(io.BytesIO(raw))
    expected = run.to_networkx(LEAST)
    assert set(network) == set(expected) and set(network.edges) == set(expected.edges) and network.edges
    for parent, child, figures in network.edges(data=True):
        assert figures == pytest.approx(expected.edges[parent, child])
    assert network.graph["study_digest"] == run.study.digest


def read_dot(run: epgfn.RunResult, raw: bytes) -> None:
    import pydot

    (graph,) = pydot.graph_from_dot_data(raw.decode("utf-8"))
    found = {
        (pydot_name(edge.get_source()), pydot_name(edge.get_destination())): edge
        for edge in graph.get_edges()
    }
    expected = {
        (pair.parent, pair.child): pair for pair in pairs_of(run.table, run.study) if pair.adjacent >= LEAST
    }
    assert found.keys() == expected.keys() and found
    assert [
        pydot_name(node.get_name()) for node in graph.get_nodes() if node.get_name() != "node"
    ] == run.study.variable_names
    for pair, edge in found.items():
        assert float(edge.get("adjacent")) == pytest.approx(expected[pair].adjacent, abs=1e-6)
        assert (edge.get("dir") == "forward") == expected[pair].told == (edge.get("style") == "solid")


def pydot_name(text: str) -> str:
    quoted = text[1:-1] if text.startswith('"') else text
    return quoted.replace('\\"', '"').replace("\\\\", "\\")


def read_bif(run: epgfn.RunResult, raw: bytes) -> None:
    """pgmpy reads it in tests/outside."""
    text = raw.decode("ascii")
    best = run.model.most_probable(1, n=500, seed=0)
    for child, name in enumerate(run.study.variable_names):
        parents = [run.study.variable_names[i] for i in best.graphs[0, :, child].nonzero().flatten().tolist()]
        assert f"probability ( {name}{' | ' + ', '.join(parents) if parents else ''} )" in text


def read_cpdag(run: epgfn.RunResult, raw: bytes) -> None:
    import pandas as pd

    rows = pd.read_csv(io.BytesIO(raw))
    (text,) = run.model.most_probable(1, classes=True, n=500, seed=0).rows().edges
    arcs = {(a, b) for a, b in zip(rows["from"], rows["to"], strict=True)}
    told = {tuple(edge.split("->")) for edge in text.split(";") if "->" in edge}
    assert told == {(a, b) for a, b in arcs if (b, a) not in arcs}
    assert len(text.split(";")) == len({frozenset(arc) for arc in arcs})
    assert (rows.type == "compelled").sum() == len(told)


def read_newick(run: epgfn.RunResult, raw: bytes) -> None:
    import dendropy

    trees = dendropy.TreeList.get(data=raw.decode("utf-8"), schema="newick", preserve_underscores=True)
    assert len(trees) == 200 and {taxon.label for taxon in trees.taxon_namespace} == set(
        run.study.variable_names
    )
    assert all(tree.is_rooted for tree in trees)
    assert shares_of_clades(trees) == pytest.approx(clades_of(run.samples.objects))


def read_nexus(run: epgfn.RunResult, raw: bytes) -> None:
    import dendropy

    trees = dendropy.TreeList.get(data=raw.decode("utf-8"), schema="nexus", store_tree_weights=True)
    assert [tree.weight for tree in trees] == pytest.approx(list(run.samples.counts().share), abs=1e-6)
    assert [taxon.label for taxon in trees.taxon_namespace] == run.study.variable_names
    assert shares_of_clades(trees) == pytest.approx(clades_of(run.samples.objects), abs=1e-6)


def shares_of_clades(trees: object) -> dict[frozenset[str], float]:
    """By DendroPy's trees and weights."""
    found: dict[frozenset[str], float] = {}
    weights = [1.0 if tree.weight is None else tree.weight for tree in trees]  # type: ignore[attr-defined]
    for tree, weight in zip(trees, weights, strict=True):  # type: ignore[call-overload]
        for node in tree.postorder_internal_node_iter():
            clade = frozenset(leaf.taxon.label for leaf in node.leaf_iter())
            found[clade] = found.get(clade, 0.0) + weight / sum(weights)
    return found


def clades_of(texts: list[str]) -> dict[frozenset[str], float]:
    """By hand, of plain names."""
    found: dict[frozenset[str], float] = {}
    for text in texts:
        stack: list[set[str]] = [set()]
        for token in text.replace("(", " ( ").replace(")", " ) ").replace(",", " ").replace(";", " ").split():
            if token == "(":
                stack.append(set())
            elif token == ")":
                clade = stack.pop()
                found[frozenset(clade)] = found.get(frozenset(clade), 0.0) + 1 / len(texts)
                stack[-1] |= clade
            else:
                stack[-1].add(token)
    return found


def read_parquet(run: epgfn.RunResult, raw: bytes) -> None:
    import pandas as pd

    assert pd.read_parquet(io.BytesIO(raw)).equals(run.table)


def read_jkl(run: epgfn.RunResult, raw: bytes) -> None:
    """As its definition says; the best acyclic choice by all orders of the variables has the posterior's greatest log-probability."""
    lines = iter(raw.decode("ascii").splitlines())
    names = tokens(run.study.variable_names, "jkl")
    scores: dict[str, dict[frozenset[str], float]] = {}
    assert int(next(lines)) == len(names)
    for _ in names:
        name, count = next(lines).split()
        rows = [next(lines).split() for _ in range(int(count))]
        scores[name] = {frozenset(row[2:]): float(row[0]) for row in rows}
        assert all(len(row) == 2 + int(row[1]) for row in rows) and len(scores[name]) == int(count)
    assert list(scores) == names and next(lines, None) is None
    graphs = run.model.graphs(2000, seed=1).graphs
    share = {}
    for graph in torch.unique(graphs, dim=0):
        parents = [
            frozenset(names[i] for i in graph[:, j].nonzero().flatten().tolist()) for j in range(len(names))
        ]
        log_p = sum(scores[name][of] for name, of in zip(names, parents, strict=True))
        share[math.exp(log_p)] = float((graphs == graph).all(-1).all(-1).double().mean())
    total = sum(share)
    for weight, p in share.items():
        assert p == pytest.approx(weight / total, abs=0.05)


def read_arviz(run: epgfn.RunResult, raw: bytes, tmp_path: Path) -> None:
    arviz = pytest.importorskip("arviz")
    path = tmp_path / "draws.nc"
    path.write_bytes(raw)
    data = arviz.from_netcdf(str(path))
    assert data.posterior.attrs["study_digest"] == run.study.digest
    first = data.posterior["edge" if run.study.kind.has_edges else "answer"]
    shares = first.to_numpy().reshape(-1, *first.shape[2:]).mean(0)
    expected = np.array([run.marginals[name] for name in run.marginals])
    found = shares[~np.eye(len(shares), dtype=bool)] if run.study.kind.has_edges else shares
    assert found == pytest.approx(expected, abs=0.12)


def read_csv(run: epgfn.RunResult, raw: bytes) -> None:
    import pandas as pd

    pd.testing.assert_frame_equal(pd.read_csv(io.BytesIO(raw)), run.table)


READERS: dict[str, tuple[tuple[str, ...], Callable[..., None]]] = {
    "csv": (("numbers", "categories", "trees"), read_csv),
    "graphml": (("numbers", "categories"), read_graphml),
    "dot": (("numbers", "categories"), read_dot),
    "bif": (("categories",), read_bif),
    "cpdag-csv": (("numbers", "categories"), read_cpdag),
    "newick": (("trees",), read_newick),
    "nexus": (("trees",), read_nexus),
    "parquet": (("numbers", "categories", "trees"), read_parquet),
    "jkl": (("numbers", "categories"), read_jkl),
    "arviz": (("numbers", "trees"), read_arviz),
}


def test_every_format_has_a_reader_here_and_a_place_on_the_command_line() -> None:
    assert list(EXPORTS) == list(READERS) == [form.value for form in ExportFormat]


@pytest.mark.parametrize(
    ("form", "name"), [(form, name) for form, (names, _) in READERS.items() for name in names]
)
def test_what_is_written_is_read_back(
    runs: dict[str, epgfn.RunResult], tmp_path: Path, form: str, name: str
) -> None:
    if form == "arviz":
        pytest.importorskip("arviz")
    options = Options(least=LEAST, draws=500)
    path = export(runs[name], form, tmp_path / "out", options)
    raw = path.read_bytes()
    reader = READERS[form][1]
    reader(runs[name], raw, *([tmp_path] if form == "arviz" else []))
    if form != "arviz":  # netCDF has the time in it
        assert export(runs[name], form, tmp_path / "again", options).read_bytes() == raw


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (form, name)
        for form, (names, _) in READERS.items()
        for name in ("numbers", "categories", "trees")
        if name not in names and form != "arviz"
    ],
)
def test_a_format_that_does_not_go_with_the_study_says_which_do(
    runs: dict[str, epgfn.RunResult], tmp_path: Path, form: str, name: str
) -> None:
    with pytest.raises(epgfn.errors.UsageError, match=r"parquet|graphml"):
        runs[name].export(form, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_that_would_be_the_same_word_are_refused() -> None:
    assert tokens(["a b", "1", "x_y"], "jkl") == ["a_b", "v_1", "x_y"]
    with pytest.raises(epgfn.errors.UsageError, match="'a b' would be 'a_b'"):
        tokens(["a b", "a_b"], "jkl")


def test_an_unknown_format_is_refused_with_what_there_is(runs: dict[str, epgfn.RunResult]) -> None:
    with pytest.raises(epgfn.errors.UsageError, match="graphml, dot, bif"):
        runs["numbers"].export("xls")


def test_edges_by_knowledge_of_a_design_are_told_by_their_own_probability() -> None:
    import pandas as pd

    table = pd.DataFrame(
        {"parent": ["a", "b"], "child": ["b", "a"], "probability": [0.97, 0.01], "adjacent": [0.98, 0.98]}
    )
    study = Study.from_bytes(SMALL_STUDY.encode())
    (pair,) = pairs_of(table, study)
    assert pair.told and (pair.parent, pair.child) == ("a", "b")
    (pair,) = pairs_of(table.assign(compelled=[0.1, 0.0]), study)
    assert not pair.told

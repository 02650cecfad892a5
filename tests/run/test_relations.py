"""What samples say beyond edges, against a count graph by graph with networkx."""

from __future__ import annotations

import html
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

from epgfn.run import relations
from epgfn.run.audit.audit import audit_run
from epgfn.run.relations import ANCESTORS, BLANKETS, RELATIONS, V_STRUCTURES, relations_of
from epgfn.run.report import write_report
from epgfn.run.samples import counted
from epgfn.study import Study
from run_directory import contents, opened
from small import SMALL_STUDY

NAMES = ["a", "b", "c", "d", "e"]
STUDY = Study.from_bytes(SMALL_STUDY.encode()).with_changes(
    {
        "variables": [{"name": name, "centre": 0.0, "scale": 1.0} for name in NAMES],
        "space": {"max_parents": 3},
    }
)


def drawn(n: int, seed: int) -> list[nx.DiGraph]:
    """Random graphs, some of them several times."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(n):
        order = rng.permutation(5)
        graph = nx.DiGraph()
        graph.add_nodes_from(NAMES)
        for i, j in itertools.combinations(range(5), 2):
            if rng.random() < 0.35 and graph.in_degree(NAMES[order[j]]) < 3:
                graph.add_edge(NAMES[order[i]], NAMES[order[j]])
        found += [graph] * int(rng.integers(1, 4))
    return found


def text(graph: nx.DiGraph) -> str:
    return ";".join(f"{a}->{b}" for a, b in sorted(graph.edges))


def class_of(graph: nx.DiGraph) -> tuple[frozenset[frozenset[str]], frozenset[tuple[str, str, str]]]:
    """Skeleton and v-structures, which are the same throughout a class and in no other (Verma & Pearl, 1990)."""
    skeleton = frozenset(frozenset(edge) for edge in graph.edges)
    return skeleton, frozenset(shapes(graph))


def shapes(graph: nx.DiGraph) -> list[tuple[str, str, str]]:
    return [
        (a, c, b)
        for c in NAMES
        for a, b in itertools.combinations(sorted(graph.predecessors(c)), 2)
        if not (graph.has_edge(a, b) or graph.has_edge(b, a))
    ]


@pytest.mark.parametrize("block", [relations.BLOCK, 7])
def test_shares_are_those_of_a_count_graph_by_graph(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations, "BLOCK", block)
    graphs = drawn(120, seed=4)
    n = len(graphs)
    found = relations_of(Counter(map(text, graphs)), STUDY)
    upstream, blanket, colliders = np.zeros((5, 5)), np.zeros((5, 5)), Counter[tuple[str, str, str]]()
    for graph in graphs:
        for j, name in enumerate(NAMES):
            for other in nx.ancestors(graph, name):
                upstream[NAMES.index(other), j] += 1 / n
            near = {*graph.predecessors(name), *graph.successors(name)}
            near |= {p for child in graph.successors(name) for p in graph.predecessors(child)}
            for other in near - {name}:
                blanket[NAMES.index(other), j] += 1 / n
        colliders.update(shapes(graph))
    assert np.allclose(found[ANCESTORS], upstream, atol=1e-12)
    assert np.allclose(found[BLANKETS], blanket, atol=1e-12)
    assert {(a, c, b): round(p * n) for a, c, b, p in found[V_STRUCTURES]} == dict(colliders)
    shares = [p for *_, p in found[V_STRUCTURES]]
    assert shares == sorted(shares, reverse=True)
    texts, alike = Counter(map(text, graphs)), Counter(map(class_of, graphs))
    assert found["different_graphs"] == len(texts) and found["different_classes"] == len(alike)
    most = [text(nx.DiGraph([tuple(edge) for edge in row["directed"]])) for row in found["graphs"]]
    assert [round(row["share"] * n) for row in found["graphs"]] == [texts[each] for each in most]
    assert [round(row["share"] * n) for row in found["graphs"]] == [c for _, c in texts.most_common(10)]
    assert [round(row["share"] * n) for row in found["classes"]] == [c for _, c in alike.most_common(10)]


def test_a_class_says_which_directions_no_observation_tells() -> None:
    found = relations_of({"a->b;b->c": 3, "b->a;b->c": 2, "a->c;b->c": 4, "": 1}, STUDY)
    assert [row["share"] for row in found["classes"]] == [0.5, 0.4, 0.1]
    assert (
        found["classes"][0]["undirected"] == [["a", "b"], ["b", "c"]] and not found["classes"][0]["directed"]
    )
    assert found["classes"][1] == {"share": 0.4, "directed": [["a", "c"], ["b", "c"]]}
    assert found[V_STRUCTURES] == [["a", "c", "b", 0.4]]


def test_the_audit_counts_again_and_the_report_tells(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    for node in ("north", "south"):
        run.send(node)
    _, samples = contents(run.study.raw, run.model("global", 0.0))
    run.summary = {
        RELATIONS: relations_of(counted(samples, run.study.kind.column), run.study),
        "samples_from": "samples",
    }
    run.close()
    report = audit_run(run.finish())
    assert report.ok, report.findings
    page = html.unescape(write_report(run.root, out=tmp_path / "page.html").read_text())
    assert "By what directions are told, and what lies upstream" in page


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found[ANCESTORS][0].__setitem__(1, 0.5),
        lambda found: found[BLANKETS].append([0.0, 0.0, 0.0]),
        lambda found: found[V_STRUCTURES].append(["a", "c", "b", 1.0]),
        lambda found: found["graphs"][0].update(share="all"),
        lambda found: found.pop("classes"),
        lambda found: found.update(more=True),
    ],
)
def test_what_the_samples_do_not_say_fails(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    run = opened(tmp_path / "run")
    for node in ("north", "south"):
        run.send(node)
    _, samples = contents(run.study.raw, run.model("global", 0.0))
    found = relations_of(counted(samples, run.study.kind.column), run.study)
    change(found)
    run.summary = {RELATIONS: found}
    run.close()
    failed = [finding for finding in audit_run(run.finish()).findings if not finding.ok]
    assert [finding.check for finding in failed] == ["global"] and "samples beside it say" in failed[
        0
    ].message

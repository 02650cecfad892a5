"""The most probable graphs and equivalence classes, as shares of the signed samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from epgfn.gflownet.measure.graph_relations import classes as classes_of
from epgfn.run.report.html import Markup, dots, subsection, table
from epgfn.run.report.run import Run
from epgfn.run.report.text import number
from epgfn.run.samples import adjacency
from epgfn.run.summary import SAMPLES_FROM

SHOWN = 5
DRAWN_FROM = {
    "exact": "the exact answer of the nodes' score tables",
    "weighted": "the global model, in proportion to its samples' weights",
    "chains": "Markov chains on the nodes' score tables",
    "samples": "the global model",
}


class Counted(NamedTuple):
    """What was drawn, as marks such as "a → b" or "a – b" (either way), and its share."""

    marks: frozenset[str]
    share: float


def frequent(run: Run) -> Markup | str:
    """Tables of graphs and of classes; empty where no samples are signed."""
    if not run.counts or not run.study.kind.has_edges:
        return ""
    total = sum(run.counts.values())
    graphs, classes = most_frequent_graphs(run.counts, run.study.variable_names, run.study.space.max_parents)
    basis = DRAWN_FROM.get(str(run.summary.get(SAMPLES_FROM, "samples")), DRAWN_FROM["samples"])
    of = f"Shares of {total:,} signed samples, drawn from {basis}."
    return subsection(
        "Which graphs are probable as a whole",
        table(
            f"Equivalence classes: graphs that imply the same independences, as one. a – b: either way. {of} "
            f"There are {classes.different:,} different ones.",
            ("class", "share", ""),
            _rows(classes.first),
            numeric=("share",),
        ),
        table(
            f"Single graphs. {of} There are {graphs.different:,} different ones, so that each has a small share where directions cannot "
            "be told.",
            ("graph", "share", ""),
            _rows(graphs.first),
            numeric=("share",),
        ),
    )


class Frequent(NamedTuple):
    """The `first` few by share, and how many `different` ones there are."""

    first: list[Counted]
    different: int


def most_frequent_graphs(
    counts: Mapping[str, int], names: list[str], max_parents: int
) -> tuple[Frequent, Frequent]:
    """Graphs, and their Markov equivalence classes, from texts of samples and how often each stands there."""
    found = adjacency(list(counts), names, max_parents)
    weight = torch.tensor(list(counts.values()), dtype=torch.float64)
    return _most(found, weight, names), _most(classes_of(found), weight, names)


def _most(graphs: torch.Tensor, weight: torch.Tensor, names: list[str]) -> Frequent:
    different, where = torch.unique(graphs.flatten(1).to(torch.uint8), dim=0, return_inverse=True)
    share = torch.zeros(len(different), dtype=torch.float64).index_add(0, where, weight / weight.sum())
    order = share.argsort(descending=True, stable=True)[:SHOWN]
    square = different[order].view(-1, len(names), len(names)).bool()
    return Frequent(
        [Counted(_marks(graph, names), float(share[k])) for graph, k in zip(square, order, strict=True)],
        len(different),
    )


def _marks(graph: torch.Tensor, names: list[str]) -> frozenset[str]:
    pairs = [(i, j) for i, j in graph.nonzero().tolist() if not (graph[j, i] and j < i)]
    return frozenset(f"{names[i]} {'–' if graph[j, i] else '→'} {names[j]}" for i, j in pairs)


def _rows(found: list[Counted]) -> list[list[object]]:
    first = found[0].marks
    rows: list[list[object]] = []
    for number_, one in enumerate(found):
        said = ", ".join(sorted(one.marks)) or "no edge"
        if number_:
            less, more = sorted(first - one.marks), sorted(one.marks - first)
            clauses = [f"without {', '.join(less)}"] if less else []
            clauses += [f"with {', '.join(more)}"] if more else []
            said = f"as the first, {'; '.join(clauses)}"
        rows.append([said, number(one.share), dots(one.share)])
    return rows

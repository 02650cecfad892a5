"""What was found where the objects are graphs: a drawing, a table that the reader sorts, a heatmap, graphs and classes as a whole; and, in
a simulation, how far all that is from the exact posterior."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from epgfn.learn.conversions import edge_rows
from epgfn.run.comparison.graphs import Comparison, edge_matrix
from epgfn.run.directions import adjacent_probabilities
from epgfn.run.layout import COMPARISON
from epgfn.run.pairs import Pair, pairs_of
from epgfn.run.report.figures import Array
from epgfn.run.report.frequent import frequent
from epgfn.run.report.heatmap import heatmap
from epgfn.run.report.html import Markup, dots, join, picture, sortable, subsection, table, tag
from epgfn.run.report.lacking import lacking
from epgfn.run.report.network import network
from epgfn.run.report.parameters import parameters
from epgfn.run.report.run import Run
from epgfn.run.report.text import number, signed
from epgfn.run.report.upstream import upstream
from epgfn.study.lacks import doubted, seen_by

LEAST_EDGES, MOST_EDGES = 12, 60
EQUIVALENCE = (
    "Records cannot always tell which way an edge goes: graphs that imply the same independences are equally supported, so an edge and its "
    "reverse may share a probability. Adjacent: that there is an edge, whichever way. Compelled: that there is this edge and every "
    "equivalent graph has it too. Parent and child are words for a graph, not for cause and effect."
)
DESIGNED = (
    "Rows in which a variable was set can tell graphs apart that imply the same independences: an edge and its reverse then need not share "
    "a probability, and such a probability is what the records say. Compelled leaves that out: it counts only what would hold if nothing "
    "had been set."
)

MIXED = (
    "Between a category and a number the study's score knows one direction alone, from the category to the number. Compelled leaves "
    "out what that alone tells, of such edges and of others."
)


def pairs(run: Run) -> list[Pair]:
    """Each two variables, the most probably adjacent first."""
    assert run.edges is not None
    return pairs_of(edge_rows(run.study.variable_names, run.edges, run.compelled), run.study)


def edges(run: Run) -> Markup:
    """Drawing, table, heatmap, and the most probable graphs and classes."""
    assert run.edges is not None
    return join(
        part
        for part in (
            subsection(
                "Which edges are probable",
                network(run.study.variable_names, pairs(run)),
                parameters(run),
                lacking(run),
                _edge_table(run),
            ),
            frequent(run),
            upstream(run),
            subsection("All edges at once", heatmap(run.study.variable_names, run.edges)),
        )
        if part
    )


class _Row(NamedTuple):
    """An edge, from number `i` to number `j` of the variables."""

    i: int
    j: int
    spread: float


def _edge_table(run: Run) -> Markup:
    assert run.edges is not None
    comparison, names, learned = run.comparison, run.study.variable_names, run.edges
    exact = None if comparison is None else comparison.exact_edges
    local = [] if comparison is None else list(comparison.local_edges.values())
    reference = None
    if comparison is not None and comparison.reference_edges is not None:
        reference = edge_matrix(comparison.reference_edges, names)
    adjacent = adjacent_probabilities(learned)
    seen = seen_by(run.study, run.aggregated) if run.study.data.lacks else None
    doubt = set(doubted(run.study, run.aggregated)) if run.study.data.lacks else set()
    every = [_row(i, j, local) for i in range(len(names)) for j in range(len(names)) if i != j]
    every.sort(key=lambda row: (-learned[row.i, row.j], row))
    probable = sum(bool(learned[row.i, row.j] >= 0.5) for row in every)
    kept = every[: min(MOST_EDGES, max(LEAST_EDGES, probable))]

    def cells(row: _Row) -> list[object]:
        at = row.i, row.j
        found: list[object] = [
            join([names[row.i], tag("span", "→", class_="arrow"), names[row.j]], " "),
            number(float(learned[at])),
            dots(float(learned[at]), [float(of[at]) for of in local]),
            number(float(adjacent[at])),
        ]
        if run.compelled is not None:
            found.append(number(float(run.compelled[at])))
        if exact is not None:
            found += [number(float(exact[at])), signed(float(learned[at] - exact[at]))]
        if seen is not None:
            found.append(
                f"{seen[row.i][row.j]} of {len(run.aggregated)}{', in doubt' if _pair(row) in doubt else ''}"
            )
        if reference is not None:
            found.append("yes" if reference[at] else "reversed" if reference[at[::-1]] else "no")
        return found

    head = ["edge", "probability", "", "adjacent"] + (["compelled"] if run.compelled is not None else [])
    head += ["exact", "difference"] if exact is not None else []
    head += ["seen by"] if seen is not None else []
    head += ["published network"] if reference is not None else []
    orders: dict[str, Callable[[_Row], object]] = {
        "probability": lambda row: 0,  # as they are
        "parent": lambda row: row.i,
        "child": lambda row: row.j,
        "adjacent": lambda row: -adjacent[row.i, row.j],
    }
    if local:
        orders["the nodes' difference"] = lambda row: -row.spread
    rows = {name: [cells(row) for row in sorted(kept, key=order)] for name, order in orders.items()}  # type: ignore[arg-type]
    known = EQUIVALENCE if run.study.design.column is None else f"{EQUIVALENCE} {DESIGNED}"
    known += f" {MIXED}" if run.study.one_way else ""
    caption = (
        f"{known} The {len(kept)} most probable of {len(every)} possible edges; {probable} are at .5 or more."
    )
    if reference is not None:
        caption += f" {int(reference.sum())} edges are in the published network."
    if comparison is not None:
        caption += f" What is exact, and what is published, is the simulation's, from {COMPARISON}."
    if seen is not None:
        caption += " Seen by: how many of the nodes have both variables, so that their records say something of an edge between them."
    if local:
        caption += " The dot is the result, the interval what each node's own model says by itself."
    return sortable(
        caption, head, rows, numeric=("probability", "adjacent", "compelled", "exact", "difference")
    )


def _pair(row: _Row) -> tuple[int, int]:
    return min(row.i, row.j), max(row.i, row.j)


def _row(i: int, j: int, local: list[Array]) -> _Row:
    found = [float(of[i, j]) for of in local] or [0.0]
    return _Row(i, j, max(found) - min(found))


def beside_the_exact(comparison: Comparison, png: bytes) -> Markup:
    """A simulation's heatmaps and errors of the nodes' own models."""
    truth = comparison.exact_edges is not None
    shown = "the global model, and each node's own model"
    if truth:
        shown = "the global model, the exact posterior, their difference, and each node's own model"
    caption = (
        "Row: parent. Column: child. All panels of probabilities share one scale from 0 to 1; the diagonal is crossed out. Empty cells are "
        f"below .005. Only the global model's are what the round found; all others are the simulation's, from {COMPARISON}."
    )
    return subsection(
        "Beside the exact posterior" if truth else "Beside each node's own model",
        picture(png, f"Heatmaps of the probability of each edge: {shown}.", caption),
        _local_errors(comparison) if truth else "",
    )


def _local_errors(comparison: Comparison) -> Markup:
    largest = comparison.local_edge_max_error
    rows = [
        (node, number(mean, 4), number(largest[node])) for node, mean in comparison.local_edge_mae.items()
    ]
    caption = "Each node's model against the exact posterior of that node's own records. Errors of the local models add up in the product."
    return table(
        caption, ["node", "mean error", "largest error"], rows, numeric=("mean error", "largest error")
    )

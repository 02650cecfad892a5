"""The most probable Markov equivalence class as arcs, `from` and `to`: one row where the direction can be told, both where it cannot, as
bnlearn's `arcs` has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epgfn.base.spreadsheets import csv_bytes
from epgfn.run.exports.options import Options, require_graphs
from epgfn.run.lacking import IN_DOUBT

if TYPE_CHECKING:
    from epgfn.run.result import RunResult


def cpdag_csv(run: RunResult, options: Options) -> bytes:
    """The class that `Model.most_probable` puts first, with `type` "compelled" or "reversible" and the published probability that the two
    are `adjacent`."""
    require_graphs(run, "cpdag-csv")
    names = run.study.variable_names
    graph = run.model.most_probable(1, classes=True, n=options.draws, seed=options.seed).graphs[0]
    adjacent = dict(
        zip(zip(run.table["parent"], run.table["child"], strict=True), run.table["adjacent"], strict=True)
    )
    rows = [
        (names[i], names[j], "reversible" if graph[j, i] else "compelled", adjacent[names[i], names[j]])
        for i, j in graph.nonzero().tolist()
    ]
    header = ("from", "to", "type", "adjacent")
    if IN_DOUBT not in run.table:
        return csv_bytes(header, rows)
    doubted = run.table[run.table[IN_DOUBT]]
    pairs = set(zip(doubted["parent"], doubted["child"], strict=True))
    return csv_bytes((*header, IN_DOUBT), [(*row, row[:2] in pairs) for row in rows])

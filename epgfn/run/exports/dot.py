"""Graphviz's language: one line a pair of variables, as wide as it is probable; an arrow where the direction can be told, else dashed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epgfn.run.exports.options import Options, require_graphs

if TYPE_CHECKING:
    from epgfn.run.result import RunResult

WIDEST = 4.0
"""Points, of an edge that is certain."""


def dot(run: RunResult, options: Options) -> bytes:
    """The pairs of `epgfn.run.pairs` that are adjacent with probability `options.least` or more."""
    require_graphs(run, "dot")
    from epgfn.run.pairs import pairs_of

    lines = [
        f"digraph {_quoted(run.study.name)} {{",
        "  rankdir=TB; node [shape=box, style=rounded, fontname=Helvetica];",
    ]
    if run.caveat:
        lines.append(f"  label={_quoted(run.caveat)}; labelloc=b;")
    lines += [f"  {_quoted(name)};" for name in run.study.variable_names]
    for pair in pairs_of(run.table, run.study):
        if pair.adjacent < options.least:
            continue
        look = "solid" if pair.told else "dashed"
        arrow = "forward" if pair.told else "none"
        width = max(0.3, WIDEST * pair.adjacent)
        figures = f"adjacent={pair.adjacent:.6f}, probability={pair.probability:.6f}"
        drawn = f'penwidth={width:.2f}, style={look}, dir={arrow}, label="{pair.adjacent:.2f}"'
        lines.append(f"  {_quoted(pair.parent)} -> {_quoted(pair.child)} [{drawn}, {figures}];")
    return "\n".join([*lines, "}", ""]).encode("utf-8")


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'

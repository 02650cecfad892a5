"""NEXUS (Maddison, Swofford and Maddison, 1997): the taxa, and each different tree with its share of the published ones as its weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epgfn.run.exports.newick import root_token
from epgfn.run.exports.options import Options

if TYPE_CHECKING:
    from epgfn.run.result import RunResult


def nexus(run: RunResult, options: Options) -> bytes:
    """The most frequent tree first."""
    rooted = root_token(run.study, "nexus")
    counts = run.samples.counts()
    taxa = " ".join(_label(name) for name in run.study.variable_names)
    lines = [
        "#NEXUS",
        "",
        "begin taxa;",
        f"  dimensions ntax={len(run.study.variables)};",
        f"  taxlabels {taxa};",
        "end;",
        "",
        "begin trees;",
    ]
    for number, (text, share) in enumerate(
        zip(counts[run.samples.column], counts["share"], strict=True), start=1
    ):
        lines.append(f"  tree t{number} = {rooted} [&W {share:.8g}] {text}")
    return "\n".join([*lines, "end;", ""]).encode("utf-8")


def _label(name: str) -> str:
    """As Newick quotes it, which NEXUS does for a few characters more."""
    plain = name and all(c.isalnum() or c == "." for c in name)
    return name if plain else "'" + name.replace("'", "''") + "'"

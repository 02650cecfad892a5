"""A run's result in the formats of other tools: `epgfn export RUN_DIR --to graphml`.

One format is one file with a function from a run to the bytes of its file, and one line here. What it is of is what was published and
signed, or drawn from the signed model. Nothing heavy is imported before a format is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from epgfn.base.errors import UsageError
from epgfn.base.files import write_atomic
from epgfn.run.exports.arviz_file import arviz_file
from epgfn.run.exports.bif import bif
from epgfn.run.exports.cpdag_csv import cpdag_csv
from epgfn.run.exports.csv_file import csv
from epgfn.run.exports.dot import dot
from epgfn.run.exports.graphml import graphml
from epgfn.run.exports.jkl import jkl
from epgfn.run.exports.newick import newick
from epgfn.run.exports.nexus import nexus
from epgfn.run.exports.options import Options
from epgfn.run.exports.parquet import parquet
from epgfn.run.result import RunResult


class Export(NamedTuple):
    """`contents` of the file, whose name ends in `suffix`; `what` is in it and which tools read it, and a `caution` against taking it
    for more than it is."""

    contents: Callable[[RunResult, Options], bytes]
    suffix: str
    what: str
    caution: str = ""


EXPORTS: Final[dict[str, Export]] = {
    "csv": Export(csv, ".csv", "the table of probabilities, for spreadsheets, R, any program"),
    "graphml": Export(graphml, ".graphml", "edges with their probabilities, for Cytoscape, Gephi, networkx, igraph"),
    "dot": Export(dot, ".dot", "a drawing of the probable edges, for Graphviz"),
    "bif": Export(
        bif,
        ".bif",
        "the most probable graph as a network over categories, for bnlearn, pgmpy",
        "BIF wants a table for each variable, and no table of records has left its institution: those in the file are uniform. Fit them "
        "to records of your own before you ask the network anything but its edges.",
    ),
    "cpdag-csv": Export(cpdag_csv, ".csv", "the most probable Markov equivalence class as a list of arcs, for bnlearn, pcalg"),
    "newick": Export(newick, ".nwk", "the published trees, one a line, for DendroPy, ape, SumTrees"),
    "nexus": Export(nexus, ".nex", "the different trees with the share of each, for DendroPy, FigTree, DensiTree"),
    "parquet": Export(parquet, ".parquet", "the table of probabilities, for pandas, R's arrow, DuckDB"),
    "jkl": Export(jkl, ".jkl", "the scores of parents that the posterior adds up, for GOBNILP, BiDAG"),
    "arviz": Export(arviz_file, ".nc", "draws as ArviZ's InferenceData in netCDF (needs: pip install 'epgfn[arviz]')"),
}  # fmt: skip


def export(run: RunResult, to: str, out: Path | None = None, options: Options | None = None) -> Path:
    """Write what `EXPORTS[to]` makes of `run` to `out` (default: the study's directory name with the format's ending, here); its path.

    Raises:
        UsageError: there is no such format, it does not go with the study, or what it needs is not installed.
        RefusedError: the run's files are not those that the coordinator signed. EpgfnError: the file cannot be written.
    """
    if to not in EXPORTS:
        raise UsageError(f"there is no export {to!r}; choose one of {', '.join(EXPORTS)}")
    made = EXPORTS[to]
    raw = made.contents(run, options or Options())
    target = out if out is not None else Path(f"{run.path.resolve().name}{made.suffix}")
    write_atomic(target, raw)
    return target


__all__ = ["EXPORTS", "Export", "Options", "export"]

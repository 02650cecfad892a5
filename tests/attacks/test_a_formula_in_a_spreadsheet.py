"""Promise: whoever opens a table that this software wrote has their spreadsheet calculate nothing. Somebody names a variable, a category or
a taxon so that its cell is a formula, which in a spreadsheet may start a program or send other cells away."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest

import epgfn
from epgfn.base.spreadsheets import from_cell
from epgfn.learn.samples import Samples, write_samples
from epgfn.run.exports import export
from epgfn.study import Study
from epgfn.study.knowledge_files import (
    forbidden_edges,
    prior_of_lists,
    read_edges,
    required_edges,
    write_edges,
)
from report_run import make_run
from small import SMALL_STUDY

FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+HYPERLINK(\"//x\")",
    "@SUM(A1)",
    "-2+3",
    "＝1+1",
    " =1",
    "'=1",
]  # fmt: skip
ROOT = Path(__file__).parents[2]
WRITERS = re.compile(r"\.to_csv\(|csv\.(writer|DictWriter)\(")
OF_RECORDS = {"epgfn/demo/demo.py", "epgfn/testing.py", "epgfn/bench/reading.py"}
"""These make tables for this software to read, with names of their own."""


def named(names: list[str]) -> Study:
    study = Study.from_bytes(SMALL_STUDY.encode())
    return study.with_changes({"variables": [{"name": name, "centre": 0.0, "scale": 1.0} for name in names]})


def cells_of(raw: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(raw.decode("utf-8"), newline="")))


def require_harmless(raw: bytes) -> None:
    """However it is cut: at commas as it was written, at semicolons as Excel does in half of Europe, at tabs when it is pasted."""
    for separator in ",;\t":
        for row in csv.reader(io.StringIO(raw.decode("utf-8"), newline=""), delimiter=separator):
            for cell in row:
                bare = cell.lstrip(' "\u00a0')
                assert not bare.startswith(("=", "+", "@", "＝")) and not re.match(
                    r"-(?![\d.]+(e-?\d+)?$)", bare
                ), cell


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> epgfn.RunResult:
    return epgfn.load_run(make_run(tmp_path_factory.mktemp("run") / "run", named(FORMULAS[:3])))


@pytest.mark.parametrize("form", ["csv", "cpdag-csv"])
def test_in_an_export(run: epgfn.RunResult, tmp_path: Path, form: str) -> None:
    raw = export(run, form, tmp_path / "out.csv").read_bytes()
    require_harmless(raw)
    header, *rows = cells_of(raw)
    names = {from_cell(cell) for row in rows for cell in row[:2]}
    assert names == set(FORMULAS[:3]) and rows
    if form == "csv":
        for at, column in enumerate(header[2:], 2):
            if run.table[column].dtype.kind == "f":
                assert [float(row[at]) for row in rows] == list(run.table[column])


def test_in_samples_of_graphs(run: epgfn.RunResult, tmp_path: Path) -> None:
    samples = run.sample(50)
    write_samples(samples, "csv", tmp_path / "samples.csv")
    raw = (tmp_path / "samples.csv").read_bytes()
    require_harmless(raw)
    _, *rows = cells_of(raw)
    assert [from_cell(edges) for edges, _ in rows] == list(samples)
    assert [float(log_prob) for _, log_prob in rows] == list(samples.log_prob)


@pytest.mark.parametrize("text", ["=1 2, pear 1", "a=-40, b=1", "-++-", "('=1',b);", "@ 3;=1 2"])
def test_in_samples_of_anything(tmp_path: Path, text: str) -> None:
    write_samples(Samples([text], np.array([-1.5]), None), "csv", tmp_path / "samples.csv")
    raw = (tmp_path / "samples.csv").read_bytes()
    require_harmless(raw)
    assert [from_cell(cells_of(raw)[1][0]), cells_of(raw)[1][1]] == [text, "-1.5"]


def test_in_lists_of_edges_which_are_read_back_as_they_were(tmp_path: Path) -> None:
    study = named(FORMULAS).with_changes(
        {"prior": {"tiers": [[FORMULAS[0]], FORMULAS[1:]], "required": [[FORMULAS[0], FORMULAS[1]]]}}
    )
    for edges in (forbidden_edges(study), required_edges(study)):
        write_edges(tmp_path / "list.csv", edges)
        require_harmless((tmp_path / "list.csv").read_bytes())
        assert read_edges(tmp_path / "list.csv") == edges and edges
    write_edges(tmp_path / "white.csv", required_edges(study))
    write_edges(tmp_path / "black.csv", forbidden_edges(study))
    lists = [read_edges(tmp_path / name) for name in ("white.csv", "black.csv")]
    again = named(FORMULAS).with_changes({"prior": prior_of_lists(FORMULAS, *lists)})
    assert required_edges(again) == required_edges(study) and forbidden_edges(again) == forbidden_edges(study)


def test_a_list_that_others_wrote_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("from,to\n=1,'quoted'\n-2,d'Urville\n")
    assert read_edges(tmp_path / "list.csv") == [("=1", "'quoted'"), ("-2", "d'Urville")]


def test_every_table_for_people_is_written_in_one_place() -> None:
    found = {
        str(path.relative_to(ROOT))
        for folder in ("epgfn", "node", "coordinator")
        for path in (ROOT / folder).rglob("*.py")
        if WRITERS.search(path.read_text("utf-8"))
    }
    assert found == {"epgfn/base/spreadsheets.py", *OF_RECORDS}

"""What nodes lack is said wherever a result is shown: the report's first sentence and its list, verdict, answers, exports and audit; a
summary that leaves it out is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import epgfn
from epgfn.cli.main import app
from epgfn.run.audit.audit import audit_run
from epgfn.run.audit.conclusion import conclusion
from epgfn.run.report import report_of
from epgfn.run.report.run import read_run
from epgfn.run.report.verdict import verdict
from epgfn.study import Study
from report_run import make_run
from small import SMALL_STUDY

TRUST = {
    "trust": {
        "verdict": "good",
        "samples": 10_000,
        "effective_share": 0.9,
        "khat": 0.2,
        "moved_by_weights": 0.01,
        "exact_largest_error": 0.01,
    }
}


def study(lacks: str, more: str = "") -> Study:
    return Study.from_bytes(f"{SMALL_STUDY}\n[data]\nlacks = {{ {lacks} }}\n{more}\n".encode())


DOUBTED = study('south = ["a"]', "accept_confounding = true")


@pytest.fixture(scope="module")
def doubted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("doubted") / "run", DOUBTED, summary={"diagnostics": TRUST})


def test_the_first_sentence_is_the_caveat_and_nothing_is_called_good(doubted: Path) -> None:
    run = read_run(doubted)
    assert not run.failures
    run = replace(run, summary={**run.summary, "diagnostics": TRUST, "probabilities_from": "exact"})
    said = verdict(run)
    assert said.tone == "fair" and said.headline.startswith("In doubt: 1 pair of variables (b and c).")
    page, _ = report_of(run)
    assert page.index("In doubt: 1 pair") < page.index("adjacent with probability")
    assert "The 1 pair in doubt" in page and "2 of 2, in doubt" in page and "1 of 2" in page


def test_python_says_it_with_the_verdict_and_in_the_table(doubted: Path) -> None:
    run = epgfn.load_run(doubted)
    assert run.verdict == "good, if no variable that a node lacks joins two that it has"
    assert run.caveat.startswith(
        "In doubt: 1 pair of variables (b and c)"
    ) and run.caveat in run._repr_html_().replace("&#x27;", "'")
    rows = {
        (row["parent"], row["child"]): (row["seen_by"], row["in_doubt"])
        for row in run.table.to_dict("records")
    }
    assert rows["b", "c"] == (2, True) and rows["a", "b"] == (1, False)


@pytest.mark.parametrize("command", ["ask", "sample", "exact", "export"])
def test_no_command_shows_a_result_without_it(doubted: Path, tmp_path: Path, command: str) -> None:
    more = {
        "ask": ["b -> c", "--json"],
        "sample": ["-n", "3"],
        "exact": [],
        "export": ["--to", "csv", "--out", str(tmp_path / "out.csv")],
    }
    found = CliRunner().invoke(app, [command, str(doubted), *more[command]])
    assert found.exit_code == 0 and "In doubt: 1 pair of variables (b and c)" in found.output
    if command == "ask":
        assert json.loads(found.stdout.splitlines()[-1])["notes"]


@pytest.mark.parametrize(
    ("to", "holds"), [("graphml", "In doubt: 1 pair"), ("dot", "In doubt: 1 pair"), ("cpdag-csv", "in_doubt")]
)
def test_files_for_other_tools_hold_it(doubted: Path, tmp_path: Path, to: str, holds: str) -> None:
    written = epgfn.load_run(doubted).export(to, tmp_path / "out")
    assert holds in written.read_text()


def test_the_audit_ends_with_it(doubted: Path) -> None:
    report = audit_run(doubted)
    assert report.ok
    said = [line.sentence for line in conclusion(report) if line.kind == "Cannot be known"]
    assert any(sentence.startswith("in doubt: 1 pair of variables (b and c)") for sentence in said)


@pytest.mark.parametrize("wrong", [{"caveat": ""}, {"in_doubt": []}, {"seen_by": [[2, 2, 2]] * 3}])
def test_a_summary_that_says_otherwise_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    run = make_run(tmp_path / "run", DOUBTED, summary=wrong)
    assert not audit_run(run).ok


def test_nothing_is_in_doubt_where_the_node_took_no_part(tmp_path: Path) -> None:
    run = epgfn.load_run(
        make_run(tmp_path / "run", DOUBTED, absent=("south",), summary={"diagnostics": TRUST})
    )
    assert run.verdict == "good" and run.caveat == "" and "caveat" not in run.summary
    assert set(run.table["seen_by"]) == {1} and not run.table["in_doubt"].any()

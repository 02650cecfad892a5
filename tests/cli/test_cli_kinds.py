"""`epgfn simulate` of a study that is not about graphs: real processes, a global model, an audit and a report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import epgfn
from epgfn.cli.main import _tell
from epgfn.run.comparison.objects import ObjectComparison
from epgfn.run.report.run import read_run
from kinds import TEXTS, write_records


def command(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "epgfn.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_not_known_is_said_and_not_made_up(capsys: pytest.CaptureFixture[str]) -> None:
    comparison = ObjectComparison("sequences", 1e30, {"length >= 1": 0.75}, {"north": {"length >= 1": 0.5}})
    top = [{"object": "", "probability": 0.25, "exact": None}]
    figures = {
        **comparison.figures(),
        "noun": "sequences",
        "top": top,
        "top_from": "samples",
        "marginals_open": 3,
        "certain": ["length >= 0"],
        "impossible": 4,
        "marginals": [{"name": "length >= 1", "probability": 0.75, "exact": None}],
        "noise": False,
        "privacy": "none: ...",
        "notes": ["a caution"],
        "verdict": None,
        "khat": None,
        "contradictions": [],
        "audit_ok": True,
        "audit_checks": 3,
        "run_dir": "run",
        "duration_s": 2.0,
        "report": "run/report.html",
    }
    _tell(figures, as_json=False)
    said = " ".join(capsys.readouterr().out.split())
    assert "(empty) 0.250" in said and "length >= 1 0.750" in said and "Note: a caution." in said
    assert "object share of samples" in said
    left_out = "Not in the table: 2 less probable ones, 1 that are certain (length >= 0), 4 that are as good as impossible."
    assert left_out in said
    assert "too many sequences to list" in said and "None" not in said and "nan" not in said
    _tell(figures, as_json=True)
    assert json.loads(capsys.readouterr().out)["global_l1"] is None


@pytest.mark.slow
def test_a_study_of_multisets_from_files_to_report(tmp_path: Path) -> None:
    text = TEXTS["multiset"].replace("steps = 150", "steps = 60")
    (tmp_path / "study.toml").write_text(text.replace("samples = 200", "samples = 200\nleave_one_out = true"))
    files = [write_records("multiset", tmp_path / node, 40, seed) for seed, node in enumerate("ab")]
    run = tmp_path / "run"
    out = command("simulate", tmp_path / "study.toml", "--data", *files, "--out", run)
    said = " ".join(out.split())
    assert "Most probable multisets" in said and "L1 from the exact posterior over 15 multisets" in said
    assert "Privacy none: whoever can read the policy" in said and "aggregation.leave_one_out" in said
    assert "The published marginals differ from the exact ones by" in said
    top = json.loads((run / "global/summary.json").read_text())["most_probable"]
    assert "object probability exact" in said
    assert f"{top[0]['object']} {top[0]['probability']:.3f}" in said
    assert "Audit: passed" in said and "edge" not in said
    summary = json.loads((run / "global/summary.json").read_text())
    found = json.loads((run / "global/comparison.json").read_text())["comparison"]
    assert found["global_l1"] < 0.5 * found["uniform_l1"] and max(found["local_l1"].values()) < 0.5
    assert summary["noun"] == "multisets" and "edge_probabilities" not in summary
    assert summary["marginals"] == pytest.approx(found["global_marginals"], abs=0.05)
    influence = read_run(run).influence
    assert influence is not None and set(influence.nodes) == {"north", "south"}
    assert all(change.at in summary["marginals"] for change in influence.nodes.values())
    assert "Which multisets are probable" in (run / "global/report.html").read_text()
    table = pd.read_parquet(run / "global/samples.parquet")
    assert list(table.columns) == ["object", "log_prob"] and len(table) == 200
    exact = json.loads(command("exact", run, "--json"))["rows"]
    assert len(exact) == 15 and set(table["object"]) <= {row["object"] for row in exact}
    assert epgfn.load_model(run).marginals(500, seed=1).keys() == summary["marginals"].keys()

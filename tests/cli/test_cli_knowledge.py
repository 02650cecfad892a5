"""A study that rules graphs out, from tables to audit and report, between real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epgfn.run.audit.contents import require_samples
from epgfn.run.samples import counted
from epgfn.study import Study

STUDY = """
name = "registry"
roster = ["north", "south"]
variables = [
  {name = "hba1c", centre = 0, scale = 1}, {name = "bmi", centre = 0, scale = 1}, {name = "age", centre = 0, scale = 1},
]
[space]
max_parents = 2
[prior]
tiers = [["age"], ["bmi"], ["hba1c"]]
required = [["age", "hba1c"]]
[aggregation]
samples = 200
"""


def command(*arguments: str | Path, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "epgfn.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def test_from_tables_to_an_audited_run(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    files = []
    for number in range(2):
        values = np.random.default_rng(number).normal(size=(60, 3))
        values[:, 2] += values[:, 0] + values[:, 1]  # what the records look like is the other way round
        files.append(tmp_path / f"{number}.csv")
        pd.DataFrame(values, columns=["hba1c", "bmi", "age"]).to_csv(files[-1], index=False)
    said = command("study", "check", tmp_path / "study.toml")
    assert "3 of 6 edges cannot be there, and 1 has to be (tiers, required)" in said
    run = tmp_path / "run"
    command("simulate", tmp_path / "study.toml", "--data", *files, "--out", run)
    assert json.loads(command("audit", run, "--json"))["ok"] is True
    edges = np.array(json.loads((run / "global" / "summary.json").read_text("utf-8"))["edge_probabilities"])
    hba1c, bmi, age = range(3)
    assert edges[age, hba1c] == pytest.approx(1, abs=1e-9)
    assert all(edges[pair] == 0 for pair in ((hba1c, age), (bmi, age), (hba1c, bmi)))
    assert 0 < edges[age, bmi] <= 1
    study, raw = Study.load(run / "study.toml"), (run / "global" / "samples.parquet").read_bytes()
    for text in counted(raw, "edges", 200):
        assert "age->hba1c" in text and "->age" not in text and "hba1c->" not in text
    assert "3 of 6 edges cannot be there" in (run / "global" / "report.html").read_text("utf-8")
    other = study.with_changes({"prior": {"tiers": [], "required": [["bmi", "age"]]}})
    with pytest.raises(Exception, match="rules out"):
        require_samples(raw, other, "samples.parquet")


def test_what_contradicts_itself_is_told_before_anything_begins(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        STUDY.replace('required = [["age", "hba1c"]]', 'required = [["hba1c", "bmi"], ["bmi", "hba1c"]]')
    )
    said = command("study", "check", tmp_path / "study.toml", code=1)
    assert "the edge 'hba1c' -> 'bmi' is ruled out by tiers" in said
    assert "no graph without a cycle has all of these edges: " in said
    assert "bmi -> hba1c -> bmi" in said or "hba1c -> bmi -> hba1c" in said

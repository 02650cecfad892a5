"""What would change if something were raised: from tables to `epgfn effects`, between real processes, and refused with a reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import epgfn
from epgfn.base.errors import RefusedError
from epgfn.cli.main import app
from epgfn.run.audit.contents import draw, require_agreement
from epgfn.run.audit.rules import Failed
from epgfn.targets.gaussian import Moments
from parties import in_process
from run_directory import make_run

STUDY = """
name = "registry"
roster = ["north", "south"]
variables = [
  {name = "age", centre = 50, scale = 10}, {name = "bmi", centre = 25, scale = 4}, {name = "hba1c", centre = 6, scale = 1},
]
[space]
max_parents = 2
[target]
parameters = "shared"
[prior]
tiers = [["age"], ["bmi"], ["hba1c"]]
[training]
steps = 5
[aggregation]
steps = 5
samples = 100
"""


def asked(*arguments: str, code: int = 0) -> str:
    done = in_process(app, "epgfn", ["effects", *arguments], {})
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_from_tables_to_effects(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(STUDY)
    files, rows = [], []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        age, bmi = rng.normal(50, 10, 120), rng.normal(25, 4, 120)
        bmi += 0.1 * (age - 50)
        rows.append(np.column_stack([age, bmi, 3 + 0.08 * bmi + 0.02 * age + rng.normal(0, 0.6, 120)]))
        files.append(tmp_path / f"{seed}.csv")
        np.savetxt(files[-1], rows[-1], delimiter=",", header="age,bmi,hba1c", comments="")
    run = tmp_path / "run"
    command = [sys.executable, "-m", "epgfn", "simulate", str(tmp_path / "study.toml"), "--out", str(run)]
    done = subprocess.run([*command, "--data", *map(str, files)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

    said = asked(str(run), "--of", "age", "--on", "hba1c")
    assert said.startswith("hba1c: +0.0") and "hba1c per 1 of age" in said and "95 % between" in said
    found = {row["on"]: row for row in json.loads(asked(str(run), "--of", "bmi", "--json"))["effects"]}
    assert set(found) == {"age", "hba1c"} and found["age"]["zero"] == 1 and found["age"]["mean"] == 0
    # With this order and such records bmi -> hba1c is sure, and so, nearly, is age -> both: its effect given age, of all records.
    x = np.concatenate(rows)
    centred = x - x.mean(0)
    wanted = np.linalg.lstsq(centred[:, :2], centred[:, 2], rcond=None)[0][1]
    assert found["hba1c"]["mean"] == pytest.approx(wanted, abs=0.01) and found["hba1c"]["zero"] < 0.01
    result = epgfn.load_run(run)
    held = result.summary["diagnostics"]["parameters"]["statistic"]
    assert held["records"] == 240 and result.audit.ok
    raw = Moments(held["records"], None, np.array(held["scatter"])).scatter / 240
    assert np.allclose(raw, np.cov(((x - [50, 25, 6]) / [10, 4, 1]).T, bias=True))
    assert "epgfn effects says it of this run" in (run / "global" / "report.html").read_text("utf-8")

    for arguments, why in (
        ([], "add --of NAME; the study's are age, bmi, hba1c"),
        (["--of", "age", "--on", "age"], "name the same"),
        (["--of", "sex"], "no variable 'sex'"),
        (["--of", "age", "--on", "sex"], "no variable 'sex'"),
    ):
        assert why in asked(str(run), *arguments, code=2)
    # Not what the model was made of: whoever wrote it, it says nothing of this result.
    drawn = draw(result.model, result.model.policy.tensors())
    require_agreement(drawn, result.summary, "summary.json")
    held["scatter"][0][1] = held["scatter"][1][0] = 0.0
    with pytest.raises(Failed, match="a statistic of all records that its model was not made of"):
        require_agreement(drawn, result.summary, "summary.json")
    with pytest.raises(RefusedError, match="not what the published model was made of"):
        result.effects("age")
    del result.summary["diagnostics"]["parameters"]["statistic"]
    with pytest.raises(epgfn.errors.UsageError, match="no statistic of all records"):
        result.effects("age")


def test_a_study_without_effects_is_told_so_before_it_is_asked_of_what(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run").root
    for arguments in ([], ["--of", "a"], ["--of", "no such variable"]):
        assert "target.parameters = 'own'" in asked(str(run), *arguments, code=2)

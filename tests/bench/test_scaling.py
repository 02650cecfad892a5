"""`epgfn bench scaling`: rows hold what they promise, the exponent is that of the line, and the plot is a picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from epgfn.base.errors import UsageError
from epgfn.bench.scaling import exponent, scaling

FIELDS = {
    "policy",
    "variables",
    "batch",
    "steps",
    "cpu_ms",
    "cpu_ms_min",
    "cpu_ms_max",
    "length",
    "setup_cpu_s",
}


def test_the_exponent_is_that_of_a_power_law() -> None:
    rows = [{"policy": "p", "variables": v, "cpu_ms": 0.3 * v**2.5} for v in (5, 10, 20, 40)]
    assert exponent(rows, "p") == pytest.approx(2.5)
    assert exponent(rows[:1], "p") is None
    assert exponent(rows, "another") is None


def test_every_policy_has_a_row_for_each_number_of_variables() -> None:
    found = scaling(variables=(6, 4), budget=0.01)
    assert [(row["policy"], row["variables"]) for row in found["rows"]] == [
        (name, v) for name in ("sinks", "edge-net", "edge-attention") for v in (4, 6)
    ]
    for row in found["rows"]:
        assert row.keys() == FIELDS
        assert 0 < row["cpu_ms_min"] <= row["cpu_ms"] <= row["cpu_ms_max"]
        assert row["length"] >= 1
    assert [row["length"] for row in found["rows"][:2]] == [4, 6], "by sinks every variable is one step"
    assert found["exponents"].keys() == {"sinks", "edge-net", "edge-attention"}


@pytest.mark.parametrize(
    "wrong", [{"only": ["oracle"]}, {"variables": [2]}, {"variables": []}, {"budget": 0.0}]
)
def test_what_cannot_be_measured_is_said(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        scaling(**wrong)  # type: ignore[arg-type]


def test_the_command_writes_one_json_object_and_a_png(tmp_path: Path) -> None:
    picture = tmp_path / "scaling.png"
    options = [
        "--only",
        "sinks",
        "--variables",
        "4",
        "--variables",
        "5",
        "--budget",
        "0.01",
        "--json",
        "--plot",
    ]
    command = [sys.executable, "-m", "epgfn.cli.main", "bench", "scaling", *options, str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["variables"] for row in found["rows"]] == [4, 5]
    assert isinstance(found["exponents"]["sinks"], float)
    assert picture.read_bytes().startswith(b"\x89PNG")

"""A simulation stops where a node that nobody watches would, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from epgfn.base.errors import RefusedError
from epgfn.demo.demo import run_study
from epgfn.study import Study

NAMES = [f"x{i}" for i in range(8)]


@pytest.fixture
def study() -> Study:
    rows = "".join(f'[[variables]]\nname = "{name}"\ncentre = 5.0\nscale = 1.0\n' for name in NAMES)
    return Study.from_bytes(f'name = "eight"\nroster = ["north", "south", "east"]\n{rows}'.encode())


def files(folder: Path, south: np.ndarray) -> dict[str, Path]:
    parts = {
        node: np.random.default_rng(i).normal(5, 1, (80, 8))
        for i, node in enumerate(("north", "south", "east"))
    }
    parts["south"] = south
    for node, rows in parts.items():
        np.savetxt(
            folder / f"{node}.csv", rows, delimiter=",", header=",".join(NAMES), comments="", fmt="%.6f"
        )
    return {node: folder / f"{node}.csv" for node in parts}


def odd(case: str) -> np.ndarray:
    rows = np.random.default_rng(1).normal(5, 1, (80, 8))
    if case == "unit":
        rows[:, 3] *= 38.67
    if case == "code":
        rows[[4, 9, 70], 3] = -999
    if case == "row":
        rows[3, [2, 5]] = [-10.0, 35.0]
    return np.repeat(rows, 3, axis=0) if case == "thrice" else rows


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("unit", r"south.csv: column x3: mean 1\d\d scale units from the centre: another unit\? .*38.67"),
        ("code", r"south.csv: column x3: 3 cells \(lines 6, 11 and 72\) are -999"),
        (
            "row",
            r"south.csv: column x2: 1 cell \(line 5\) is far from .*south.csv: column x5: 1 cell \(line 5\) is",
        ),
        ("thrice", "south.csv: every record is there 3 times"),
    ],
)
def test_odd_records_are_loud_and_stop_it(case: str, said: str, study: Study, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=said) as caught:
        run_study(study, files(tmp_path, odd(case)), tmp_path / "run", quiet=True)
    assert caught.value.reason == "warnings" and "--accept-warnings" in str(caught.value)
    assert "north" not in str(caught.value) and not (tmp_path / "run").exists()

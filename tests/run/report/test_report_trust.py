"""Where nobody knows the truth, the report says first what the coordinator found of its own model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from epgfn.run.report.run import read_run
from epgfn.run.report.verdict import Verdict, verdict
from epgfn.study import Study
from report_run import make_run

TRUST = {"samples": 10_000, "effective_share": 0.4, "khat": 0.2, "moved_by_weights": 0.07}


def said(root: Path, study: Study, trust: dict[str, Any], basis: str) -> Verdict:
    run_dir = make_run(root / "run", study)
    path = run_dir / "global" / "summary.json"
    summary = json.loads(path.read_bytes())
    summary["diagnostics"]["trust"] = {**TRUST, **trust}
    path.write_text(json.dumps({**summary, "probabilities_from": basis}))
    return verdict(read_run(run_dir))


@pytest.mark.parametrize(
    ("grade", "tone"),
    [("good", "good"), ("usable after weighting", "fair"), ("not to be relied on", "poor")],
)
def test_a_grade_decides_what_is_said_first(
    tmp_path: Path, small_study: Study, grade: str, tone: str
) -> None:
    found = said(tmp_path, small_study, {"verdict": grade}, "weighted")
    assert found.tone == tone and ("Do not rely" in found.headline) == (tone == "poor")


@pytest.mark.parametrize("grade", ["good", "usable after weighting", "not to be relied on"])
def test_exact_probabilities_do_not_hang_on_the_model(tmp_path: Path, small_study: Study, grade: str) -> None:
    found = said(tmp_path, small_study, {"verdict": grade, "exact_largest_error": 0.33}, "exact")
    assert (
        found.tone == "good" and "exact for what the nodes sent" in found.detail and "0.330" in found.detail
    )
    assert ("samples are not to be relied on" in found.detail) == (grade == "not to be relied on")


def test_a_grade_that_nobody_gives_says_nothing(tmp_path: Path, small_study: Study) -> None:
    assert said(tmp_path, small_study, {"verdict": "excellent"}, "samples").tone == "open"

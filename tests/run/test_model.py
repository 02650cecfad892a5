"""What the objects of a run are drawn from is what the coordinator signed, and nothing that was written over it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epgfn.base.errors import RefusedError, UsageError
from epgfn.run.layout import RunLayout
from epgfn.run.model import drawn_from, load_model
from epgfn.study import Study
from report_run import make_run

POOR = {"diagnostics": {"trust": {"verdict": "not to be relied on"}}, "samples_from": "exact"}


def test_the_signed_summary_says_what_objects_are_drawn_from(tmp_path: Path, small_study: Study) -> None:
    run = make_run(tmp_path / "run", small_study, summary=POOR)
    assert drawn_from(run) == ("exact", "not to be relied on")


def test_a_verdict_that_was_made_better_is_not_believed(tmp_path: Path, small_study: Study) -> None:
    run = make_run(tmp_path / "run", small_study, summary=POOR)
    path = RunLayout(run).summary
    told = json.loads(path.read_text())
    told["diagnostics"]["trust"]["verdict"], told["samples_from"] = "good", "samples"
    path.write_text(json.dumps(told))
    with pytest.raises(RefusedError, match="not the file that the coordinator signed"):
        drawn_from(run)


def test_a_model_by_itself_is_drawn_from_as_it_is(tmp_path: Path, small_study: Study) -> None:
    assert drawn_from(tmp_path) == ("samples", None)
    RunLayout(tmp_path).summary.parent.mkdir()
    RunLayout(tmp_path).summary.write_text("[]")
    with pytest.raises(UsageError, match="is not a summary"):
        drawn_from(tmp_path)


def test_a_model_that_was_put_in_place_of_the_signed_one_answers_nothing(
    tmp_path: Path, small_study: Study
) -> None:
    run = make_run(tmp_path / "run", small_study)
    assert load_model(run).variable_names == small_study.variable_names
    file = RunLayout(run).model
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    with pytest.raises(RefusedError, match="not the file that the coordinator signed"):
        load_model(run)
    load_model(file)  # a file by itself is nobody's in particular

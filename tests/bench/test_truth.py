"""`epgfn bench truth`: rows hold what they promise, and a wrong grade is counted as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epgfn.base.errors import UsageError
from epgfn.bench.truth import read_rows, summary, table, truth
from epgfn.bench.truth_cases import CASES

FIELDS = {"case", "variables", "nodes", "records", "mean_error", "max_error", "verdict", "khat", "cpu_s"}


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_sort_of_case_has_records_for_each_node(name: str) -> None:
    make, number = CASES[name]
    case, again = make(0), make(0)
    assert case.name == name and number >= 1
    assert len(case.records) == len(case.study.roster) >= 1
    for one, other in zip(case.tables or case.records, again.tables or again.records, strict=True):
        np.testing.assert_array_equal(one, other)  # what a node lacks is NaN


def test_a_row_has_what_is_delivered_against_what_is_exact() -> None:
    seen: list[dict[str, Any]] = []
    rows = truth(["means"], on_row=seen.append)
    assert rows == seen and set(rows[0]) >= FIELDS
    row = rows[0]
    assert row["variables"] == 6 and row["records"] == 600 and row["from"] == "exact"
    assert row["mean_error"] <= row["max_error"] < 1e-4 and row["khat"] <= 0.7


def test_good_is_wrong_where_a_probability_is_off_by_more_than_a_tenth() -> None:
    right = {"verdict": "good", "max_error": 0.0, "model_error": 0.04}
    rows = [right, {**right, "model_error": 0.11}, {**right, "max_error": 0.2}]
    rows += [{**right, "verdict": "not to be relied on", "model_error": 0.9}, {**right, "verdict": None}]
    found = summary(rows)
    assert (found["cases"], found["good"], found["wrongly_good"]) == (5, 3, 2)


def test_rows_are_kept_and_not_worked_out_again(tmp_path: Path) -> None:
    kept = tmp_path / "rows.jsonl"
    row = {**dict.fromkeys(FIELDS, 1), "case": "means", "seed": 7}
    kept.write_text(json.dumps(row) + "\n")
    assert truth(["means"], count=1, seed=7, kept=kept) == [row]
    found = truth(["units"], count=1, seed=7, kept=kept)
    assert read_rows(kept) == [row, *found] and found[0]["case"] == "units"
    kept.write_text("not a row\n")
    with pytest.raises(UsageError):
        truth(["means"], kept=kept)


def test_the_table_has_a_row_a_sort_and_counts_grades() -> None:
    one = {"case": "a", "variables": 3, "records": 10, "from": "exact", "max_error": 0.0, "cpu_s": 2.0}
    rows = [{**one, "model_error": error, "verdict": "good"} for error in (0.02, 0.3)]
    rows += [{**one, "case": "b", "model_error": 0.2, "verdict": "not to be relied on", "from": "samples"}]
    lines = table(rows).splitlines()
    assert lines[2] == "| a | 2 | 3 | 10 | exact | below .0001 | .3000 | 2 | 0 | 0 | 1 | 2 |"
    assert lines[3] == "| b | 1 | 3 | 10 | samples | below .0001 | .2000 | 0 | 0 | 1 | 0 | 2 |"
    assert lines[4].startswith("| **all** | 3 |")


@pytest.mark.parametrize("wrong", [{"only": ["lies"]}, {"count": 0}])
def test_a_wrong_question_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        truth(**wrong)

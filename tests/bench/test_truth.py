"""`epgfn bench truth`: rows hold what they promise, and a wrong grade is counted as one."""

from __future__ import annotations

from typing import Any

import pytest

from epgfn.base.errors import UsageError
from epgfn.bench.truth import summary, truth
from epgfn.bench.truth_cases import CASES

FIELDS = {"case", "variables", "nodes", "records", "mean_error", "max_error", "verdict", "khat", "cpu_s"}


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_sort_of_case_has_records_for_each_node(name: str) -> None:
    make, number = CASES[name]
    case, again = make(0), make(0)
    assert case.name == name and number >= 1
    assert len(case.records) == len(case.study.roster) >= 1
    for one, other in zip(case.records, again.records, strict=True):
        assert (one == other).all()


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


@pytest.mark.parametrize("wrong", [{"only": ["lies"]}, {"count": 0}])
def test_a_wrong_question_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        truth(**wrong)

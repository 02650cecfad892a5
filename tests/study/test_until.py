"""How long a study trains: as many steps as it says, or, where it says nothing, until its models are good."""

from __future__ import annotations

from typing import Any

import pytest

from epgfn.base.errors import UsageError
from epgfn.study import Study

TEXT = """
name = "open"
roster = ["a"]
variables = [{ name = "x", categories = ["0", "1"] }]
[space]
kind = "multiset"
size = 2
"""
GRADIENT = {"mode": "gradient", "epsilon": 1.0, "delta": 1e-5, "rate": 0.5, "clip": 10.0}


def study(**changes: Any) -> Study:
    return Study.from_bytes(TEXT.encode()).with_changes(changes)


def parts(of: Study) -> tuple[list[int], list[int]]:
    return of.parts_of(of.training), of.parts_of(of.aggregation)


def test_without_steps_training_goes_on_in_parts_that_double_what_was_done() -> None:
    found = study()
    assert found.training.until == found.aggregation.until == "good"
    local, _ = parts(found)
    assert sum(local) == found.training.steps
    assert local[1:] == [sum(local[: i + 1]) for i in range(len(local) - 1)]


def test_a_study_that_says_how_many_steps_takes_them() -> None:
    found = study(training={"steps": 70}, aggregation={"batch": 64})
    assert parts(found)[0] == [70] and found.training.until == "steps"
    assert found.aggregation.until == "good"


def test_steps_are_the_most_where_both_are_said() -> None:
    assert parts(study(training={"until": "good", "steps": 70}))[0] == [70]
    first = parts(study())[0][0]
    assert parts(study(training={"until": "good", "steps": first + 9}))[0] == [first, 9]


def test_what_pays_for_each_step_is_never_left_open() -> None:
    found = study(privacy=GRADIENT)
    assert found.training.until == "steps" and found.aggregation.until == "good"
    assert found.training.steps == parts(study())[0][0]
    with pytest.raises(UsageError, match="paid for"):
        study(privacy=GRADIENT, training={"until": "good", "steps": 50})


def test_a_study_written_and_read_again_trains_as_long() -> None:
    variables = [{"name": "x"}, {"name": "y"}]
    found = Study.model_validate(
        {"name": "open", "roster": ["a"], "variables": variables, "space": {"max_parents": 1}}
    )
    again = Study.from_bytes(found.raw)
    assert parts(again) == parts(found) and len(parts(found)[0]) > 1

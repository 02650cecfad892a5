"""A node's own people are told how far its model may be believed."""

from __future__ import annotations

from typing import Any

import pytest

from epgfn.study import Study
from epgfn_node.training import graded

TEXT = 'name = "t"\nroster = ["a"]\nvariables = [{ name = "x", centre = 0, scale = 1 }, { name = "y", centre = 0, scale = 1 }]\n'


def study(kind: str) -> Study:
    return Study.from_bytes(f'{TEXT}space = {{ kind = "{kind}", max_parents = 1 }}\n'.encode())


@pytest.mark.parametrize(
    ("trust", "said"),
    [
        ({"exact_largest_error": 0.314}, "off by 0.31"),
        ({"missing_share": 0.351}, "lacks 35%"),
        ({"missing_share": 0.0}, "graded not to be relied on"),
    ],
)
def test_a_poor_grade_says_why_and_what_it_means(trust: dict[str, Any], said: str) -> None:
    trust = {**trust, "verdict": "not to be relied on"}
    assert said in graded(trust, study("dag-by-edges"))
    assert "no better" in graded(trust, study("dag-by-edges"))
    assert "put right" in graded(trust, study("dag-by-sinks"))


def test_a_good_grade_is_one_clause() -> None:
    assert graded({"verdict": "good"}, study("dag-by-sinks")).startswith("graded good")

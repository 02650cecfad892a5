"""Where nobody knows the truth, the report says first what the coordinator found of its own model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from epgfn.run.report import write_report
from epgfn.run.report.disagreement import in_words
from epgfn.run.report.run import read_run
from epgfn.run.report.verdict import Verdict, verdict
from epgfn.study import Study
from report_run import make_run

TRUST = {"samples": 10_000, "effective_share": 0.4, "khat": 0.2, "moved_by_weights": 0.07}


def said(root: Path, study: Study, trust: dict[str, Any], basis: str) -> Verdict:
    run = read_run(make_run(root / "run", study))
    assert not run.failures
    diagnostics = {**run.summary["diagnostics"], "trust": {**TRUST, **trust}}
    return verdict(
        replace(run, summary={**run.summary, "diagnostics": diagnostics, "probabilities_from": basis})
    )


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


@pytest.mark.parametrize(("apart", "tone"), [(0.02, "good"), (0.09, "fair")])
def test_probabilities_of_markov_chains_are_never_passed_off_as_the_models(
    tmp_path: Path, small_study: Study, apart: float, tone: str
) -> None:
    trust = {"verdict": "not to be relied on", "chains_apart": apart, "chains_largest_error": 0.41}
    found = said(tmp_path, small_study, trust, "chains")
    assert found.tone == tone
    for part in ("not the global model's", "Markov chains", f"{apart:.3f}", "0.410", "not to be relied on"):
        assert part in found.detail


def test_what_is_as_good_as_the_nodes_models_says_so(tmp_path: Path, small_study: Study) -> None:
    found = said(tmp_path, small_study, {"verdict": "good", "exact_largest_error": 0.02}, "product")
    assert "as good as these models" in found.detail and "score tables" not in found.detail


def test_a_target_of_models_is_not_called_one_of_tables(tmp_path: Path, small_study: Study) -> None:
    trust = {"verdict": "good", "target": "product of the models", "missing_share": 0.013}
    found = said(tmp_path, small_study, trust, "weighted")
    assert "when they are multiplied" in found.detail and "0.013" in found.detail


@pytest.mark.parametrize("basis", ["product", "weighted", "samples"])
def test_a_product_where_a_model_never_was_is_not_relied_on_and_says_whose(
    basis: str, tmp_path: Path, small_study: Study
) -> None:
    trust = {"verdict": "not to be relied on", "exact_largest_error": 0.001, "product_error": 0.01}
    found = said(tmp_path, small_study, {**trust, "strangers": ["south", "nobody", 3]}, basis)
    assert found.tone == "poor"
    assert "the models of south hardly ever met" in found.headline + found.detail
    assert "nobody" not in found.headline


def test_a_grade_that_nobody_gives_says_nothing(tmp_path: Path, small_study: Study) -> None:
    assert said(tmp_path, small_study, {"verdict": "excellent"}, "samples").tone == "open"


def test_nodes_that_contradict_one_another_are_named_first(tmp_path: Path, small_study: Study) -> None:
    nodes = {node: {"own": -3.0, "of_global": -169.0} for node in small_study.roster}
    pair = list(small_study.roster)
    overlap = {"verdict": "contradict", "contradictions": [pair, ["nobody", pair[0]], 3], "nodes": nodes}
    run_dir = make_run(tmp_path / "run", small_study, summary={"diagnostics": {"overlap": overlap}})
    found = verdict(read_run(run_dir))
    assert found.tone == "poor" and found.headline.startswith(
        "The nodes do not agree: north contradicts south."
    )
    assert "166.0" in found.detail and "nobody" not in found.headline
    assert "north contradicts south" in write_report(run_dir).read_text()


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([("a", "c"), ("b", "c")], "c contradicts a and b"),
        ([("a", "b"), ("a", "c"), ("b", "c")], "a, b and c contradict one another"),
        ([("a", "b"), ("c", "d")], "a contradicts b; c contradicts d"),
    ],
)
def test_who_contradicts_whom_is_said_once_for_each_pair(pairs: list[tuple[str, str]], words: str) -> None:
    assert in_words(pairs) == words


@pytest.mark.parametrize(("error", "tone"), [(0.01, "good"), (0.2, "poor")])
def test_a_product_of_inaccurate_models_is_not_to_be_relied_on(
    tmp_path: Path, small_study: Study, error: float, tone: str
) -> None:
    grade = "good" if tone == "good" else "not to be relied on"
    trust = {"verdict": grade, "product_error": error, "exact_largest_error": 0.01}
    found = said(tmp_path, small_study, trust, "product")
    assert found.tone == tone and f"{error:.3f}" in found.detail
    assert ("too inaccurate" in found.headline) == (tone == "poor")
    assert "samples are not to be relied on" not in found.detail

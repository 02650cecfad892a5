"""`epgfn audit` draws from the signed model: samples and summaries that another one would give fail, though the coordinator signed them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from epgfn.run.audit.audit import audit_run
from epgfn.study import Study
from kinds import TEXTS
from report_run import made_model, make_run
from run_directory import contents


def failure(root: Path) -> str:
    """What the audit says of the global model; all else must pass."""
    failed = [finding for finding in audit_run(root).findings if not finding.ok]
    assert {finding.check for finding in failed} <= {"global"}
    return failed[0].message if failed else ""


def named(kind: str) -> Study:
    return Study.from_bytes(TEXTS[kind].encode())


def truth(study: Study) -> dict[str, Any]:
    """The probabilities that a true summary has."""
    return dict(contents(study.raw, made_model(study))[0])


@pytest.mark.parametrize("kind", ["dag", "multiset", "phylogeny"])
def test_samples_of_another_model_of_the_study_are_found(
    tmp_path: Path, small_study: Study, kind: str
) -> None:
    study = small_study if kind == "dag" else named(kind)
    assert not failure(make_run(tmp_path / "true", study))
    table = pd.read_parquet(tmp_path / "true" / "global" / "samples.parquet")
    table.iloc[:] = table.iloc[0].to_numpy()
    raw = io.BytesIO()
    table.to_parquet(raw, index=False)
    said = failure(make_run(tmp_path / "false", study, samples=raw.getvalue()))
    assert "global/samples.parquet does not say what the signed model says" in said


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda table: table.iloc[1:], "samples; the study asks for"),
        (lambda table: table.assign(edges="a->b;b->a"), "a graph has a cycle"),
        (lambda table: table.assign(edges="a->mars"), "not one between two of the variables"),
        (lambda table: table.assign(more=1), "other columns"),
    ],
)
def test_what_is_no_table_of_the_studys_samples_is_found(
    tmp_path: Path, small_study: Study, change: Any, why: str
) -> None:
    make_run(tmp_path / "true", small_study)
    table, raw = pd.read_parquet(tmp_path / "true" / "global" / "samples.parquet"), io.BytesIO()
    change(table).to_parquet(raw, index=False)
    assert why in failure(make_run(tmp_path / "false", small_study, samples=raw.getvalue()))


@pytest.mark.parametrize("basis", ["exact", "weighted", "samples"])
def test_an_edge_made_probable_is_found_whatever_it_is_said_to_come_from(
    tmp_path: Path, small_study: Study, basis: str
) -> None:
    edges = json.loads(json.dumps(truth(small_study)["edge_probabilities"]))
    edges[0][1] = 1.0 if edges[0][1] < 0.5 else 0.0
    told = {"edge_probabilities": edges, "probabilities_from": basis}
    assert "does not say what the signed model says" in failure(
        make_run(tmp_path / "run", small_study, summary=told)
    )


def test_exact_probabilities_are_checked_to_the_third_digit(tmp_path: Path, small_study: Study) -> None:
    edges = json.loads(json.dumps(truth(small_study)["edge_probabilities"]))
    edges[0][1] += 0.01
    assert "does not say" in failure(
        make_run(tmp_path / "run", small_study, summary={"edge_probabilities": edges})
    )


def test_the_error_that_a_summary_admits_is_the_models(tmp_path: Path, small_study: Study) -> None:
    """The untrained policy around a score table is off by something; nobody may call it nothing, or all."""
    for said in (0.0, 1.0):
        trust = {"trust": {"exact_largest_error": said}}
        root = make_run(tmp_path / str(said), small_study, summary={"diagnostics": trust})
        found = failure(root)
        if found:
            assert f"off by {said:.3f} at most" in found
            break
    else:
        pytest.fail("no error is called the model's")


@pytest.mark.parametrize(
    ("basis", "figure"), [("product", "exact_largest_error"), ("weighted", "moved_by_weights")]
)
def test_what_rests_on_the_nodes_models_is_no_further_off_than_it_says(
    tmp_path: Path, basis: str, figure: str
) -> None:
    study = named("multiset")
    moved = {name: min(1.0, p + 0.2) for name, p in truth(study)["marginals"].items()}
    told: dict[str, Any] = {"marginals": moved, "probabilities_from": basis}
    for number, (trust, why) in enumerate([
        ({}, "does not say how far"),
        ({figure: float("inf")}, "does not say how far"),
        ({figure: 0.02}, "does not say what the signed model says"),
        ({figure: 0.2}, ""),
    ]):  # fmt: skip
        root = make_run(tmp_path / str(number), study, summary={**told, "diagnostics": {"trust": trust}})
        assert why in failure(root) and bool(why) == bool(failure(root))

"""`epgfn audit` draws from the signed model: samples and summaries that another one would give fail, though the coordinator signed them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.torch import load

from epgfn.learn.model import Model
from epgfn.learn.trust import Basis
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


def changed(study: Study, change: Any) -> dict[str, Any]:
    """The true table of compelled edges, with one entry changed by what it and its edge are."""
    told = json.loads(json.dumps(truth(study)))
    edges, compelled = told["edge_probabilities"], told["compelled_probabilities"]
    i, j = max(
        ((i, j) for i in range(len(edges)) for j in range(len(edges)) if i != j),
        key=lambda at: edges[at[0]][at[1]],
    )
    compelled[i][j] = change(compelled[i][j], edges[i][j])
    return {"compelled_probabilities": compelled}


def test_an_edge_that_is_said_to_be_compelled_must_be_so(tmp_path: Path, small_study: Study) -> None:
    assert not failure(make_run(tmp_path / "true", small_study))
    turned = changed(small_study, lambda told, edge: 0.0 if told > edge / 2 else edge)
    said = failure(make_run(tmp_path / "turned", small_study, summary=turned))
    assert "does not say what the signed model says" in said and "compelled" in said
    above = changed(small_study, lambda told, edge: edge + 1e-3)
    assert "is not of the form" in failure(make_run(tmp_path / "above", small_study, summary=above))


def test_a_summary_of_before_compelled_edges_were_published_passes(
    tmp_path: Path, small_study: Study
) -> None:
    made = made_model(small_study)
    known = contents(small_study.raw, made)[0].pop("compelled_probabilities")
    try:
        assert not failure(make_run(tmp_path / "run", small_study))
    finally:
        contents(small_study.raw, made)[0]["compelled_probabilities"] = known


def test_the_most_probable_objects_are_no_further_off_than_the_summary_says(tmp_path: Path) -> None:
    study = named("multiset")
    told: dict[str, Any] = {"probabilities_from": "product"}
    table = pd.read_parquet(io.BytesIO(contents(study.raw, made_model(study))[1]))
    first = table["object"].value_counts(normalize=True)
    for number, (added, why) in enumerate([
        (0.0, ""),
        (0.3, "does not say what the signed model says"),
        (2.0, "is not of the form"),
    ]):  # fmt: skip
        top = [{"object": str(first.index[0]), "probability": float(first.iloc[0]) + added}]
        trust = {"trust": {"exact_largest_error": 0.02}}
        root = make_run(
            tmp_path / str(number),
            study,
            summary={**told, "most_probable": top, "diagnostics": trust},
        )
        assert why in failure(root) and bool(why) == bool(failure(root))


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


@pytest.mark.parametrize("basis", ["exact", "weighted", "chains"])
def test_samples_are_from_what_the_summary_says_they_are_from(
    tmp_path: Path, small_study: Study, basis: Basis
) -> None:
    tensors = load(made_model(small_study))
    edges = truth(small_study)["edge_probabilities"]
    told = {"edge_probabilities": edges, "probabilities_from": basis, "samples_from": basis}
    told["diagnostics"] = {"trust": {"chains_apart": 0.02}}
    one, other = io.BytesIO(), io.BytesIO()
    count = small_study.aggregation.samples
    Model(small_study, tensors).sample(count, 5, basis).rows().to_parquet(one, index=False)
    another = load(made_model(small_study, seed=2))
    Model(small_study, another).sample(count, 5, "exact").rows().to_parquet(other, index=False)
    true, false = one.getvalue(), other.getvalue()
    assert not failure(make_run(tmp_path / "true", small_study, summary=told, samples=true))
    said = failure(make_run(tmp_path / "false", small_study, summary=told, samples=false))
    assert "global/samples.parquet does not say what the signed model says" in said
    elsewhere = {**told, "probabilities_from": "exact", "samples_from": "product"}
    said = failure(make_run(tmp_path / "elsewhere", small_study, summary=elsewhere, samples=true))
    assert "which the probabilities are not from" in said


@pytest.mark.parametrize("basis", ["exact", "weighted"])
@pytest.mark.parametrize("summed", [True, False], ids=["sums", "chains"])
def test_what_is_weighted_is_checked_also_where_the_auditors_weights_do_not_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, small_study: Study, basis: Basis, summed: bool
) -> None:
    monkeypatch.setattr("epgfn.run.audit.contents.EXACT_VARIABLES", 0)
    monkeypatch.setattr("epgfn.gflownet.measure.trust.weights_hold", lambda effective, khat: False)
    if not summed:
        monkeypatch.setattr("epgfn.learn.exact.exact_of_table", lambda study, table: None)
    edges = truth(small_study)["edge_probabilities"]
    told = {"edge_probabilities": edges, "probabilities_from": basis, "samples_from": basis}
    count = small_study.aggregation.samples
    for number, (seed, moved, why) in enumerate([
        (1, False, ""),
        (2, False, "global/samples.parquet does not say what the signed model says"),
        (1, True, "global/summary.json does not say what the signed model says"),
    ]):  # fmt: skip
        samples = io.BytesIO()
        Model(small_study, load(made_model(small_study, seed=seed))).sample(
            count, 5, "chains"
        ).rows().to_parquet(samples, index=False)
        summary = json.loads(json.dumps(told))
        if moved:
            summary["edge_probabilities"][0][1] = 1.0 if edges[0][1] < 0.5 else 0.0
        root = make_run(tmp_path / str(number), small_study, summary=summary, samples=samples.getvalue())
        assert why in failure(root) and bool(why) == bool(failure(root))


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


def test_probabilities_of_chains_are_those_of_the_auditors_own(tmp_path: Path, small_study: Study) -> None:
    edges = json.loads(
        json.dumps(truth(small_study)["edge_probabilities"])
    )  # of the table that the model carries
    told: dict[str, Any] = {"edge_probabilities": edges, "probabilities_from": "chains"}
    moved = json.loads(json.dumps(edges))
    moved[0][1] += 0.3 if moved[0][1] < 0.5 else -0.3
    for number, (more, why) in enumerate([
        ({"diagnostics": {"trust": {}}}, "does not say how far its Markov chains are apart"),
        ({"diagnostics": {"trust": {"chains_apart": 0.02}}}, ""),
        ({"diagnostics": {"trust": {"chains_apart": 0.9}}, "edge_probabilities": moved}, "does not say what"),
    ]):  # fmt: skip
        root = make_run(tmp_path / str(number), small_study, summary={**told, **more})
        assert why in failure(root) and bool(why) == bool(failure(root))


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

"""What a person does with a model: load it, draw graphs, ask for edges."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import epgfn
from epgfn.base.errors import RefusedError, UsageError
from epgfn.learn.local import train_local
from epgfn.learn.model import Model, terminating_distribution
from epgfn.learn.samples import write_samples
from epgfn.learn.trust import Basis
from epgfn.sealing.model_file import write_model
from epgfn.study import Study
from worlds import BY_EDGES, BY_SINKS, records

STUDIES = [BY_SINKS, BY_EDGES]


@pytest.fixture(scope="module", params=STUDIES, ids=lambda s: s.space.kind)
def model(request: pytest.FixtureRequest) -> Model:
    study: Study = request.param.with_changes({"training": {"steps": 20}})
    return Model(study, train_local(study, records(0), seed=1).tensors)


def test_samples_and_edges_follow_the_models_own_distribution(model: Model) -> None:
    state, probability = terminating_distribution(model)
    adjacency = state.adjacency
    assert float(probability.sum()) == pytest.approx(1, abs=1e-5)
    expected = (probability[:, None, None] * adjacency).sum(0).numpy()
    assert np.abs(model.edge_probabilities(8000, seed=1) - expected).max() < 0.03
    samples = model.sample(4000, seed=2)
    assert samples.adjacency.shape == (4000, 4, 4)
    assert np.abs(samples.adjacency.mean(0) - expected).max() < 0.04


@pytest.fixture(scope="module")
def wrong() -> Model:
    """Its scores are right, and its network is not."""
    tensors = train_local(BY_SINKS, records(0), seed=1).tensors
    draw = torch.Generator().manual_seed(4)
    for tensor in tensors.values():
        if tensor.dtype == torch.float32:
            tensor += 0.15 * torch.randn(tensor.shape, generator=draw)
    return Model(BY_SINKS, tensors)


@pytest.mark.parametrize("basis", ["exact", "weighted", "chains"])
def test_objects_are_drawn_from_what_the_scores_say_whatever_the_model_draws(
    wrong: Model, basis: Basis
) -> None:
    exact = np.array(list(wrong.marginals().values()))
    apart = ~np.eye(4, dtype=bool)
    own = wrong.sample(4000, seed=3).adjacency.mean(0)[apart]
    drawn = wrong.sample(4000, seed=3, basis=basis)
    assert np.abs(own - exact).max() > 0.1
    assert np.abs(drawn.adjacency.mean(0)[apart] - exact).max() < 0.05
    assert len(drawn.objects) == 4000 and np.isfinite(drawn.log_prob).all()
    assert wrong.sample(50, seed=3, basis=basis).objects == wrong.sample(50, seed=3, basis=basis).objects


def test_what_nothing_can_be_drawn_from_is_said_so() -> None:
    short = BY_EDGES.with_changes({"training": {"steps": 2}})
    model = Model(short, train_local(short, records(0), seed=0).tensors)
    with pytest.raises(UsageError, match="nothing can be drawn from this model on the basis 'chains'"):
        model.sample(10, basis="chains")


def test_log_prob_estimates_the_true_one(model: Model) -> None:
    state, probability = terminating_distribution(model)
    adjacency = state.adjacency
    exact = {
        graph.numpy().tobytes(): math.log(p) for graph, p in zip(adjacency, probability.tolist(), strict=True)
    }
    samples = model.sample(500, seed=3)
    error = samples.log_prob - [exact[graph.tobytes()] for graph in samples.adjacency]
    assert np.abs(error).mean() < 0.1


def test_a_seed_repeats_a_draw_and_none_does_not(model: Model) -> None:
    draws = [model.sample(50, seed=seed).adjacency for seed in (5, 5, None, None)]
    assert (draws[0] == draws[1]).all()
    assert (draws[2] != draws[3]).any()


def test_a_model_is_found_in_a_run_directory_or_by_file(tmp_path: Path) -> None:
    study = BY_SINKS.with_changes({"training": {"steps": 2}})
    tensors = train_local(study, records(0), seed=1).tensors
    (tmp_path / "study.toml").write_bytes(study.raw)
    (tmp_path / "global").mkdir()
    file = tmp_path / "global" / "model.safetensors"
    save_file(tensors, file)
    found = [epgfn.load_model(tmp_path), epgfn.load_model(str(file)), epgfn.load_model(file, study)]
    draws = [one.sample(20, seed=1) for one in found]
    assert all((draw.adjacency == draws[0].adjacency).all() for draw in draws)
    assert found[0].variable_names == ["a", "b", "c", "d"]
    with pytest.raises(RefusedError):
        epgfn.load_model(file, BY_EDGES)


def test_a_model_is_not_read_under_another_study_that_it_would_fit(tmp_path: Path) -> None:
    study = BY_SINKS.with_changes({"training": {"steps": 2}})
    tensors = train_local(study, records(0), seed=1).tensors
    file = tmp_path / "model.safetensors"
    file.write_bytes(write_model(tensors, {"study_digest": study.digest, "role": "global"}))
    assert epgfn.load_model(file, study).variable_names == ["a", "b", "c", "d"]
    relabelled = study.with_changes({"variables": [{"name": name} for name in "dcba"]})
    with pytest.raises(RefusedError, match="another study"):
        epgfn.load_model(file, relabelled)


def test_what_is_missing_or_no_model_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"study\.toml"):
        epgfn.load_model(tmp_path)
    (tmp_path / "study.toml").write_bytes(BY_SINKS.raw)
    with pytest.raises(UsageError, match="model"):
        epgfn.load_model(tmp_path)
    file = tmp_path / "model.safetensors"
    for junk in (b"", b"not a model", b"\x08\0\0\0\0\0\0\0{{{{{{{{"):
        file.write_bytes(junk)
        with pytest.raises(UsageError, match="not a safetensors"):
            epgfn.load_model(file)
    save_file({"weights": torch.zeros(2)}, file)
    with pytest.raises(RefusedError):
        epgfn.load_model(file)


def test_rows_read_as_edges(model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = model.sample(30, seed=0)
    for graph, text in zip(samples.adjacency, samples.objects, strict=True):
        assert text == ";".join(f"{'abcd'[i]}->{'abcd'[j]}" for i, j in np.argwhere(graph))
    write_samples(samples, "csv", None)
    printed = pd.read_csv(io.StringIO(capsys.readouterr().out), keep_default_na=False)
    for form, read in (
        ("csv", pd.read_csv),
        ("jsonl", lambda p: pd.read_json(p, lines=True)),
        ("parquet", pd.read_parquet),
    ):
        write_samples(samples, form, tmp_path / f"samples.{form}")
        rows = read(tmp_path / f"samples.{form}")
        assert list(rows.columns) == ["edges", "log_prob"]
        assert np.allclose(rows["log_prob"], samples.log_prob)
    assert list(printed["edges"]) == list(samples.rows()["edges"])
    with pytest.raises(UsageError):
        write_samples(samples, "parquet", None)


def test_no_graphs_cannot_be_asked_for(model: Model) -> None:
    with pytest.raises(UsageError):
        model.sample(0)

"""The benchmark of privacy: its references are the exact posteriors, its rows hold what they promise, and more privacy costs more."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from epgfn.base.errors import UsageError
from epgfn.bench.privacy import INSTANCES, Setting, privacy
from epgfn.bench.releases import dags, objects, studies, worlds
from epgfn.bench.releases.measure import Ask, Errors
from epgfn.bench.releases.trained import study_of
from epgfn.learn.scores import score_table
from epgfn.privacy.of_study.networks import DiscreteNetwork
from epgfn.study.kinds.dag import GaussianSettings
from epgfn.targets import bge
from epgfn.targets.gaussian import Moments

pytestmark = pytest.mark.usefixtures("seeded_noise")
FIELDS = {
    "instance",
    "mode",
    "records",
    "nodes",
    "epsilon",
    "delta",
    "first_seed",
    "worlds",
    "trained",
    "l1_mean",
    "l1_se",
    "l1_release",
    "edge_error_mean",
    "edge_error_max",
    "edge_error_null",
    "edge_reference_error",
    "target",
}


@pytest.mark.parametrize(
    ("name", "most"),
    [("moments-5", 0.3), ("counts-5", 0.6), ("answers-multiset", 0.15), ("answers-sequence", 0.15), ("answers-grid", 0.4)],
)  # fmt: skip
def test_rows_hold_what_they_promise_and_privacy_costs(name: str, most: float) -> None:
    rows = privacy([name], Setting(worlds=6, epsilons=(0.1, 40.0)))
    assert [set(row) for row in rows] == [FIELDS, FIELDS]
    strict, loose = rows
    assert 0 < loose["l1_mean"] < strict["l1_mean"] < 2.001
    assert loose["l1_mean"] < most / 2
    graphs = INSTANCES[name].mode == "statistic"
    assert (loose["edge_error_mean"] is not None) == graphs
    if graphs:
        assert 0 < loose["edge_error_mean"] < loose["edge_error_max"] < 1
        assert loose["edge_error_mean"] < loose["edge_error_null"]


def test_nodes_add_up() -> None:
    """Two nodes with the same total say as much as one, where nothing is noisy."""
    one = dags.moments(Ask(500, 4, 59.0))(3)
    assert one.l1 is not None and one.l1 < 0.1
    row = privacy(["moments-5-nodes-4"], Setting(worlds=2, epsilons=(4.0,)))[0]
    assert (row["nodes"], row["target"]) == (4, 0.05)
    assert privacy(["moments-5-nodes-4"], Setting(worlds=2, epsilons=(4.0,), nodes=2))[0]["target"] is None


def test_more_variables_are_compared_by_edges() -> None:
    errors = dags.moments(Ask(1000, 1, 8.0), variables=7)(3000)
    assert errors.l1 is None
    assert errors.edge_mean is not None and errors.edge_null is not None and errors.edge_max is not None
    assert 0 < errors.edge_mean < errors.edge_max < 1
    assert errors.edge_mean < errors.edge_null


def test_the_comparison_finds_no_distance_between_a_posterior_and_itself() -> None:
    x = np.random.default_rng(1).normal(size=(50, 5))
    sets = dags.sets_of(5)
    scores = bge.score(Moments.of_records(torch.from_numpy(x)), sets, GaussianSettings())
    table = scores.masked_fill(sets.T, -torch.inf)
    assert dags.Comparison(5).errors(table, table)[:3] == (0.0, 0.0, 0.0)


def test_models_are_trained_on_the_score_that_is_compared() -> None:
    """The study of `--trained` scores as the release's own table does: same prior, same hyperparameters."""
    x = np.random.default_rng(2).normal(size=(80, 5))
    sets, study = dags.sets_of(5), study_of(1)
    theirs = score_table(study, x, n_parties=1)
    ours = bge.score(Moments.of_records(torch.from_numpy(x)), sets, GaussianSettings())
    finite = torch.isfinite(theirs)
    gap = (theirs - ours)[finite]
    assert torch.allclose(gap, gap[0].expand_as(gap), atol=1e-8)


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_trained_row_has_the_model_and_the_release(nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epgfn.bench.releases.trained.STEPS", 3)
    row = privacy(["moments-5"], Setting(worlds=2, epsilons=(8.0,), nodes=nodes, trained=True))[0]
    assert row["trained"] and row["nodes"] == nodes
    assert 0 < row["l1_release"] < row["l1_mean"] < 2  # three steps are few


def test_a_gradient_row_is_between_right_and_knowing_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    few = studies.GRADIENT.replace("steps = 300", "steps = 20")
    monkeypatch.setattr("epgfn.bench.releases.studies.GRADIENT", few)
    found = studies.release(Ask(2000, 1, 8.0), kind="multiset", mode="gradient")(0)
    assert found.l1 is not None and 0.1 < found.l1 < 1.9


@pytest.mark.parametrize("make", [objects.multisets, objects.sequences, objects.grid])
def test_records_say_most_for_the_object_they_come_from(make: Callable[[], objects.Case]) -> None:
    case = make()
    assert {objects.multisets: 210, objects.sequences: 85, objects.grid: 144}[make] == len(case.objects)
    rng = np.random.default_rng(5)
    ranks = []
    for chosen in rng.integers(len(case.objects), size=10):
        said = case.per_record(case.draw(int(chosen), 5_000, rng), case.objects).double().sum(0)
        ranks.append(int((said > said[int(chosen)]).sum()))
    assert np.median(ranks) <= len(case.objects) / 10


def test_noise_has_unit_variance_and_heavy_tails_where_asked() -> None:
    rng = np.random.default_rng(0)
    for tails, kurtosis in (("gaussian", 3.0), ("laplace", 6.0)):
        x = worlds.noise((200_000, 1), tails, rng)  # type: ignore[arg-type]
        assert float(x.std()) == pytest.approx(1.0, abs=0.01)
        assert float((x**4).mean()) == pytest.approx(kurtosis, rel=0.1)
    assert worlds.noise((200_000, 1), "student", rng).std() == pytest.approx(1.0, abs=0.02)


def test_discrete_worlds_stay_in_their_categories() -> None:
    rng = np.random.default_rng(0)
    columns = DiscreteNetwork(dags.CATEGORIES, rng).draw(500, rng)
    assert columns.min() == 0 and (columns.max(0) < np.array(dags.CATEGORIES)).all()


def test_an_error_that_is_not_there_is_null_and_not_a_number_in_json() -> None:
    assert Errors() == (None,) * len(Errors._fields)
    row = privacy(["answers-multiset"], Setting(worlds=2, epsilons=(8.0,)))[0]
    assert row["edge_error_mean"] is None and not any(
        isinstance(value, float) and math.isnan(value) for value in row.values()
    )


@pytest.mark.parametrize(
    ("only", "setting"),
    [
        (["moments-6"], Setting()),
        ([], Setting(worlds=1)),
        ([], Setting(nodes=0)),
        (["gradient-multiset"], Setting(trained=True)),
        (["answers-grid"], Setting(trained=True)),
        (["moments-5"], Setting(epsilons=(0.0,))),
    ],
)
def test_a_wrong_question_is_refused(only: list[str], setting: Setting) -> None:
    with pytest.raises(UsageError):
        privacy(only, setting)


def test_the_command_prints_one_object() -> None:
    command = [
        sys.executable,
        "-m",
        "epgfn.cli.main",
        "bench",
        "privacy",
        "--only",
        "moments-5",
        "--worlds",
        "2",
    ]
    done = subprocess.run([*command, "--epsilon", "8", "--json"], capture_output=True, timeout=300, text=True)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["instance"], row["epsilon"], row["target"]) == ("moments-5", 8.0, 0.26)

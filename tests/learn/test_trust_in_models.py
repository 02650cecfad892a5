"""A global model by sinks is graded by the sum of the nodes' score tables: a model that missed it is never called good, and what is
published does not depend on how well it was trained."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError
from epgfn.gflownet.device import seeded
from epgfn.gflownet.measure.equivalence import compelled_edges
from epgfn.gflownet.measure.exact import edge_marginals, posterior
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.training.loop import TrainingProgress
from epgfn.learn import exact as exact_sums
from epgfn.learn.aggregate import train_global
from epgfn.learn.exact import exact_of_table
from epgfn.learn.local import train_local
from epgfn.learn.model import Model
from epgfn.learn.policy import initial_policy
from epgfn.learn.scores import score_table, study_masks
from epgfn.learn.trust import Judged, edge_matrix, judge, parts_of, table_target
from epgfn.study import Study
from epgfn.study.objects import space_of
from worlds import BY_SINKS as STUDY
from worlds import records

SPACE = space_of(STUDY)
RIGHT = score_table(STUDY, torch.from_numpy(records(0)), 1)
WRONG = score_table(STUDY, torch.from_numpy(np.random.default_rng(5).normal(size=(500, 4))), 1)


def tensors(around: Tensor) -> dict[str, Tensor]:
    """An untrained model around a table."""
    finite = torch.where(torch.isfinite(around), around - around.amax(1, keepdim=True), 0.0)
    return initial_policy(STUDY, finite, seeded(1))


def judged(around: Tensor, *, known: bool = True) -> Judged:
    """It, against the right table."""
    policy = make_policy(SPACE, [tensors(around)])
    exact = exact_of_table(STUDY, RIGHT) if known else None
    return judge(STUDY, policy, table_target(SPACE, RIGHT), seeded(2), exact=exact)


def test_a_model_around_the_table_is_close_and_one_around_another_table_is_not() -> None:
    right, wrong = judged(RIGHT), judged(WRONG)
    assert right.trust["verdict"] in ("good", "usable after weighting"), right.trust
    assert wrong.trust["verdict"] == "not to be relied on" and wrong.trust["exact_largest_error"] > 0.1


def test_the_best_probabilities_are_the_exact_ones_and_else_weighted_ones() -> None:
    exact = edge_marginals(RIGHT, study_masks(STUDY))
    for around in (RIGHT, WRONG):
        found = judged(around)
        assert found.basis == "exact"
        np.testing.assert_allclose(edge_matrix(STUDY, found.probabilities), exact, atol=1e-12)
    weighted = judged(RIGHT, known=False)
    assert weighted.basis == "weighted"
    np.testing.assert_allclose(edge_matrix(STUDY, weighted.probabilities), exact, atol=0.03)
    assert judged(WRONG, known=False).basis == "samples"


def test_a_model_that_carries_its_scores_gives_weighted_probabilities() -> None:
    table = score_table(STUDY, torch.from_numpy(2 * records(1)), 1)
    model, exact = Model(STUDY, tensors(table)), edge_marginals(table, study_masks(STUDY))
    found = np.abs(model.edge_probabilities(8000) - exact).max()
    plain = np.abs(model.edge_probabilities(8000, weighted=False) - exact).max()
    assert found < 0.03 < plain, (found, plain)


@pytest.mark.parametrize("known", [True, False])
def test_what_a_brief_aggregation_publishes_is_right(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Local models of three steps, a global one of three: the tables they carry say what is right, exactly or by weights."""
    if not known:
        monkeypatch.setattr(exact_sums, "MAX_VARIABLES", 3)
    brief = STUDY.with_changes({"training": {"steps": 3}, "aggregation": {"steps": 3}})
    models = {node: train_local(brief, records(i), seed=i).tensors for i, node in enumerate(STUDY.roster)}
    result = train_global(brief, models, seed=9)
    tables = torch.stack([score_table(brief, torch.from_numpy(records(i)), 3) for i in range(3)])
    exact = edge_marginals(tables.sum(0), study_masks(brief))
    assert result.judged is not None and result.judged.basis == ("exact" if known else "weighted")
    tolerance = 1e-5 if known else 0.03
    np.testing.assert_allclose(edge_matrix(brief, result.judged.probabilities), exact, atol=tolerance)
    assert ("exact_largest_error" in result.diagnostics["trust"]) == known
    # That an edge is there and compelled has the same basis, and not the shares of a model of three steps.
    graphs, mass = posterior(tables.sum(0), study_masks(brief))
    truth = torch.einsum("b,bij->ij", mass, compelled_edges(graphs).double())
    assert result.more.compelled is not None and result.more.top is None
    np.testing.assert_allclose(torch.from_numpy(exact) * result.more.compelled, truth, atol=0.03)


SOON = {"steps": 40, "until": "good", "batch": 64, "learning_rate": 1e-2}
"""Against a first part of three steps, and a bar that is not reached at once."""


@pytest.fixture
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("epgfn.study.study.first_steps", lambda kind, table: 3)
    monkeypatch.setattr("epgfn.gflownet.measure.trust.LARGEST_ERROR", 0.015)


@pytest.mark.parametrize(("v", "goes_on"), [(25, True), (26, False)])
def test_what_was_taught_when_it_was_made_is_trained_in_one_part(v: int, goes_on: bool) -> None:
    names = ", ".join(f'{{ name = "v{j}" }}' for j in range(v))
    study = Study.from_bytes(f'name = "t"\nroster = ["a"]\nvariables = [{names}]\n'.encode())
    asked: Any = SimpleNamespace(is_good=bool, lacking=lambda: None)
    found = parts_of(study, study.training, asked)
    assert found is not None and (len(found.lengths) > 1) == goes_on
    assert parts_of(study, study.training.model_copy(update={"until": "steps"}), asked) is None


def test_training_goes_on_until_the_model_is_good(short_parts: None) -> None:
    study = STUDY.with_changes({"training": SOON})
    assert study.parts_of(study.training) == [3, 3, 6, 12, 16]
    seen: list[int] = []
    result = train_local(study, 2 * records(1), seed=1, progress=lambda done: seen.append(done.steps))
    assert result.trust is not None and result.trust["verdict"] == "good"
    assert 3 < len(result.history) == len(seen) <= 40
    assert seen[:3] == [3, 3, 3] and seen[3:6] == [6, 6, 6]


def test_a_run_that_was_killed_ends_as_it_would_have_ended(short_parts: None, tmp_path: Path) -> None:
    study = STUDY.with_changes({"training": SOON})
    whole = train_local(study, 2 * records(1), seed=1)
    for last in (3, 5, 6, 7):
        stop = threading.Event()

        def end_at(done: TrainingProgress, last: int = last, stop: threading.Event = stop) -> None:
            if done.step == last:
                stop.set()

        path = tmp_path / str(last)
        with pytest.raises(EpgfnError, match="stopped"):
            train_local(study, 2 * records(1), seed=1, stop=stop, progress=end_at, checkpoint=path)
        again = train_local(study, 2 * records(1), seed=1, checkpoint=path)
        assert again.history == whole.history and again.trust == whole.trust


def test_aggregation_goes_on_towards_the_summed_tables(short_parts: None) -> None:
    """Local models of one step each have errors that no training towards their product can put right."""
    to_product = {**SOON, "steps": 300, "objective": "aggregating"}
    study = STUDY.with_changes({"training": {"steps": 1}, "aggregation": to_product})
    models = {node: train_local(study, 2 * records(i), seed=i).tensors for i, node in enumerate(study.roster)}
    steps: list[int] = []
    result = train_global(study, models, seed=9, progress=lambda done: steps.append(done.step))
    assert result.diagnostics["trust"]["verdict"] == "good", result.diagnostics["trust"]
    assert steps == [row["step"] for row in result.history] == list(range(1, len(steps) + 1))
    assert len(steps) > 3

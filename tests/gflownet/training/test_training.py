"""A local model is trained to its own subposterior, repeatably, and training that fails says so."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.spaces.parent_index import modular_score
from epgfn.gflownet.training.loop import TrainingProgress, effective_share
from epgfn.learn.local import train_local
from epgfn.learn.policy import validate_policy
from epgfn.learn.scores import score_table
from epgfn.study import Study
from epgfn.study.objects import space_of
from worlds import BY_EDGES, BY_SINKS, l1, records


def distance(study: Study, tensors: dict[str, Tensor], table: Tensor) -> float:
    space = space_of(study)
    state, mass = terminating_mass(space, make_policy(space, [tensors]))
    return l1(mass, modular_score(table, state.adjacency, space.max_parents))


@pytest.mark.parametrize(
    ("study", "objective", "limit"),
    [
        (BY_SINKS, "contrastive", 0.03),
        (BY_SINKS, "trajectory", 0.03),
        (BY_EDGES, "contrastive", 0.15),
        (BY_EDGES, "trajectory", 0.15),
        (BY_EDGES, "modified-detailed", 0.10),
    ],
    ids=lambda value: value.space.kind if isinstance(value, Study) else str(value),
)
def test_the_model_samples_its_subposterior(study: Study, objective: str, limit: float) -> None:
    """Sum over all 543 graphs of |p_T - p|."""
    study = study.with_changes({"training": {"objective": objective}})
    data = records(0)
    result = train_local(study, data, seed=1)
    validate_policy(study, result.tensors)
    assert distance(study, result.tensors, score_table(study, data, n_parties=3)) < limit


def test_one_seed_gives_one_model_and_the_callback_sees_each_step() -> None:
    study = BY_SINKS.with_changes({"training": {"steps": 5}})
    seen: list[TrainingProgress] = []
    first = train_local(study, records(0), seed=4, progress=seen.append)
    again, other = (train_local(study, records(0), seed=seed) for seed in (4, 5))
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in first.tensors.items())
    assert not all(torch.equal(tensor, other.tensors[name]) for name, tensor in first.tensors.items())
    assert [p.step for p in seen] == [1, 2, 3, 4, 5]
    assert [p._asdict() for p in seen] == first.history
    assert all(p.steps == 5 and 0 < p.ess <= 1 and np.isfinite([p.loss, p.gradient_norm]).all() for p in seen)


def test_training_leaves_the_random_state_of_others_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train_local(BY_SINKS.with_changes({"training": {"steps": 2}}), records(0), seed=4)
    assert torch.equal(torch.rand(3), expected)


def test_it_stops_when_told_to() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(EpgfnError, match="stopped"):
        train_local(BY_SINKS, records(0), seed=1, stop=stop)


def test_a_diverging_run_ends_with_a_sentence() -> None:
    study = BY_EDGES.with_changes({"training": {"learning_rate": 1.0, "objective": "modified-detailed"}})
    data = records(0) * 1e150  # scores near the end of float64, differences beyond that of float32
    with pytest.raises(EpgfnError):
        train_local(study, data, seed=1)


def test_effective_share_by_hand() -> None:
    assert effective_share(torch.zeros(8) + 700.0) == pytest.approx(1.0)
    # weights 3 and 1: 16 / (2 * 10)
    assert effective_share(torch.tensor([3.0, 1.0]).log() - 500) == pytest.approx(0.8, rel=1e-4)

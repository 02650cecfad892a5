"""The attack on release code: correct code withstands it, and each known way of getting it wrong is caught.

Short forms; `epgfn privacy audit` and `make soak` with more runs give tighter numbers. Correct code is attacked with the system's own
noise and called broken in fewer than one run of ten million; mistakes must show at 95 %, under noise with a seed, so that chance
decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from epgfn.privacy.attacks import empirical
from epgfn.privacy.mechanisms import discrete
from epgfn.privacy.mechanisms.answers import AnswersMechanism
from epgfn.privacy.mechanisms.counts import CountsMechanism
from epgfn.privacy.mechanisms.moments import MomentsMechanism
from epgfn.targets.additive import categorical

DELTA, CONFIDENCE = 1e-5, 1 - 1e-7
X = np.random.default_rng(0).normal(size=(60, 2))
CELLS = np.random.default_rng(1).integers(0, 2, size=(60, 2))
SAID = torch.from_numpy(np.random.default_rng(2).integers(0, 3, size=60))
OBJECTS = torch.eye(3, dtype=torch.float64) + 0.2
per_record = categorical(lambda x: (x / x.sum(1, keepdim=True)).log())


def add_one(kind: str, epsilon: float) -> tuple[Any, Any, Any]:
    """A mechanism and two data sets that differ in one record."""
    if kind == "moments":
        return MomentsMechanism(2, epsilon, DELTA), X, np.vstack([X, [[40.0, 0.0]]])
    if kind == "counts":
        return CountsMechanism((2, 2), 2, epsilon, DELTA), CELLS, np.vstack([CELLS, [[1, 0]]])
    mechanism = AnswersMechanism.for_domain(per_record, OBJECTS, torch.arange(3), epsilon, DELTA)
    return mechanism, SAID, torch.cat([SAID, torch.tensor([1])])


def measured(
    mechanism: Any, without: Any, with_record: Any, claimed: float, runs: int, confidence: float = CONFIDENCE
) -> empirical.Measured:
    return empirical.attack(
        mechanism.release,
        lambda release: mechanism.log_ratio(release, without, with_record),
        without,
        with_record,
        claimed=claimed,
        convert=empirical.gaussian(DELTA),
        runs=runs,
        confidence=confidence,
    )


@pytest.mark.parametrize("epsilon", [1.0, 4.0, 8.0])
@pytest.mark.parametrize("kind", ["moments", "counts", "answers"])
def test_a_correct_release_is_as_private_as_it_claims(kind: str, epsilon: float) -> None:
    mechanism, without, with_record = add_one(kind, epsilon)
    found = measured(mechanism, without, with_record, epsilon, 250)
    assert found.epsilon <= epsilon and not found.broken


@pytest.mark.usefixtures("seeded_noise")
@pytest.mark.parametrize("kind", ["moments", "counts", "answers"])
def test_the_attack_is_a_strong_one(kind: str) -> None:
    mechanism, without, with_record = add_one(kind, 8.0)
    assert 1.5 < measured(mechanism, without, with_record, 8.0, 250, confidence=0.95).epsilon < 8.0


def halved(noise: Callable[..., Any]) -> Callable[..., Any]:
    return lambda values, scale: noise(values, scale / 2)


def forgotten(noise: Callable[..., Any]) -> Callable[..., Any]:
    return lambda values, scale: values


def seeded(noise: Callable[..., Any]) -> Callable[..., Any]:
    def same_each_time(values: Any, scale: float) -> Any:
        return values + np.rint(np.random.default_rng(0).normal(size=values.shape) * scale).astype(np.int64)

    return same_each_time


@pytest.mark.usefixtures("seeded_noise")
@pytest.mark.parametrize("kind", ["moments", "counts", "answers"])
@pytest.mark.parametrize(("mistake", "runs"), [(halved, 300), (forgotten, 60), (seeded, 60)])
def test_too_little_noise_none_or_the_same_is_caught(
    kind: str, mistake: Callable[..., Any], runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discrete, "discrete_gaussian", mistake(discrete.discrete_gaussian))
    mechanism, without, with_record = add_one(kind, 4.0)
    assert measured(mechanism, without, with_record, 4.0, runs, confidence=0.95).broken


@pytest.mark.usefixtures("seeded_noise")
@pytest.mark.parametrize("kind", ["moments", "counts", "answers"])
def test_replacing_a_record_under_the_noise_for_adding_one_is_caught(kind: str) -> None:
    mechanism, _, _ = add_one(kind, 8.0)
    if kind == "moments":
        pair = [np.vstack([X, [row]]) for row in ([40.0, 0.0], [0.0, 40.0])]
    elif kind == "counts":
        pair = [np.vstack([CELLS, [row]]) for row in ([1, 0], [0, 0])]
    else:
        pair = [torch.cat([SAID, torch.tensor([k])]) for k in (0, 1)]
    assert measured(mechanism, *pair, 8.0, 900, confidence=0.95).broken


@pytest.mark.parametrize("kind", ["moments", "counts"])
def test_replace_one_with_its_own_noise_withstands_it(kind: str) -> None:
    if kind == "moments":
        pair = [np.vstack([X, [row]]) for row in ([40.0, 0.0], [0.0, 40.0])]
        mechanism: Any = MomentsMechanism(2, 4.0, DELTA, adjacency="replace-one", n_public=61)
    else:
        pair = [np.vstack([CELLS, [row]]) for row in ([1, 0], [0, 0])]
        mechanism = CountsMechanism((2, 2), 2, 4.0, DELTA, adjacency="replace-one", n_public=61)
    assert not measured(mechanism, *pair, 4.0, 300).broken


@pytest.mark.usefixtures("seeded_noise")
def test_clipping_forgotten_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = lambda rows, radius, bits=discrete.GRID_BITS: np.rint(rows * 2.0**bits).astype(np.int64)  # noqa: E731
    monkeypatch.setattr(discrete, "clipped_rows", bare)
    mechanism, without, with_record = add_one("moments", 4.0)
    assert measured(mechanism, without, with_record, 4.0, 80, confidence=0.95).broken


@pytest.mark.usefixtures("seeded_noise")
def test_columns_standardised_by_the_data_are_caught() -> None:
    mechanism, _, _ = add_one("moments", 4.0)
    pair = [x / x.std(0) for x in (X, np.vstack([X, [[40.0, 0.0]]]))]
    assert measured(mechanism, *pair, 4.0, 80, confidence=0.95).broken

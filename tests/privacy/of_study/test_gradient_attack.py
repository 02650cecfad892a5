"""The attack on mode `gradient` as a node trains: the code withstands it, and each known way of getting it wrong is caught.

Correct code runs with the system's randomness and is called broken in fewer than one run of ten million; mistakes run with a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from epgfn.privacy.mechanisms.gradient import RecordSgd, clipped_gradient
from epgfn.privacy.of_study import gradient_training
from epgfn.privacy.of_study.canaries import study_case
from epgfn.privacy.of_study.gradient_training import planned, train_privately
from epgfn.study import Study

CONFIDENCE = 1 - 1e-7
OTHERS, STEPS = 400, 40


def attacked(epsilon: float, rate: float = 0.7, steps: int = 3) -> Study:
    """One letter of two, or none; every part is far longer than the clip."""
    return Study.from_bytes(
        f"""
name = "attacked"
roster = ["node"]
seed = 1
variables = [{{ name = "seen", categories = ["a", "b"] }}]
space = {{ kind = "sequence", max_length = 1 }}
policy = {{ hidden = 8 }}
training = {{ steps = {steps}, batch = 16 }}
privacy = {{ mode = "gradient", epsilon = {epsilon}, delta = 1e-5, rate = {rate}, clip = 1e-4 }}
""".encode()
    )


@pytest.mark.parametrize("listed", [True, False])
def test_training_on_a_node_is_as_private_as_it_claims(listed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not listed:
        monkeypatch.setattr(gradient_training, "public_values", lambda *_: None)
    assert not study_case(attacked(4.0)).attack(60, CONFIDENCE).broken


@pytest.mark.usefixtures("seeded_noise")
def test_the_attack_is_a_strong_one() -> None:
    found = study_case(attacked(12.0)).attack(100, 0.95)
    assert 1.0 < found.epsilon < 12.0


def unclipped(jacobian: Tensor, centred: Tensor, clip: float, batch: int | None = None) -> Tensor:
    return clipped_gradient(jacobian, centred, 1e9, batch)


@pytest.mark.usefixtures("seeded_noise")
@pytest.mark.parametrize("mistake", ["clipping", "noise"])
def test_clipping_or_noise_forgotten_is_caught(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = study_case(attacked(4.0))
    if mistake == "clipping":
        # Where all values are public nothing is longer than they are; elsewhere the clip is all there is.
        monkeypatch.setattr(gradient_training, "public_values", lambda *_: None)
        monkeypatch.setattr(gradient_training, "clipped_gradient", unclipped)
        monkeypatch.setattr(gradient_training, "_kept", lambda norms, clip: torch.ones_like(norms))
    else:
        monkeypatch.setattr(RecordSgd, "release", lambda self, clipped: clipped)
    assert case.attack(80, 0.95).broken


def shuffling(rng: np.random.Generator) -> Callable[[RecordSgd, int], Iterator[list[int]]]:
    """The mistake: batches of one size, each from a shuffled list."""
    return lambda sgd, n: ((rng.permutation(n)[: n // 2]).tolist() for _ in range(STEPS))


@pytest.mark.usefixtures("seeded_noise")
@pytest.mark.parametrize("poisson", [True, False])
def test_how_many_records_a_step_has_is_left_to_chance_and_batches_by_shuffling_are_caught(
    poisson: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not poisson:
        monkeypatch.setattr(RecordSgd, "batches", shuffling(np.random.default_rng(0)))
    study = attacked(30.0, rate=0.5, steps=STEPS)
    sampled: list[float] = []

    def watch(noisy: Tensor, part: Callable[[Tensor], Tensor]) -> None:
        one = part(torch.tensor([1]))
        sampled.append(float(noisy @ one / (one @ one)))

    train_privately(
        study, torch.ones(OTHERS, dtype=torch.int64), epsilon=30.0, delta=1e-5, seed=1, watch=watch
    )
    expected = OTHERS / 4 + planned(study).noise_multiplier ** 2  # variance of a binomial, and noise
    assert np.mean(sampled) == pytest.approx(OTHERS / 2, rel=0.1)
    assert bool(0.5 * expected < np.var(sampled) < 2 * expected) is poisson

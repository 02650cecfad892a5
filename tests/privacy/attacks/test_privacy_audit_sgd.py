"""The attack on DP-SGD: Poisson batches withstand it, batches by shuffling do not.

Correct code runs with the system's randomness and is called broken in fewer than one run of ten million; the mistake runs with a seed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from epgfn.privacy.attacks import empirical
from epgfn.privacy.mechanisms.gradient import GradientSettings, RecordSgd

DELTA = 1e-5
OTHERS, ROUNDS, NOISE = 40, 20, 0.7
RATE = 1 / ROUNDS
CONFIDENCE = 1 - 1e-7


def observed(sgd: RecordSgd, weight: torch.nn.Parameter, batches: Iterator[list[int]], canary: bool) -> float:
    """Score of one run: every other record pulls by -1, the canary (number `OTHERS`) by +1; each step is seen."""
    seen = []
    for batch in batches:
        before = float(weight.detach())
        pull = -float(sum(i < OTHERS for i in batch)) + float(canary and OTHERS in batch)
        sgd.step(torch.zeros(1), torch.tensor([pull]))
        seen.append((before - float(weight.detach())) * RATE)
    excess = np.array(seen) + OTHERS * RATE
    return float(np.log(np.exp((2 * excess - 2) / NOISE**2).mean()))


def shuffled(n: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """The mistake: equal batches of a shuffled list, where a newcomer takes somebody's place."""
    order = rng.permutation(n)
    size = OTHERS // ROUNDS
    yield from (order[k * size : (k + 1) * size].tolist() for k in range(ROUNDS))


@pytest.mark.parametrize("poisson", [True, False])
def test_batches_by_shuffling_are_caught_and_poisson_batches_withstand_it(
    poisson: bool, request: pytest.FixtureRequest
) -> None:
    rng = np.random.default_rng(0)
    if not poisson:
        request.getfixturevalue("seeded_noise")
    settings = GradientSettings(RATE, ROUNDS, 1.0, NOISE, DELTA)
    scores = []
    for canary in (False, True):
        runs = []
        for _ in range(250):
            weight = torch.nn.Parameter(torch.zeros(1))
            sgd = RecordSgd([weight], torch.optim.SGD([weight], 1.0), settings)
            n = OTHERS + canary
            runs.append(observed(sgd, weight, sgd.batches(n) if poisson else shuffled(n, rng), canary))
        scores.append(np.array(runs))
    found = empirical.measure(
        *scores,
        claimed=settings.claim().epsilon,
        convert=empirical.subsampled(RATE, ROUNDS, DELTA),
        confidence=CONFIDENCE if poisson else 0.99,
    )
    assert found.broken is not poisson


@pytest.mark.parametrize("epsilon", [1.0, 4.0, 8.0])
def test_record_level_sgd_is_as_private_as_it_claims(epsilon: float) -> None:
    steps, rate = 4, 0.5
    settings = GradientSettings.for_epsilon(epsilon, DELTA, rate=rate, steps=steps, clip=1.0)
    scores = []
    for canary in (0.0, 1.0):
        runs = []
        for _ in range(150):
            weight = torch.nn.Parameter(torch.zeros(1))
            sgd = RecordSgd([weight], torch.optim.SGD([weight], 1.0), settings)
            for batch in sgd.batches(1):
                sgd.step(torch.zeros(1), torch.full((1,), canary * len(batch)))
            runs.append(-float(weight.detach()))
        scores.append(np.array(runs))
    found = empirical.measure(
        *scores, claimed=epsilon, convert=empirical.subsampled(rate, steps, DELTA), confidence=CONFIDENCE
    )
    assert not found.broken

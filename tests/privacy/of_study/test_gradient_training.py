"""Mode `gradient` on a node: a model near the posterior where privacy is loose, a claim that adds up, no step without its noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies import make_policy
from epgfn.learn.likelihoods import likelihood_of
from epgfn.learn.policy import validate_policy
from epgfn.privacy.claims.claims import verify_claim
from epgfn.privacy.of_study.agreement import limits_of
from epgfn.privacy.of_study.gradient_training import Histogram, planned, planned_claim, train_privately
from epgfn.study import Study
from epgfn.study.objects import space_of

ONE = 'variables = [{ name = "seen", categories = ["a", "b", "c", "d"] }]\n'
TWO = 'variables = [{ name = "x", lower = 0, upper = 1 }, { name = "y", lower = 0, upper = 1 }]\n'
TAXA = 'variables = [{ name = "ant" }, { name = "bee" }, { name = "cat" }, { name = "dog" }]\n'
KINDS = {
    "items": ONE + 'space = { kind = "multiset", size = 3 }\ntarget = { kind = "items", signal = 0.3 }\n',
    "letters": ONE + 'space = { kind = "sequence", max_length = 2 }\n',
    "location": TWO
    + 'space = { kind = "hypergrid", side = 4 }\ntarget = { kind = "location", sigma = 2.0 }\n',
    "jc69": TAXA + 'space = { kind = "phylogeny" }\n',
}


def study_of(kind: str, *, epsilon: float = 4.0, steps: int = 3, clip: float = 5.0) -> Study:
    text = f"""
name = "private"
roster = ["north", "south"]
seed = 1
{KINDS[kind]}
policy = {{ hidden = 32 }}
training = {{ steps = {steps}, batch = 64, learning_rate = 2e-2, exploration = 0.3 }}
privacy = {{ mode = "gradient", epsilon = {epsilon}, delta = 1e-5, rate = 0.5, clip = {clip} }}
"""
    return Study.from_bytes(text.encode())


def records_of(kind: str, n: int) -> Tensor:
    rng = np.random.default_rng(3)
    if kind == "location":
        return torch.from_numpy(rng.uniform(size=(n, 2)))
    if kind == "jc69":
        return torch.from_numpy(2 ** rng.integers(4, size=(n, 4))).to(torch.uint8)
    return torch.from_numpy(rng.choice(4, size=n, p=[0.4, 0.3, 0.2, 0.1]))


def trained(study: Study, records: Tensor, seed: int = 1) -> dict[str, Tensor]:
    return train_privately(study, records, epsilon=float(study.privacy.epsilon or 0), delta=1e-5, seed=seed)[
        0
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, 40])
def test_every_additive_target_gives_a_usable_policy_and_a_claim_that_adds_up(kind: str, n: int) -> None:
    study = study_of(kind)
    told: list[tuple[int, int]] = []
    tensors, claim = train_privately(
        study,
        records_of(kind, n),
        epsilon=4.0,
        delta=1e-5,
        seed=1,
        progress=lambda *step: told.append(step),
    )
    validate_policy(study, tensors)
    verify_claim(claim, limits_of(study))
    assert claim == planned_claim(study)
    assert claim.unit == ("site" if kind == "jc69" else "record")
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.usefixtures("seeded_noise")
@pytest.mark.parametrize("clip", [5.0, 0.05])
def test_with_little_noise_the_model_is_near_the_posterior_even_where_every_record_is_clipped(
    clip: float,
) -> None:
    study = study_of("items", epsilon=20.0, steps=150, clip=clip)
    records, space = records_of("items", 1500), space_of(study_of("items"))
    state, mass = terminating_mass(space, make_policy(space, [trained(study, records)]))
    exact = exact_distribution(likelihood_of(study, space).per_record(records, state).sum(0))
    uniform = torch.full_like(exact, 1 / len(exact))
    assert l1(mass, exact) < 0.25
    assert l1(uniform, exact) > 1.0


def test_the_seed_does_not_reach_the_noise() -> None:
    study = study_of("items")
    first, second = (trained(study, records_of("items", 40), seed=5) for _ in range(2))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_all_steps_of_the_study_are_accounted_for_and_no_more_are_taken() -> None:
    study = study_of("items", steps=7)
    settings = planned(study)
    assert (settings.steps, settings.rate, settings.clip) == (7, 0.5, 5.0)
    assert settings.claim().epsilon <= 4.0
    seen: list[float] = []
    train_privately(
        study,
        records_of("items", 0),
        epsilon=4.0,
        delta=1e-5,
        seed=1,
        watch=lambda noisy, _: seen.append(float(noisy.std())),
    )
    assert len(seen) == 7
    assert np.mean(seen) == pytest.approx(settings.noise_multiplier, rel=0.1)


def test_a_tally_recovers_what_sums_say_and_nothing_about_directions_that_none_has_shown() -> None:
    counts = torch.tensor([30.0, 5.0, 12.0], dtype=torch.float64)
    tally = Histogram(3)
    rows = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
    tally.add(rows, rows @ counts)
    assert torch.allclose(rows @ tally.counts(), rows @ counts)
    assert torch.allclose(tally.counts()[0], tally.counts()[1])
    more = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64)
    tally.add(more, more @ counts)
    assert torch.allclose(tally.counts(), counts)

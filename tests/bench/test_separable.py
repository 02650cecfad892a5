"""Dynamic programming over parts gives what listing all objects gives, and its bound of a distance is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from epgfn.bench.separable import distance_at_most, reward_of, truth_of
from epgfn.bench.truth_cases import CASES
from epgfn.gflownet.measure.distances import exact_distribution
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from epgfn.study import Study
from epgfn.study.objects import questions, space_of
from made_up import random_policy

SEEN = 'variables = [{ name = "seen", categories = ["a", "b", "c", "d"] }]\n'
POINTS = 'variables = [{ name = "x", lower = 0, upper = 1 }, { name = "y", lower = 0, upper = 1 }]\n'
STUDIES = {
    "multiset": (SEEN + 'space = { kind = "multiset", size = 5 }', (4, 6)),
    "sequence": (SEEN + 'space = { kind = "sequence", max_length = 4 }', (4, 4)),
    "points": (POINTS + 'space = { kind = "hypergrid", side = 7 }', (2, 7)),
}


@pytest.mark.parametrize("kind", STUDIES)
def test_adding_up_parts_is_listing_all(kind: str) -> None:
    text, shape = STUDIES[kind]
    study = Study.from_bytes(f'name = "x"\nroster = ["a"]\n{text}\n'.encode())
    table = np.random.default_rng(3).normal(size=shape)
    if kind == "multiset":
        table[:, 0] = 0.0
    space, truth, reward = space_of(study), truth_of(study, table), reward_of(study, table)
    levels = explore(space)
    state = terminating_states(space, levels)
    values = reward(state)
    mass = exact_distribution(values)
    names, answers = questions(study, state)
    assert truth.log_z == pytest.approx(float(values.logsumexp(0)))
    assert list(truth.probabilities) == names
    assert np.allclose(list(truth.probabilities.values()), mass @ answers.double())

    policy = random_policy(space)
    bound, error = distance_at_most(policy, space, reward, truth.log_z, 4000, seed=1)
    distance = float((terminating_mass(space, policy, levels).mass - mass).abs().sum()) / 2
    assert distance - 4 * error <= bound <= 1


def test_skewed_multisets_leave_models_strangers_to_their_product() -> None:
    """By what nodes would sample if their models were right: the kind of result that no model can vouch for."""
    from epgfn.gflownet.measure.overlap import overlap

    for seed in range(3):
        case = CASES["multisets-skewed"][0](seed)
        assert case.tables is not None
        space = space_of(case.study)
        state = terminating_states(space, explore(space))
        log_rewards = torch.stack([reward_of(case.study, table)(state) for table in case.tables])
        log_p = log_rewards.log_softmax(1)
        each = torch.cat([log_p, log_rewards.sum(0, keepdim=True).log_softmax(1)])
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.multinomial(each.exp(), 500, replacement=True, generator=generator)
        assert overlap(log_p[:, drawn]).strangers

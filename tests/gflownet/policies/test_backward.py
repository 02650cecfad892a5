"""A learned backward policy is a distribution over the ways back, and training with it reaches the same target."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies.backward import BackwardNet, initial_tensors, ways_back
from epgfn.gflownet.policies.mlp_net import MlpNet
from epgfn.gflownet.rewards import multiset
from epgfn.gflownet.rewards.rewards import HypergridReward, MultisetReward
from epgfn.gflownet.sampling.rollout import sample_backward
from epgfn.gflownet.spaces import SPACES, DagByEdges, DagBySinks, Hypergrid, Multiset, Phylogeny, Sequence
from epgfn.gflownet.spaces.base import take
from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from epgfn.gflownet.training.on_reward import RewardSettings, train_reward

SMALL: list[Any] = [
    DagByEdges(3, 2),
    DagBySinks(3, 2),
    Hypergrid(2, 3),
    Multiset(3, 3),
    Phylogeny(5),
    Sequence(2, 3),
]
NAMES = [type(space).__name__ for space in SMALL]


def test_all_spaces_are_here() -> None:
    assert {type(space) for space in SMALL} == set(SPACES.values())


@pytest.mark.parametrize("space", SMALL, ids=NAMES)
def test_every_step_has_one_way_back_which_leads_to_where_it_came_from(space: Any) -> None:
    for level in explore(space)[:-1]:
        before = take(level.state, level.source)
        after = space.step(before, level.action)
        way = ways_back(space, after, level.action)
        assert space.backward_mask(after).gather(1, way[:, None]).all()
        back = space.step_back(after, way)
        assert torch.equal(back.action, level.action)
        assert torch.equal(space.key(back.state), space.key(before))


@pytest.mark.parametrize("space", SMALL, ids=NAMES)
def test_without_weights_it_is_uniform_and_with_any_a_distribution(space: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    final = terminating_states(space, explore(space))
    paths = sample_backward(space, final, generator=generator)
    net = BackwardNet(space, initial_tensors(space, 8, generator))
    for weight in net.parameters():
        weight.zero_()  # logits all alike
    assert torch.allclose(net.log_pb(paths), paths.log_pb, atol=1e-6)
    for weight in net.parameters():
        weight.normal_(generator=generator)
    total = torch.zeros(len(final[0]))
    choices = net.log_prob(final)
    assert torch.equal(torch.isfinite(choices), space.backward_mask(final))
    assert torch.allclose(choices.exp().sum(1), total + 1, atol=1e-5)


@pytest.mark.parametrize("objective", ["contrastive", "trajectory", "detailed", "subtrajectory"])
def test_the_model_samples_its_target_under_a_learned_backward_policy(objective: str) -> None:
    space = Multiset(3, 3)
    reward = MultisetReward(space, multiset.random_values(space, 1))
    settings = RewardSettings(
        objective, steps=200, batch=64, hidden=32, learning_rate=1e-2, learned_backward=True
    )
    result = train_reward(space, reward, seed=1, settings=settings)
    state, mass = terminating_mass(space, MlpNet(space, [result.tensors]))
    assert l1(mass, exact_distribution(reward(state))) < 0.05
    assert result.backward is not None
    learned = BackwardNet(space, result.backward).log_prob(state).exp()
    uniform = space.backward_mask(state) / space.backward_mask(state).sum(1, keepdim=True)
    assert (learned - uniform).abs().max() > 0.01


def test_uniform_stays_the_default() -> None:
    space = Hypergrid(2, 3)
    settings = RewardSettings(steps=2, batch=8, hidden=8)
    assert train_reward(space, HypergridReward(space), seed=1, settings=settings).backward is None

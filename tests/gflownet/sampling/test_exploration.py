"""Trajectories under preferences reach what a policy alone seldom does, and are judged as the policy's own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies import mlp_net
from epgfn.gflownet.policies.mlp_net import MlpNet
from epgfn.gflownet.rewards.rewards import MultisetReward
from epgfn.gflownet.sampling import rollout
from epgfn.gflownet.sampling.draws import behaviour
from epgfn.gflownet.sampling.exploration import Tilted, with_preferences
from epgfn.gflownet.sampling.rollout import evaluate, sample, sample_once
from epgfn.gflownet.spaces import Hypergrid, Multiset
from epgfn.gflownet.training.on_reward import RewardSettings, train_reward


def fresh(space: Multiset | Hypergrid) -> MlpNet:
    return MlpNet(space, [mlp_net.initial_tensors(space, 16, torch.Generator().manual_seed(1))])


def test_a_tilted_policy_is_a_distribution_over_the_allowed_actions() -> None:
    space = Hypergrid(2, 3)
    preference = 5 * torch.randn(4, space.n_actions, generator=torch.Generator().manual_seed(1))
    state = space.terminal(torch.tensor([[0, 0], [2, 0], [0, 2], [2, 2]]))._replace(
        stopped=torch.zeros(4, dtype=torch.bool)
    )
    choices = Tilted(fresh(space), preference).choices(state)
    assert torch.allclose(choices.log_prob.logsumexp(2), torch.zeros(1, 4), atol=1e-5)
    assert torch.equal(torch.isfinite(choices.log_prob[0]), space.forward_mask(state))


@pytest.mark.parametrize("draw", [sample, sample_once])
def test_drawn_trajectories_carry_the_policy_s_own_probabilities(draw: object) -> None:
    space = Hypergrid(2, 4)
    policy = fresh(space)
    mixed = with_preferences(draw, share=0.5, spread=2.0)  # type: ignore[arg-type]
    rollout = mixed(policy, space, 40, generator=torch.Generator().manual_seed(2), exploration=0.1)
    expected = evaluate(policy, space, rollout.trajectories)
    assert rollout.log_q.shape == (40,)
    assert torch.allclose(rollout.evaluated.log_pf, expected.log_pf, atol=1e-5)
    assert rollout.evaluated.log_pf.requires_grad is False


@pytest.mark.parametrize("space", [Multiset(30, 20), Hypergrid(8, 16)], ids=["multiset", "grid"])
def test_in_a_large_space_all_are_drawn_in_one_walk(space: Any) -> None:
    """`log_q` is what the policy, tilted by each trajectory's own preference, says of it step by step."""
    policy, how = fresh(space), {"temperature": 1.5, "exploration": 0.1}
    drawn = with_preferences(sample_once, share=0.5, spread=2.0)(
        policy, space, 12, generator=torch.Generator().manual_seed(2), **how
    )
    own = evaluate(policy, space, drawn.trajectories)
    assert torch.allclose(drawn.evaluated.log_pf, own.log_pf, atol=1e-4)
    wished = 2.0 * torch.randn(6, space.n_actions, generator=torch.Generator().manual_seed(2))
    tilted = Tilted(policy, torch.cat([torch.zeros(6, space.n_actions), wished]))
    found = torch.zeros(12)
    for state, action, active in zip(*drawn.trajectories[:3], strict=True):
        probability = behaviour(tilted.choices(state).log_prob[0], **how)
        taken = probability.gather(1, action[:, None])[:, 0]
        found += torch.where(active, taken.log(), 0.0)
    assert torch.allclose(drawn.log_q, found, atol=1e-3)


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "not-listed"])
def test_objects_of_one_kind_are_met_far_more_often(listed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    space = Multiset(6, 6)
    if not listed:
        monkeypatch.setattr(rollout, "state_graph", lambda space: None)
    policy = fresh(space)

    def of_one_kind(share: float) -> int:
        draw = with_preferences(sample_once, share=share, spread=3.0)
        found = draw(policy, space, 4000, generator=torch.Generator().manual_seed(3))
        return int((found.trajectories.final.counts.amax(1) == 6).sum())

    assert of_one_kind(1.0) > 20 * max(of_one_kind(0.0), 1)


def test_a_model_learns_what_its_own_posterior_hardly_holds() -> None:
    space = Multiset(4, 6)
    values = torch.tensor([0.0, 3.0, 3.0, 3.0], dtype=torch.float64)
    settings = RewardSettings(steps=150, batch=128, learning_rate=1e-2, hidden=64, exploration=0.1)
    errors = []
    for share in (0.0, 0.5):
        draw = with_preferences(sample_once, share=share, spread=3.0)
        result = train_reward(space, MultisetReward(space, values), seed=1, settings=settings, draw=draw)
        states, mass = terminating_mass(space, MlpNet(space, [result.tensors]))
        rare = states.counts[:, 0] == 6
        expected = MultisetReward(space, values)(states)
        own = float(expected[rare] - expected.logsumexp(0))
        assert own < math.log(1e-7)
        errors.append(abs(float(mass[rare].log()) - own))
    assert errors[1] < 0.5 < errors[0]


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="share"):
        with_preferences(sample, share=1.5, spread=1.0)

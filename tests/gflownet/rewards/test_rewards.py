"""Targets of objects that are not graphs: values by hand, refusals at construction, and models that reach them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.measure.distances import (
    exact_distribution,
    jensen_shannon,
    l1,
    total_variation,
)
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies.mlp_net import MlpNet, initial_tensors
from epgfn.gflownet.rewards import multiset, sequence
from epgfn.gflownet.rewards.grid import HypergridReward
from epgfn.gflownet.rewards.rewards import REWARDS, MultisetReward, SequenceReward, checked
from epgfn.gflownet.sampling.rollout import evaluate, evaluate_together, sample, sample_once
from epgfn.gflownet.spaces import DagBySinks, Hypergrid, Multiset, Sequence
from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from epgfn.gflownet.training.on_reward import RewardSettings, train_reward

GRID, BAGS, WORDS = Hypergrid(2, 5), Multiset(4, 4), Sequence(3, 3)
WORLDS: list[tuple[Any, Any]] = [
    (GRID, HypergridReward(GRID)),
    (BAGS, MultisetReward(BAGS, multiset.random_values(BAGS, 1))),
    (WORDS, SequenceReward(WORDS, *sequence.random_weights(WORDS, 1))),
]


def test_the_grid_reward_by_hand() -> None:
    # side 8: |u| of 0, 1, 2 is .5, .357, .214: the corner is on the plateau, (1, 6) is a mode, (2, 2) is neither
    position = torch.tensor([[0, 0], [1, 6], [2, 2], [1, 0]])
    value = HypergridReward(Hypergrid(2, 8))(Hypergrid(2, 8).terminal(position)).exp()
    assert value.tolist() == pytest.approx([0.6, 2.6, 0.1, 0.6])


def test_additive_rewards_by_hand() -> None:
    values = torch.tensor([1.0, -2.0, 0.5])
    assert MultisetReward(Multiset(3, 4), values)(
        Multiset(3, 4).terminal(torch.tensor([[2, 0, 2]]))
    ).tolist() == [3.0]
    words, weights = Sequence(3, 3), torch.tensor([1.0, 2.0, 4.0])
    letters = torch.tensor([[3, 1, 0], [0, 0, 0], [2, 2, 2]])
    expected = [0.5 + 2.0, 0.0, -2 * 7.0]
    assert SequenceReward(words, weights, values)(words.terminal(letters)).tolist() == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: HypergridReward(BAGS),  # type: ignore[arg-type]
        lambda: HypergridReward(GRID, r0=0.0),
        lambda: HypergridReward(GRID, r1=math.nan),
        lambda: MultisetReward(WORDS, torch.zeros(4)),  # type: ignore[arg-type]
        lambda: MultisetReward(BAGS, torch.zeros(5)),
        lambda: MultisetReward(BAGS, torch.tensor([0, 0, 0, math.inf])),
        lambda: SequenceReward(GRID, torch.zeros(3), torch.zeros(3)),  # type: ignore[arg-type]
        lambda: SequenceReward(WORDS, torch.zeros(2), torch.zeros(3)),
        lambda: SequenceReward(WORDS, torch.zeros(3), torch.tensor([0, math.nan, 0])),
        lambda: train_reward(BAGS, WORLDS[1][1], seed=0, settings=RewardSettings("modified-detailed")),
        lambda: train_reward(GRID, WORLDS[0][1], seed=0, settings=RewardSettings("no-such-objective")),
        lambda: train_reward(DagBySinks(9, 4), lambda s: s.sinks.sum(1), seed=0),  # thousands of actions
        lambda: RewardSettings(steps=0),
        lambda: RewardSettings(exploration=2.0),
        lambda: explore(Multiset(200, 300)),
    ],
)
def test_what_does_not_fit_is_refused_before_training(make: Any) -> None:
    with pytest.raises(UsageError):
        make()


@pytest.mark.parametrize("value", [torch.zeros(3), torch.full((2,), math.nan), torch.tensor([0, -math.inf])])
def test_a_reward_that_is_none_is_an_error_at_once(value: torch.Tensor) -> None:
    with pytest.raises(EpgfnError):
        checked(lambda state: value, GRID.initial(2))


def test_every_registered_reward_gives_a_finite_number_an_object() -> None:
    assert {type(reward) for _, reward in WORLDS} == set(REWARDS.values())
    for space, reward in WORLDS:
        objects = terminating_states(space, explore(space))
        assert torch.isfinite(checked(reward, objects)).all()


@pytest.mark.parametrize(("space", "reward"), WORLDS, ids=lambda w: type(w).__name__)
@pytest.mark.parametrize("objective", ["contrastive", "trajectory", "detailed", "modified-detailed"])
def test_the_model_samples_its_target(space: Any, reward: Any, objective: str) -> None:
    """Sum over all objects of |p_T - p|, after a few seconds."""
    if objective == "modified-detailed" and space.stop_action is None:
        pytest.skip("needs a stop action")
    settings = RewardSettings(objective, steps=250, batch=64, hidden=64, learning_rate=1e-2)
    result = train_reward(space, reward, seed=1, settings=settings)
    state, mass = terminating_mass(space, MlpNet(space, [result.tensors]))
    assert l1(mass, exact_distribution(reward(state))) < 0.05
    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_one_seed_gives_one_model() -> None:
    settings = RewardSettings(steps=3, batch=16, hidden=16)
    space, reward = WORLDS[0]
    runs = [train_reward(space, reward, seed=seed, settings=settings).tensors for seed in (1, 1, 2)]
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])
    assert not all(torch.equal(runs[0][name], runs[2][name]) for name in runs[0])


@pytest.mark.parametrize(("space", "reward"), WORLDS, ids=lambda w: type(w).__name__)
def test_distinct_states_together_say_what_each_says_alone(space: Any, reward: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    models = [initial_tensors(space, 16, generator) for _ in range(2)]
    for model in models:
        model["net.2.weight"].normal_(generator=generator)
    policy = MlpNet(space, models)
    drawn = sample(policy, space, 64, generator=torch.Generator().manual_seed(1), exploration=0.2)
    again = sample_once(policy, space, 64, generator=torch.Generator().manual_seed(1), exploration=0.2)
    for other in (again.evaluated, evaluate_together(policy, space, drawn.trajectories)):
        assert torch.allclose(drawn.evaluated.log_pf, other.log_pf, atol=1e-5)
        if space.stop_action is not None:
            assert torch.allclose(drawn.evaluated.log_stop, other.log_stop, atol=1e-5)  # type: ignore[arg-type]
    alone = evaluate(MlpNet(space, models[1:]), space, drawn.trajectories)
    assert torch.allclose(drawn.evaluated.log_pf[1], alone.log_pf[0], atol=1e-5)


def test_distances_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.5, 0.0, 0.5])
    assert l1(p, q) == pytest.approx(1.0)
    assert total_variation(p, q) == pytest.approx(0.5)
    assert jensen_shannon(p, q) == pytest.approx(0.5 * math.log(2))
    assert jensen_shannon(p, p) == pytest.approx(0.0)
    with pytest.raises(ValueError, match="same objects"):
        l1(p, q[:2])

"""The paper's synthetic rewards: grids, multisets, sequences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from epgfn.bench.instances.instance import Instance, enumerable
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.policies.mlp_net import MlpNet
from epgfn.gflownet.rewards import multiset, sequence
from epgfn.gflownet.rewards.rewards import HypergridReward, MultisetReward, SequenceReward
from epgfn.gflownet.spaces import Hypergrid, Multiset, Sequence, Space
from epgfn.gflownet.spaces.base import LogReward
from epgfn.gflownet.training.on_reward import RewardSettings, train_reward

TARGET_SEED = 1


def _rewarded(
    space: Space[Any], log_reward: LogReward[Any], settings: RewardSettings, paper: str | None
) -> Instance:
    def train(seed: int, steps: int) -> Policy[Any]:
        result = train_reward(space, log_reward, seed=seed, settings=replace(settings, steps=steps))
        return MlpNet(space, [result.tensors])

    measure = enumerable(space, log_reward)
    return Instance(space, settings.objective, settings.steps, train, measure, paper)


def grid_2x12() -> Instance:
    """Two dimensions, side 12: 144 objects."""
    space = Hypergrid(2, 12)
    settings = RewardSettings("modified-detailed", steps=1000, exploration=0.1, learning_rate=1e-2)
    return _rewarded(space, HypergridReward(space), settings, None)


def grid_4x8() -> Instance:
    """Four dimensions, side 8: 4,096 objects."""
    space = Hypergrid(4, 8)
    settings = RewardSettings("modified-detailed", steps=1500, exploration=0.1, learning_rate=1e-2)
    return _rewarded(space, HypergridReward(space), settings, None)


def multiset_10x8() -> Instance:
    """Eight of ten kinds of items with log-values from 0 to 1.5 nats: 24,310 objects."""
    space = Multiset(10, 8)
    reward = MultisetReward(space, multiset.random_values(space, TARGET_SEED))
    settings = RewardSettings(steps=2000, batch=512, learning_rate=5e-3, exploration=0.3)
    return _rewarded(space, reward, settings, ".06")


def sequence_6x6() -> Instance:
    """Up to six of six letters: 55,987 objects."""
    space = Sequence(6, 6)
    reward = SequenceReward(space, *sequence.random_weights(space, TARGET_SEED))
    return _rewarded(space, reward, RewardSettings(steps=1500, learning_rate=1e-2, exploration=0.1), ".10")

"""The paper's synthetic rewards, one draw a node: grids, multisets, sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from epgfn.bench.products.federation import Federation, Tensors
from epgfn.bench.products.yardsticks import ListedProduct
from epgfn.gflownet.policies import mlp_net
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.policies.mlp_net import MlpNet
from epgfn.gflownet.rewards import multiset, sequence
from epgfn.gflownet.rewards.grid import log_reward as log_grid
from epgfn.gflownet.rewards.rewards import MultisetReward, SequenceReward
from epgfn.gflownet.sampling.exploration import with_preferences
from epgfn.gflownet.sampling.rollout import Draw, sample_once
from epgfn.gflownet.spaces import Hypergrid, Multiset, Space
from epgfn.gflownet.spaces import Sequence as Sequences
from epgfn.gflownet.spaces.base import LogReward
from epgfn.gflownet.training.on_reward import RewardSettings, train_reward


def grid_2x12(nodes: int = 4, split: str = "even") -> Federation:
    """Two dimensions, side 12: 144 objects. Node n's reward is the paper's with peaks of its own: R0 from .1 to .4, R1 = .5, R2
    from 2 to .5, and the whole shifted by n cells along the diagonal, wrapping around.

    `skewed`: node n sees only the n-th quarter of the grid (0 to 3, again from 4 on): R = R0 outside it.
    """
    space = Hypergrid(2, 12)
    rewards = [_grid_reward(space, n, nodes, split) for n in range(nodes)]
    local = RewardSettings("modified-detailed", steps=600, exploration=0.1, learning_rate=1e-2)
    settings = RewardSettings("aggregating-edges", steps=1500, exploration=0.1, learning_rate=1e-2)
    return _federation(space, rewards, local, settings)


def multiset_10x8(nodes: int = 5, split: str = "even") -> Federation:
    """Eight of ten kinds of items: 24,310 objects. Log-values from 0 to 1.5 nats, drawn node by node.

    `skewed`: a node values only its own share of the kinds, as much more as there are shares.
    """
    space = Multiset(10, 8)
    rewards = []
    for n in range(nodes):
        values = multiset.random_values(space, n + 1)
        rewards.append(MultisetReward(space, values * _share(space.n_items, n, nodes, split)))
    local = RewardSettings(steps=1000, batch=256, learning_rate=1e-2, exploration=0.3)
    settings = RewardSettings("aggregating", steps=1000, batch=256, learning_rate=1e-2, exploration=0.3)
    spread = 1.0 if split == "even" else 6.0  # a node that values few kinds must be led far from them
    wide = with_preferences(sample_once, share=0.5, spread=spread)
    return _federation(space, rewards, local, settings, wide)


def sequence_6x6(nodes: int = 5, split: str = "even") -> Federation:
    """Up to six of six letters: 55,987 objects. Weights of places and values of letters drawn node by node.

    `skewed`: a node weighs only its own share of the places, as much more as there are shares.
    """
    space = Sequences(6, 6)
    rewards = []
    for n in range(nodes):
        weights, values = sequence.random_weights(space, n + 1)
        rewards.append(SequenceReward(space, weights * _share(space.max_length, n, nodes, split), values))
    local = RewardSettings(steps=1500, learning_rate=1e-2, exploration=0.1)
    settings = RewardSettings("aggregating", steps=1000, learning_rate=1e-2, exploration=0.1)
    return _federation(space, rewards, local, settings)


def _share(size: int, node: int, nodes: int, split: str) -> Tensor:
    """(size,) factors: all 1, or where `skewed` s at every s-th place from the node's own on, s = min(size, nodes), else 0."""
    if split == "even":
        return torch.ones(size, dtype=torch.float64)
    shares = min(size, nodes)
    return shares * (torch.arange(size) % shares == node % shares).double()


def _grid_reward(space: Hypergrid, node: int, nodes: int, split: str) -> LogReward[Any]:
    rising = node / max(nodes - 1, 1)
    r0, r1, r2 = 0.1 + 0.3 * rising, 0.5, 2.0 - 1.5 * rising
    side, corner = space.side, torch.tensor([node % 4 // 2, node % 2])

    def log_reward(state: Any) -> Tensor:
        shift = node if split == "even" else 0
        position = (state.position + shift) % side
        value = log_grid(position, side, r0, r1, r2)
        if split == "even":
            return value
        inside = (state.position >= side // 2).long().eq(corner).all(1)
        return torch.where(inside, value, torch.tensor(r0, dtype=torch.float64).log())

    return log_reward


def _federation(
    space: Space[Any],
    rewards: Sequence[LogReward[Any]],
    local: RewardSettings,
    settings: RewardSettings,
    draw: Draw = sample_once,
) -> Federation:
    """`draw` is how local models sample; the global model has no other rewards to expect."""

    def make(models: Sequence[Tensors]) -> Policy[Any]:
        return MlpNet(space, models)

    def train(nodes: Sequence[int], seed: int, steps: int) -> Policy[Any]:
        def log_reward(state: Any) -> Tensor:
            return torch.stack([rewards[n](state) for n in nodes]).sum(0)

        taken = replace(local, steps=steps)
        return make([train_reward(space, log_reward, seed=seed, settings=taken, draw=draw).tensors])

    def start(models: Sequence[Tensors], seed: int) -> Policy[Any]:
        generator = torch.Generator().manual_seed(seed)
        return make([mlp_net.initial_tensors(space, settings.hidden, generator)])

    return Federation(
        space, rewards, make, train, local.steps, settings.steps, lambda steps: replace(settings, steps=steps), start,
        ListedProduct(space, rewards), settings.objective, sample_once, together=True,
    )  # fmt: skip

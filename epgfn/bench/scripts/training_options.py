"""The figures of docs/training.md: L1 and CPU-seconds of training with one option changed at a time.

python -m epgfn.bench.scripts.training_options [replay | objective]...
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.policies.mlp_net import MlpNet
from epgfn.gflownet.rewards import multiset, sequence
from epgfn.gflownet.rewards.rewards import HypergridReward, MultisetReward, SequenceReward
from epgfn.gflownet.spaces import Hypergrid, Multiset, Sequence
from epgfn.gflownet.spaces.enumeration import explore
from epgfn.gflownet.training.on_reward import RewardSettings, train_reward

SEEDS = (1, 2, 3)
GRID, FAR, CUBE = Hypergrid(2, 12), Hypergrid(2, 24), Hypergrid(3, 8)
WORDS, BAGS = Sequence(6, 6), Multiset(10, 5)
WORLDS: dict[str, tuple[Any, Any]] = {
    "grid-2x12": (GRID, HypergridReward(GRID)),
    "grid-3x8": (CUBE, HypergridReward(CUBE)),
    "far grid-2x24": (FAR, HypergridReward(FAR, r0=1e-3)),
    "sequence-6x6": (WORDS, SequenceReward(WORDS, *sequence.random_weights(WORDS, 1))),
    "multiset-10x5": (BAGS, MultisetReward(BAGS, multiset.random_values(BAGS, 1))),
}
SHORT = RewardSettings(steps=200, batch=128, exploration=0.1)


def row(name: str, option: str, space: Any, log_reward: Any, train: Callable[[int], Policy[Any]]) -> None:
    """Trains once a seed and prints median and range of L1, and the median of CPU-seconds."""
    levels, found, seconds = explore(space), [], []
    for seed in SEEDS:
        begun = time.process_time()
        policy = train(seed)
        seconds.append(time.process_time() - begun)
        state, mass = terminating_mass(space, policy, levels)
        found.append(l1(mass, exact_distribution(log_reward(state))))
    spread = f"{statistics.median(found):.4f} ({min(found):.4f} to {max(found):.4f})"
    print(f"| {name} | {option} | {spread} | {statistics.median(seconds):.1f} |", flush=True)


def reward_row(name: str, option: str, settings: RewardSettings) -> None:
    space, log_reward = WORLDS[name]

    def train(seed: int) -> Policy[Any]:
        return MlpNet(space, [train_reward(space, log_reward, seed=seed, settings=settings).tensors])

    row(name, option, space, log_reward, train)


def replay() -> None:
    for share, steps in ((0.0, 300), (0.25, 300), (0.5, 300), (0.0, 600), (0.25, 600), (0.0, 1200)):
        reward_row(
            "far grid-2x24", f"replay {share}, {steps} steps", replace(SHORT, steps=steps, replay=share)
        )


def objective() -> None:
    for name in ("grid-3x8", "multiset-10x5"):
        for kind in ("contrastive", "trajectory", "detailed", "subtrajectory"):
            reward_row(name, kind, replace(SHORT, objective=kind))


TABLES: dict[str, Callable[[], None]] = {
    "replay": replay,
    "objective": objective,
}


def chosen(names: list[str]) -> Iterator[Callable[[], None]]:
    for name in names or TABLES:
        yield TABLES[name]


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| Instance | Option | L1 median (min to max) | CPU-s |\n|---|---|---|---|")
    for table in chosen(sys.argv[1:]):
        table()

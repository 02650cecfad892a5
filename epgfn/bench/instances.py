"""The instances of `epgfn bench accuracy`: one function and one line in `INSTANCES` each.

Every instance lists all its objects, so that the L1 distance is exact. What is drawn at random (item values, weights, records) is
drawn once from a fixed seed: seeds of the benchmark are seeds of the training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from epgfn.judges import LogReward
from epgfn.policies import initial_policy, make_policy, space_of
from epgfn.policies.base import Policy
from epgfn.policies.mlp_net import MlpNet
from epgfn.reward_training import RewardSettings, train_reward
from epgfn.spaces import DagSpace, Hypergrid, Multiset, Sequence, Space
from epgfn.spaces.parent_index import modular_score
from epgfn.study import Study
from epgfn.targets import multiset, score_table, sequence
from epgfn.targets.rewards import HypergridReward, MultisetReward, SequenceReward
from epgfn.training import fit, local_judge

TARGET_SEED = 1


class Instance(NamedTuple):
    """`train(seed, steps)` gives a trained policy; `steps` is what its schedule takes by default. `paper` is the L1 (not halved)
    of a local model in da Silva et al. (ICML 2024), read off the authors' posters, where there is one."""

    space: Space
    log_reward: LogReward
    objective: str
    steps: int
    train: Callable[[int, int], Policy]
    paper: str | None


def _rewarded(space: Space, log_reward: LogReward, settings: RewardSettings, paper: str | None) -> Instance:
    def train(seed: int, steps: int) -> Policy:
        result = train_reward(space, log_reward, seed=seed, settings=replace(settings, steps=steps))
        return MlpNet(space, [result.tensors])

    return Instance(space, log_reward, settings.objective, settings.steps, train, paper)


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
    return _rewarded(
        space, reward, RewardSettings(steps=2000, batch=512, learning_rate=5e-3, exploration=0.3), ".06"
    )


def sequence_6x6() -> Instance:
    """Up to six of six letters: 55,987 objects."""
    space = Sequence(6, 6)
    reward = SequenceReward(space, *sequence.random_weights(space, TARGET_SEED))
    return _rewarded(space, reward, RewardSettings(steps=1500, learning_rate=1e-2, exploration=0.1), ".10")


def dag_5(target: str, kind: str = "dag-by-sinks") -> Instance:
    """Five variables, 40 records of a linear-Gaussian world: 29,281 graphs."""
    by_sinks = kind == "dag-by-sinks"
    study = Study.from_bytes(DAG_STUDY).with_changes(
        {
            "target": {"kind": target},
            "space": {"kind": kind},
            "policy": {"kind": "order-potential" if by_sinks else "edge-net"},
            "training": {
                "objective": "contrastive" if by_sinks else "detailed",
                "steps": 600 if by_sinks else 2000,
            }
            | ({} if by_sinks else {"exploration": 0.2}),
        }
    )
    table = score_table(study, _records(), n_parties=1)
    space: DagSpace = space_of(study)

    def train(seed: int, steps: int) -> Policy:
        generator = torch.Generator().manual_seed(seed)
        policy = make_policy(space, [initial_policy(study, table, generator)])
        settings = study.training.model_copy(update={"steps": steps})
        fit(
            policy,
            space,
            settings,
            local_judge(space, table - table.amax(1, keepdim=True), settings),
            generator,
        )
        return policy

    def log_reward(state: object) -> Tensor:
        adjacency: Tensor = state.adjacency  # type: ignore[attr-defined]
        return modular_score(table, adjacency, space.max_parents)

    return Instance(space, log_reward, study.training.objective, study.training.steps, train, ".36-.39")


DAG_STUDY = b"""
name = "five"
roster = ["one"]
seed = 1
variables = [{ name = "a" }, { name = "b" }, { name = "c" }, { name = "d" }, { name = "e" }]

[space]
max_parents = 4

[training]
batch = 256
learning_rate = 3e-3
"""


def _records() -> npt.NDArray[np.float64]:
    """40 records of five variables: each pair of a random order an edge with probability .4, weights and noise standard normal."""
    rng, v = np.random.default_rng(0), 5
    weights, order = np.zeros((v, v)), rng.permutation(v)
    for a in range(v):
        for b in range(a + 1, v):
            if rng.random() < 0.4:
                weights[order[a], order[b]] = rng.normal()
    records = np.zeros((40, v))
    for j in order:
        records[:, j] = records @ weights[:, j] + rng.normal(size=40)
    return records


INSTANCES: dict[str, Callable[[], Instance]] = {
    "grid-2x12": grid_2x12,
    "grid-4x8": grid_4x8,
    "multiset-10x8": multiset_10x8,
    "sequence-6x6": sequence_6x6,
    "dag-5-bic": lambda: dag_5("bic"),
    "dag-5-bge": lambda: dag_5("bge"),
    "dag-5-bic-edges": lambda: dag_5("bic", "dag-by-edges"),
    "dag-5-bge-edges": lambda: dag_5("bge", "dag-by-edges"),
}

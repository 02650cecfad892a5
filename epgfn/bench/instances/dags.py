"""DAGs of five variables: 40 records of a linear-Gaussian world, 29,281 graphs, by sinks and edge by edge."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from epgfn.bench.instances.instance import Instance, enumerable
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.spaces import DagSpace
from epgfn.gflownet.spaces.parent_index import modular_score
from epgfn.gflownet.training.loop import fit
from epgfn.learn.local import local_loss
from epgfn.learn.policy import initial_policy
from epgfn.learn.scores import score_table
from epgfn.study import Study
from epgfn.study.objects import space_of

STUDY = b"""
name = "five"
roster = ["one"]
seed = 1
variables = [
  { name = "a", centre = 0, scale = 1 }, { name = "b", centre = 0, scale = 1 }, { name = "c", centre = 0, scale = 1 },
  { name = "d", centre = 0, scale = 1 }, { name = "e", centre = 0, scale = 1 },
]

[space]
max_parents = 4

[training]
batch = 256
learning_rate = 3e-3
"""
BY_SINKS: dict[str, Any] = {
    "space": {"kind": "dag-by-sinks"},
    "policy": {"kind": "order-potential"},
    "training": {"objective": "contrastive", "steps": 600},
}
BY_EDGES: dict[str, Any] = {
    "space": {"kind": "dag-by-edges"},
    "policy": {"kind": "edge-net"},
    "training": {
        "objective": "contrastive",
        "steps": 2000,
        "batch": 512,
        "learning_rate": 1e-2,
        "exploration": 0.2,
    },
}


def dag_5(target: str, changes: dict[str, Any]) -> Instance:
    """`target` is the score's kind; `changes` to the study are `BY_SINKS` or `BY_EDGES`."""
    study = Study.from_bytes(STUDY).with_changes({"target": {"kind": target}, **changes})
    table = score_table(study, _records(), n_parties=1)
    space: DagSpace = space_of(study)

    def train(seed: int, steps: int) -> Policy[Any]:
        generator = torch.Generator().manual_seed(seed)
        policy = make_policy(space, [initial_policy(study, table, generator)])
        settings = study.training.model_copy(update={"steps": steps})
        loss = local_loss(space, table - table.amax(1, keepdim=True), settings)
        fit(policy, space, settings, loss, generator)
        return policy

    def log_reward(state: Any) -> Tensor:
        return modular_score(table, state.adjacency, space.max_parents)

    measure = enumerable(space, log_reward)
    return Instance(space, study.training.objective, study.training.steps, train, measure, ".36-.39")


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

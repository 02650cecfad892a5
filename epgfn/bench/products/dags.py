"""Five nodes with 40 records each of one linear-Gaussian world of five variables: 29,281 graphs, grown by sinks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from epgfn.bench.products.federation import Federation, Tensors
from epgfn.bench.products.yardsticks import Edges, ListedProduct
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.policies.order_potential import SCORES
from epgfn.gflownet.spaces import DagBySinks
from epgfn.gflownet.spaces.base import pack_bits
from epgfn.gflownet.spaces.dag_by_sinks import State
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
steps = 600
batch = 256
learning_rate = 3e-3
temperature = 2.0

[aggregation]
steps = 600
batch = 256
learning_rate = 3e-3
"""
RECORDS = 40
WORLD_SEED = 0


def dag_5(target: str, nodes: int = 5, split: str = "even") -> Federation:
    """`target` is the score's kind. `skewed`: node n has the n-th part of all records as sorted by the first variable."""
    study = Study.from_bytes(STUDY).with_changes({"target": {"kind": target}})
    parts = np.array_split(dealt(_records(RECORDS * nodes), split), nodes)
    return modular_federation(study, [score_table(study, part, n_parties=nodes) for part in parts])


def dealt(records: npt.NDArray[np.float64], split: str) -> npt.NDArray[np.float64]:
    """The records in the order in which nodes get theirs: as they are, or sorted by the first column."""
    return records if split == "even" else records[np.argsort(records[:, 0], kind="stable")]


def modular_federation(study: Study, tables: Sequence[Tensor]) -> Federation:
    """Nodes whose rewards are score tables, (V, K) float64 nats each; errors by edges where there are more than 5 variables."""
    space = space_of(study)
    assert isinstance(space, DagBySinks)
    total = torch.stack(list(tables)).sum(0)

    def train(nodes: Sequence[int], seed: int, steps: int) -> Policy[Any]:
        table = torch.stack([tables[n] for n in nodes]).sum(0)
        generator = torch.Generator().manual_seed(seed)
        policy = make_policy(space, [initial_policy(study, table, generator)])
        settings = study.training.model_copy(update={"steps": steps})
        loss = local_loss(space, table - table.amax(1, keepdim=True), settings)
        fit(policy, space, settings, loss, generator)
        return policy

    def start(models: Sequence[Tensors], seed: int) -> Policy[Any]:
        scores = torch.stack([model[SCORES].double() for model in models]).sum(0)
        generator = torch.Generator().manual_seed(seed)
        return make_policy(space, [initial_policy(study, scores, generator)])

    rewards = [partial(_modular, table, space.max_parents) for table in tables]
    yardstick = ListedProduct(space, rewards) if space.n_variables <= 5 else Edges(space, total)
    return Federation(
        space, rewards, lambda models: make_policy(space, models), train, study.training.steps, study.aggregation.steps,
        lambda steps: study.aggregation.model_copy(update={"steps": steps}), start, yardstick, study.aggregation.objective or "aggregating",
        key=_known_by, scores=total, max_parents=space.max_parents,
    )  # fmt: skip


def _modular(table: Tensor, max_parents: int, state: State) -> Tensor:
    return modular_score(table, state.adjacency, max_parents)


def _known_by(state: State) -> Tensor:
    """What the order-potential policy looks at: the variables in the graph, and its sinks."""
    return pack_bits(torch.cat([state.members, state.sinks], 1))


def _records(n: int) -> npt.NDArray[np.float64]:
    """`n` records of five variables: each pair of a random order an edge with probability .4, weights and noise standard normal."""
    rng, v = np.random.default_rng(WORLD_SEED), 5
    weights, order = np.zeros((v, v)), rng.permutation(v)
    for a in range(v):
        for b in range(a + 1, v):
            if rng.random() < 0.4:
                weights[order[a], order[b]] = rng.normal()
    records = np.zeros((n, v))
    for j in order:
        records[:, j] = records @ weights[:, j] + rng.normal(size=n)
    return records

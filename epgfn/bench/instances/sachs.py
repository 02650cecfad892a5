"""The Sachs posterior, 11 variables: one of four nodes' records (439), against exact edge marginals."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from epgfn.bench.instances.instance import Instance
from epgfn.demo.demo import example_dir
from epgfn.gflownet.measure.exact import edge_marginals
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.sampling.rollout import sample
from epgfn.gflownet.spaces.parent_sets import parent_masks
from epgfn.learn.local import train_local
from epgfn.learn.scores import score_table
from epgfn.study import Study
from epgfn.study.objects import space_of
from epgfn.study.records.tables import load_records
from epgfn.study.study import STUDY_NAME

SPLIT_SEED = 1
GRAPHS = 200_000
"""Drawn to measure edge marginals: a standard error of at most .0011."""
BLOCK = 4000
STEPS = 600


def sachs_11() -> Instance:
    """One node of the bundled example with more steps: `edge_error_mean` and `edge_error_max`, absolute, over 110 edges."""
    source = example_dir()
    study = Study.load(source / STUDY_NAME)
    records = load_records(source / "sachs.csv", study)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(records))
    records = records[np.array_split(order, len(study.roster))[0]]
    space = space_of(study)
    table = torch.as_tensor(score_table(study, records, n_parties=len(study.roster)), dtype=torch.float64)
    exact = edge_marginals(table, parent_masks(len(study.variables), study.space.max_parents))

    def train(seed: int, steps: int) -> Policy[Any]:
        longer = study.with_changes({"training": {"steps": steps}})
        return make_policy(space, [train_local(longer, records, seed=seed).tensors])

    @torch.no_grad()
    def measure(policy: Policy[Any]) -> dict[str, float]:
        generator = torch.Generator().manual_seed(0)
        total = torch.zeros(exact.shape, dtype=torch.float64)
        for _ in range(GRAPHS // BLOCK):
            final = sample(policy, space, BLOCK, generator=generator).trajectories.final
            total += final.adjacency.double().sum(0)
        error = np.abs(total.numpy() / GRAPHS - exact)[~np.eye(len(exact), dtype=bool)]
        return {"edge_error_mean": float(error.mean()), "edge_error_max": float(error.max())}

    return Instance(space, study.training.objective, STEPS, train, measure, None, budget=300.0)

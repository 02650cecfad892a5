"""Trees too many to be listed: chains teach a node's model and judge it, and the product of two nodes' models is judged by chains on it."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from epgfn.gflownet.measure import tree_chains
from epgfn.gflownet.policies.split_table import learning, tables
from epgfn.gflownet.sampling.random_walk import finished_at_random
from epgfn.gflownet.spaces import Phylogeny
from epgfn.learn.aggregate import train_global
from epgfn.learn.local import train_local
from epgfn.learn.model import Model
from epgfn.study import Study
from epgfn.targets.jc69 import simulate

TAXA = 10
TEXT = f"""
name = "taxa"
roster = ["north", "south"]
variables = [{", ".join(f'{{name = "t{i}"}}' for i in range(TAXA))}]
[space]
kind = "phylogeny"
[policy]
kind = "split-table"
"""


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TREES": 3000, "OWN": 1000, "CHAINS": 32}.items():
        monkeypatch.setattr(learning, name, value)
    monkeypatch.setattr(tree_chains, "run", partial(tree_chains.run, chains=8, rounds=4))


def test_chains_teach_and_judge_two_nodes_and_their_product() -> None:
    study, generator = Study.from_bytes(TEXT.encode()), torch.Generator().manual_seed(2)
    space = Phylogeny(TAXA)
    tree = finished_at_random(space, 1, generator)
    found = {
        node: train_local(study, simulate(space, tree, 60, 0.1, generator).T.contiguous().numpy(), seed=1)
        for node in study.roster
    }
    for local in found.values():
        assert local.trust is not None and local.trust["verdict"] == "good"
        assert local.trust["chains_largest_error"] <= 0.05 and local.trust["chains_apart"] <= 0.1
        assert len(local.history) == 5
    models = {node: local.tensors for node, local in found.items()}
    joint = train_global(study, models, seed=1)
    trust = joint.diagnostics["trust"]
    assert trust["target"] == "product of the models" and trust["verdict"] == "good"
    errors = [float(tensors[tables.ERROR][0]) for tensors in models.values()]
    assert trust["product_error"] == pytest.approx(sum(e**2 for e in errors) ** 0.5 / 4)
    assert joint.judged.basis in ("weighted", "chains")
    own = Model(study, joint.tensors).marginals(2000)
    assert all(abs(joint.judged.probabilities.get(name, 0.0) - share) < 0.06 for name, share in own.items())

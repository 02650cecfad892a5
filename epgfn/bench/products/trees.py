"""Trees of seven taxa from 1,000 simulated sites, split over five nodes: 10,395 trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from epgfn.bench.instances.trees import simulated_sites
from epgfn.bench.products.federation import Federation, Tensors
from epgfn.bench.products.yardsticks import ListedProduct
from epgfn.gflownet.policies import tree_net
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.policies.tree_net import SCORES, TreeNet
from epgfn.gflownet.spaces import Phylogeny
from epgfn.gflownet.training.on_reward import RewardSettings
from epgfn.gflownet.training.trees import DEFAULTS, train_trees
from epgfn.targets.jc69 import Jc69

SITES = 1000
"""Of all nodes together."""
BRANCH_LENGTH = 0.9
"""Expected changes per site along every branch: long, so that the sites leave something to doubt. At .1 and up to .5 all of the
product's mass is on one tree, and nothing is measured."""


def phylogeny_7(nodes: int = 5, split: str = "even") -> Federation:
    """JC69 with the uniform prior. `skewed`: sites are sorted by how many different bases they show, then dealt in parts."""
    return phylogeny(7, SITES, BRANCH_LENGTH, nodes, split)


def phylogeny(taxa: int, sites: int, branch_length: float, nodes: int = 5, split: str = "even") -> Federation:
    """The same of any size; the yardstick lists all trees, so it is of use for up to seven taxa."""
    space = Phylogeny(taxa)
    codes = _dealt(simulated_sites(space, sites, branch_length), split)
    targets = [Jc69(space, part, branch_length) for part in torch.tensor_split(codes, nodes, 1)]
    local = replace(DEFAULTS, temperature=3.0)
    settings = RewardSettings(
        "aggregating", steps=1000, batch=128, learning_rate=2e-3, exploration=0.05, temperature=2.0, hidden=64
    )

    def make(models: Sequence[Tensors]) -> Policy[Any]:
        return TreeNet(space, models)

    def train(chosen: Sequence[int], seed: int, steps: int) -> Policy[Any]:
        def log_reward(state: Any) -> Tensor:
            return torch.stack([targets[n].log_likelihood(state) for n in chosen]).sum(0)

        return make([train_trees(space, log_reward, seed=seed, settings=replace(local, steps=steps)).tensors])

    def start(models: Sequence[Tensors], seed: int) -> Policy[Any]:
        scores = torch.stack([model[SCORES].double() for model in models]).sum(0)
        generator = torch.Generator().manual_seed(seed)
        return make([tree_net.initial_tensors(space, settings.hidden, generator, scores)])

    rewards = [target.log_likelihood for target in targets]
    return Federation(
        space, rewards, make, train, local.steps, settings.steps, lambda steps: replace(settings, steps=steps), start,
        ListedProduct(space, rewards), settings.objective,
    )  # fmt: skip


def _dealt(codes: Tensor, split: str) -> Tensor:
    """Sites in the order in which nodes get theirs."""
    if split == "even":
        return codes
    different = torch.stack([(codes == base).any(0) for base in (1, 2, 4, 8)]).sum(0)
    return codes[:, different.argsort(stable=True)]

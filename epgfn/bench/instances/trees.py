"""Posteriors over rooted trees from sites simulated along one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from epgfn.bench.instances.instance import Instance, enumerable
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.policies.tree_net import TreeNet
from epgfn.gflownet.spaces import Phylogeny
from epgfn.gflownet.training.trees import DEFAULTS, train_trees
from epgfn.targets.jc69 import Jc69, simulate

TARGET_SEED = 1
BRANCH_LENGTH = 0.1
"""Expected changes per site along every branch."""


def simulated_sites(space: Phylogeny, n_sites: int, branch_length: float = BRANCH_LENGTH) -> Tensor:
    """(n, `n_sites`) uint8 codes, as `Jc69` takes them, along a tree whose subtrees were joined at random."""
    generator = torch.Generator().manual_seed(TARGET_SEED)
    tree = space.initial(1)
    while not space.is_terminating(tree).all():
        ways = space.forward_mask(tree).float()
        tree = space.step(tree, torch.multinomial(ways, 1, generator=generator)[:, 0])
    return simulate(space, tree, n_sites, branch_length, generator)


def phylogeny_7() -> Instance:
    """Seven taxa, 200 sites: 10,395 trees."""
    space = Phylogeny(7)
    target = Jc69(space, simulated_sites(space, 200), BRANCH_LENGTH)

    def train(seed: int, steps: int) -> Policy[Any]:
        settings = replace(DEFAULTS, steps=steps)
        return TreeNet(
            space, [train_trees(space, target.log_likelihood, seed=seed, settings=settings).tensors]
        )

    return Instance(
        space,
        DEFAULTS.objective,
        DEFAULTS.steps,
        train,
        enumerable(space, target.log_likelihood),
        ".32",
    )

"""The policy for trees learns a real likelihood: its distribution over all trees is the posterior."""

from __future__ import annotations

from typing import NamedTuple

import torch

from epgfn.judges import make_judge
from epgfn.policies import tree_net
from epgfn.policies.split_regression import split_scores
from epgfn.policies.tree_net import TreeNet
from epgfn.spaces import Phylogeny
from epgfn.targets.jc69 import Jc69
from epgfn.training import fit
from test_tree_net import alignment_of, tree_probabilities


class Settings(NamedTuple):
    """What the training loop reads."""

    steps: int = 150
    batch: int = 64
    learning_rate: float = 3e-3
    exploration: float = 0.05
    temperature: float = 2.0


def test_training_learns_the_posterior_of_an_alignment() -> None:
    space = Phylogeny(6)
    target = Jc69(space, alignment_of(space, 40, 2), 0.1)
    generator = torch.Generator().manual_seed(4)
    scores = split_scores(space, target.log_likelihood, generator, trees=500)
    policy = TreeNet(space, [tree_net.initial_tensors(space, 32, generator, scores)])
    fit(policy, space, Settings(), make_judge(space, target.log_likelihood, "contrastive"), generator)
    trees, probability = tree_probabilities(space, policy)
    expected = target.log_likelihood(trees).softmax(0)
    assert float(expected.max()) < 0.9  # there is something to learn
    assert float((probability - expected).abs().sum()) < 0.05

"""Training learns a real likelihood: the distribution over all trees is the posterior."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from epgfn.base.errors import EpgfnError
from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies.tree_net import TreeNet
from epgfn.gflownet.spaces import Phylogeny
from epgfn.gflownet.training.trees import DEFAULTS, train_trees
from epgfn.targets.jc69 import Jc69
from made_up import alignment_of

SHORT = replace(DEFAULTS, steps=200, batch=64, hidden=32, temperature=1.5, exploration=0.02)


def test_training_learns_the_posterior_of_an_alignment() -> None:
    space = Phylogeny(6)
    target = Jc69(space, alignment_of(space, 40, 2), 0.1)
    result = train_trees(space, target.log_likelihood, seed=4, settings=SHORT)
    trees, mass = terminating_mass(space, TreeNet(space, [result.tensors]))
    expected = exact_distribution(target.log_likelihood(trees))
    assert float(expected.max()) < 0.9  # there is something to learn
    assert l1(mass, expected) < 0.05


def test_a_score_that_is_not_finite_stops_training_at_once() -> None:
    with pytest.raises(EpgfnError, match="not finite"):
        train_trees(Phylogeny(4), lambda s: torch.full((len(s.nodes),), math.nan), seed=1, settings=SHORT)

"""Chains over objects of any space come to their target, whatever policy leads them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from epgfn.gflownet.measure.walk_chains import WalkChains
from epgfn.gflownet.policies import FAMILIES, make_policy
from epgfn.gflownet.sampling.random_walk import finished_at_random
from epgfn.gflownet.spaces import DagByEdges, Multiset, Phylogeny, Sequence
from epgfn.gflownet.spaces.enumeration import explore, terminating_states

SPACES = [
    (DagByEdges(3, 2), "edge-net"),
    (Multiset(3, 4), "mlp"),
    (Sequence(2, 3), "mlp"),
    (Phylogeny(4), "tree-net"),
]


@pytest.mark.parametrize(("space", "policy"), SPACES, ids=lambda value: type(value).__name__)
def test_chains_visit_objects_in_proportion_to_their_reward(space: Any, policy: str) -> None:
    generator = torch.Generator().manual_seed(1)
    model = make_policy(space, [FAMILIES[policy].initial(space, 16, None, generator)])
    every = space.key(terminating_states(space, explore(space)))
    value = torch.randn(len(every), generator=generator, dtype=torch.float64)

    def rows(state: Any) -> torch.Tensor:
        return (space.key(state)[:, None] == every).all(2).to(torch.uint8).argmax(1)

    start = finished_at_random(space, 1000, generator)
    chains = WalkChains(space, model, lambda state: value[rows(state)], start, generator)
    chains.cool(40)
    seen = torch.zeros(len(every), dtype=torch.float64)
    for _ in range(80):
        chains.move()
        seen += torch.bincount(rows(chains.state), minlength=len(every))
    expected = torch.softmax(value, 0)
    assert float((seen / seen.sum() - expected).abs().sum()) < 0.06
    assert float((torch.full_like(expected, 1 / len(expected)) - expected).abs().sum()) > 0.3

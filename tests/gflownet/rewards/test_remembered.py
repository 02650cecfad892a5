"""A reward that remembers says what the reward says, and asks it once an object."""

from __future__ import annotations

import torch
from torch import Tensor

from epgfn.gflownet.rewards.remembered import Remembered
from epgfn.gflownet.spaces.base import take
from epgfn.gflownet.spaces.phylogeny import Phylogeny, State


def test_each_object_is_scored_once_and_values_are_unchanged() -> None:
    space = Phylogeny(12)
    asked: list[int] = []

    def log_reward(state: State) -> Tensor:
        asked.append(len(state.nodes))
        return state.nodes.double().sum(1).log()

    trees = space.initial(50)
    generator = torch.Generator().manual_seed(0)
    while not space.is_terminating(trees).all():
        ways = space.forward_mask(trees).float()
        trees = space.step(trees, torch.multinomial(ways, 1, generator=generator)[:, 0])
    expected = trees.nodes.double().sum(1).log()
    halves = [
        torch.randint(25, (100,), generator=generator),
        25 + torch.randint(25, (100,), generator=generator),
    ]
    distinct = sum(len(half.unique()) for half in halves)
    for most, rounds in ((1000, 1), (30, 3)):  # the second has no room for both halves
        remembered = Remembered(space, log_reward, most)
        asked.clear()
        for half in halves * 3:
            assert torch.equal(remembered(take(trees, half)), expected[half])
        assert sum(asked) == rounds * distinct

"""Markov chains over trees find the clade probabilities that the enumeration of all trees gives, and say so themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from epgfn.gflownet.measure import tree_chains
from epgfn.gflownet.measure.tree_chains import Seen, at_random, run, said
from epgfn.gflownet.sampling.random_walk import finished_at_random
from epgfn.gflownet.spaces import Phylogeny
from epgfn.targets.jc69 import Jc69, simulate
from epgfn.targets.jc69_moves import Jc69Moves, renamed

BRANCH = 0.3


def sites_of(n: int, sites: int, seed: int, branch: float = BRANCH) -> Tensor:
    """(n, sites) codes that evolved along a random tree, one in twenty of them not known."""
    space, generator = Phylogeny(n), torch.Generator().manual_seed(seed)
    codes = simulate(space, finished_at_random(space, 1, generator), sites, branch, generator)
    return torch.where(torch.rand(codes.shape, generator=generator) < 0.05, 15, codes.long()).to(torch.uint8)


def exact_clades(codes: Tensor, branch: float = BRANCH) -> dict[int, float]:
    n = len(codes)
    space = Phylogeny(n)
    trees = space.trees()
    mass = torch.softmax(Jc69(space, codes, branch).log_likelihood(trees), 0)
    groups = [g for g in torch.unique(trees.nodes).tolist() if 1 < g.bit_count() < n]
    return {g: float(mass[(trees.nodes == g).any(1)].sum()) for g in groups}


@pytest.mark.parametrize(("sites", "listed"), [(8, False), (400, True)])
def test_they_reach_the_posterior_of_seven_taxa(sites: int, listed: bool) -> None:
    codes = sites_of(7, sites, seed=1)
    found, exact = run(Jc69Moves(codes, BRANCH), seed=2, enough=0.0), exact_clades(codes)
    errors = [abs(p - found.clades.get(g, 0.0)) for g, p in exact.items()]
    assert max(errors) < (1e-3 if listed else 0.03)
    assert max(errors) <= 2 * max(found.apart, 1e-3) and found.apart < 0.06
    assert set(found.clades) <= set(exact)
    if listed:
        assert found.listed


def test_one_seed_gives_one_result_and_log_rewards_are_those_of_the_likelihood() -> None:
    codes, space = sites_of(9, 50, seed=3), Phylogeny(9)
    moves = Jc69Moves(codes, BRANCH)
    first, again = (run(moves, seed=5, chains=8, rounds=1) for _ in range(2))
    assert first.clades == again.clades and torch.equal(first.drawn, again.drawn)
    state = space.of_clades(first.drawn)
    assert torch.allclose(Jc69(space, codes, BRANCH).log_likelihood(state), first.log_rewards, atol=1e-9)
    assert not torch.equal(run(moves, seed=6, chains=8, rounds=1).drawn, first.drawn)


def test_modes_that_no_move_joins_are_weighed_by_what_they_are_worth() -> None:
    """One population came by three of the trees once, the others by one of them for ever."""
    space = Phylogeny(4)
    trees = space.trees().nodes[:3, 1:].sort(1).values
    log_reward = torch.tensor([0.0, -3.5, -5.0], dtype=torch.float64)
    stuck = Seen(trees[[0] * 6], log_reward[[0] * 6])
    rows = [0, 1, 1, 1, 1, 2]
    answer = said([stuck, Seen(trees[rows], log_reward[rows])])
    mass = torch.softmax(log_reward, 0)
    for group, share in answer.clades.items():
        assert share == pytest.approx(float(mass[(trees == group).any(1)].sum()))
    assert answer.listed and answer.apart == pytest.approx(float(mass[1:].sum()), abs=0.02)


def test_sites_that_differ_in_the_names_of_bases_are_one() -> None:
    codes = torch.tensor([[1, 8, 15, 3], [1, 8, 2, 12], [4, 2, 2, 3]], dtype=torch.uint8)
    found = renamed(codes)
    assert torch.equal(found[:, 0], found[:, 1])
    assert found[:, 3].tolist() == [3, 12, 3] and found[:, 2].tolist() == [15, 1, 1]


def test_random_trees_are_trees_and_hold_sixty_four_leaves() -> None:
    trees = at_random(64, 3, np.random.default_rng(1))
    nodes = trees.clades()
    assert nodes.shape == (3, 63)
    state = Phylogeny(64).of_clades(nodes)
    assert bool((state.nodes[:, 1:].sort(1).values == nodes.sort(1).values).all())
    assert tree_chains.Trees(*(torch.as_tensor(t).numpy() for t in trees)).rows([0, 0]).parent.shape[0] == 2

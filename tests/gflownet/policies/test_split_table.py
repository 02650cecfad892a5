"""A sparse table of splits gives every tree exactly one way and a probability, says no more than a model may, and learns from chains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from epgfn.base.errors import RefusedError
from epgfn.gflownet.losses import contrastive_balance
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.measure.tree_chains import Parts
from epgfn.gflownet.policies import FAMILIES, make_policy
from epgfn.gflownet.policies.split_table import learning, tables
from epgfn.gflownet.policies.split_table.policy import SplitTable, initial_tensors, rows_of
from epgfn.gflownet.policies.validation import check_policy, check_tensors
from epgfn.gflownet.sampling.random_walk import finished_at_random
from epgfn.gflownet.sampling.rollout import evaluate, sample, sample_backward
from epgfn.gflownet.spaces import Phylogeny
from epgfn.gflownet.spaces.base import take
from epgfn.targets.jc69 import Jc69, simulate
from epgfn.targets.jc69_moves import Jc69Moves
from split_tables import drawn_tensors


@pytest.mark.parametrize(("n", "seed"), [(3, 0), (5, 1), (6, 2), (7, 3), (7, 4)])
def test_every_tree_has_one_way_and_all_together_have_one(n: int, seed: int) -> None:
    space = Phylogeny(n)
    policy, trees = SplitTable(space, [drawn_tensors(space, seed)]), space.trees()
    log_p = policy.log_prob(trees)
    assert float(log_p.exp().sum()) == pytest.approx(1.0, abs=1e-9)
    if n <= 6:  # by choices, state by state, the same
        reached, mass = terminating_mass(policy.ways, policy)
        assert torch.allclose(policy.totals(policy.ways.initial(2)), torch.ones(1, 2, dtype=torch.float64))
        assert len(mass) == len(trees.nodes) == len(torch.unique(reached.nodes, dim=0))
        assert torch.allclose(policy.log_prob(reached).exp(), mass, atol=1e-6)
    drawn = sample(policy, space, 4000, generator=torch.Generator().manual_seed(seed)).trajectories
    back = sample_backward(policy.ways, drawn.final, generator=torch.Generator())
    assert torch.equal(back.actions, drawn.actions) and not bool(back.log_pb.any())
    assert torch.equal(policy.ways.step(drawn.states[-1], drawn.actions[-1]).nodes, drawn.final.nodes)
    top = int(log_p.argmax())
    share = float((drawn.final.nodes == trees.nodes[top]).all(1).double().mean())
    assert share == pytest.approx(float(log_p[top].exp()), abs=0.03)


def test_what_is_drawn_exploring_is_drawn_as_it_says() -> None:
    space = Phylogeny(6)
    policy = SplitTable(space, [drawn_tensors(space, 5)])
    drawn = sample(
        policy, space, 20_000, generator=torch.Generator().manual_seed(1), temperature=2.0, exploration=0.2
    )
    ratio = (drawn.evaluated.log_pf[0].sum(0) - drawn.log_q).exp()
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.06)


def test_models_side_by_side_and_gradients_are_those_of_the_scores() -> None:
    space = Phylogeny(5)
    models = [drawn_tensors(space, seed) for seed in (1, 2)]
    both = make_policy(space, models)
    assert isinstance(both, SplitTable)
    trees = space.trees()
    back = sample_backward(both.ways, trees, generator=torch.Generator())
    found = evaluate(both, space, back).log_pf.sum(1)
    for number in range(2):
        assert torch.allclose(found[number].double(), both.alone(number).log_prob(trees), atol=1e-4)
    moves = both.moves()
    assert np.allclose(moves.log_reward(Parts.of(trees)), found.sum(0), atol=1e-4)

    for name in (tables.SCORE, tables.PAIR_SCORE):  # no split as improbable as one of no table
        models[0][name] *= 0.25
    policy = SplitTable(space, models[:1])
    rows, _ = rows_of(policy.tables(), Parts.of(trees))
    known = take(trees, torch.from_numpy((rows >= 0).all(1)))  # log p_T is a sum of scores less a constant
    back = sample_backward(policy.ways, known, generator=torch.Generator())
    reward = torch.randn(len(known.nodes), generator=torch.Generator().manual_seed(1))
    score = policy.parameters()[0].requires_grad_(True)

    def loss() -> Tensor:
        log_pf = evaluate(policy, space, back).log_pf[0].sum(0)
        return contrastive_balance(log_pf, torch.zeros_like(log_pf), reward)

    (slope,) = torch.autograd.grad(loss(), score)
    row, step = int(slope.abs().argmax()), 0.02
    with torch.no_grad():
        score[0, row % score.shape[1]] += step
        higher = loss()
        score[0, row % score.shape[1]] -= 2 * step
        lower = loss()
    assert float(slope.flatten()[row]) == pytest.approx(float(higher - lower) / (2 * step), rel=0.02)


def test_without_a_table_all_trees_are_as_probable() -> None:
    space = Phylogeny(6)
    log_p = SplitTable(space, [initial_tensors(space)]).log_prob(space.trees())
    assert torch.allclose(log_p.exp(), torch.full((945,), 1 / 945, dtype=torch.float64))


def test_sixty_four_leaves() -> None:
    space = Phylogeny(64)
    tensors = drawn_tensors(space, 1, trees=5)
    tables.check(space, tensors)
    policy = SplitTable(space, [tensors])
    check_policy(policy, space)
    drawn = sample(policy, space, 50, generator=torch.Generator().manual_seed(1))
    assert bool(policy.ways.is_terminating(drawn.trajectories.final).all())
    assert torch.allclose(policy.log_prob(drawn.trajectories.final).float(), drawn.log_q, atol=1e-3)
    back = sample_backward(policy.ways, drawn.trajectories.final, generator=torch.Generator())
    assert torch.equal(back.actions, drawn.trajectories.actions)


def _set(name: str, row: int, value: float) -> Callable[[dict[str, Tensor]], None]:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[name].view(len(tensors[name]), -1)[row, 0] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set(tables.LEAVES, 0, 1.5),
        _set(tables.LEAVES, 0, 0.0),
        _set(tables.LEAVES, 3, 127.0),
        _set(tables.LEAVES, -1, 3.0),
        _set(tables.SCORE, -1, 1.0),
        _set(tables.PAIRS, 0, 1e6),
        _set(tables.PAIRS, 0, 0.5),
        _set(tables.PAIRS, -1, 2.0),
        _set(tables.PAIR_SCORE, -1, 1.0),
        _set(tables.ERROR, 0, -1.0),
    ],
)
def test_a_file_that_is_no_table_of_splits_is_refused(change: Callable[[dict[str, Tensor]], None]) -> None:
    space = Phylogeny(7)
    tensors = drawn_tensors(space, 1)
    check_tensors(tensors, FAMILIES["split-table"].spec(space, 8))
    tables.check(space, tensors)
    change(tensors)
    with pytest.raises(RefusedError) as refused:
        tables.check(space, tensors)
    assert refused.value.reason == "model-illegal-score"


def test_the_largest_scores_that_pass_give_a_policy() -> None:
    space = Phylogeny(6)
    tensors = drawn_tensors(space, 2)
    signs = torch.randn(len(tensors[tables.SCORE]), generator=torch.Generator().manual_seed(1)).sign()
    tensors[tables.SCORE] = torch.where(tensors[tables.SCORE] != 0, signs * 1e7, 0.0)
    policy = SplitTable(space, [tensors])
    assert float(policy.log_prob(space.trees()).exp().sum()) == pytest.approx(1.0, abs=1e-6)


def test_chains_teach_a_posterior_of_seven_taxa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "TREES", 3000)
    monkeypatch.setattr(learning, "OWN", 1000)
    space, generator = Phylogeny(7), torch.Generator().manual_seed(1)
    codes = simulate(space, finished_at_random(space, 1, generator), 40, 0.3, generator)
    moves = Jc69Moves(codes, 0.3)
    tensors, again = (learning.taught(space, moves, torch.Generator().manual_seed(3), True) for _ in range(2))
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)
    tables.check(space, tensors)
    trees = space.trees()
    log_reward = Jc69(space, codes, 0.3).log_likelihood(trees)
    exact = torch.softmax(log_reward, 0)
    log_p = SplitTable(space, [tensors]).log_prob(trees)
    assert float((log_p.exp() - exact).abs().sum()) < 0.15
    groups = torch.unique(trees.nodes[:, 1:])
    both = torch.stack([exact, log_p.exp()])
    errors = [float((both @ (trees.nodes == g).any(1).double()).diff()) for g in groups]
    assert max(map(abs, errors)) < 0.03
    spread = (log_reward - log_p)[log_reward > log_reward.max() - 12].std()
    assert float(spread) < 1.2 and 0 < float(tensors[tables.ERROR][0]) < 1.2

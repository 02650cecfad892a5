"""The policy for trees: exact where a score is a sum over splits, a distribution everywhere."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies import tree_net
from epgfn.gflownet.policies.partitions import MAX_LEAVES, partitions_of
from epgfn.gflownet.policies.split_regression import split_scores, splits_of
from epgfn.gflownet.policies.tree_net import SCORES, TreeNet
from epgfn.gflownet.policies.validation import check_policy, check_tensors
from epgfn.gflownet.sampling.rollout import evaluate, sample, sample_backward
from epgfn.gflownet.spaces import Phylogeny
from epgfn.gflownet.spaces.enumeration import explore
from epgfn.gflownet.spaces.phylogeny import State
from epgfn.gflownet.training.loop import effective_share
from epgfn.targets.jc69 import Jc69
from made_up import alignment_of

BELL = {2: 2, 3: 5, 4: 15, 5: 52, 6: 203, 7: 877, 8: 4140}


def noisy(space: Phylogeny, seed: int, hidden: int = 8) -> dict[str, Tensor]:
    """Random numbers everywhere, as after training."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(tensor.shape, generator=generator) * 0.5
        for name, tensor in tree_net.initial_tensors(space, hidden, generator).items()
    }


def split_policy(space: Phylogeny, scores: Tensor) -> TreeNet:
    return TreeNet(space, [tree_net.initial_tensors(space, 8, torch.Generator().manual_seed(0), scores)])


def random_scores(n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(len(partitions_of(n).splits), dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("n", BELL)
def test_partitions_and_splits_are_all_there(n: int) -> None:
    parts = partitions_of(n)
    assert sum(len(level.keys) for level in parts.levels) == BELL[n]
    assert len(parts.splits) == (3**n - 2 ** (n + 1) + 1) // 2


@pytest.mark.parametrize("n", [2, 3, 5, 6])
def test_the_flow_through_a_forest_is_its_splits_times_that_of_its_partition(n: int) -> None:
    """F(s) = exp(sum of phi) g(partition), F from the definition: R of the trees, back along p_B."""
    space, parts, scores = Phylogeny(n), partitions_of(n), random_scores(n, 1)
    levels, potential = explore(space), parts.potential(scores)
    log_flow = scores[splits_of(parts, space, levels[-1].state)].sum(1)
    for level, after in zip(levels[-2::-1], levels[:0:-1], strict=True):
        back = (
            log_flow - space.backward_mask(after.state).sum(1).double().log()
        )  # F(s') p_B(s | s'), the same for each s
        flow = torch.zeros(len(level.state.nodes), dtype=torch.float64)
        log_flow = flow.index_add(0, level.source, back[level.target].exp()).log()
        state = level.state
        right = torch.where(state.nodes != 0, state.clades, 0)
        number = parts.split_number(state.nodes & ~right, right)
        within = torch.where(state.nodes != 0, scores[number], 0.0).sum(1)
        roots, sets = torch.where(space.open(state), state.clades, 0), int(space.open(state)[0].sum())
        row = parts.levels[n - sets].start + parts.row(parts.key(roots), sets)
        assert torch.allclose(log_flow, within + potential[row], atol=1e-9)


@pytest.mark.parametrize("n", [3, 4, 5, 6])
def test_a_score_that_is_a_sum_over_splits_is_sampled_exactly(n: int) -> None:
    space, scores = Phylogeny(n), random_scores(n, 2)
    trees, probability = terminating_mass(space, split_policy(space, scores))
    expected = scores[splits_of(partitions_of(n), space, trees)].sum(1).softmax(0)
    assert float((probability - expected).abs().sum()) < 1e-4


def test_such_a_score_is_found_from_its_values() -> None:
    space, scores = Phylogeny(5), random_scores(5, 3)
    parts = partitions_of(5)

    def log_reward(state: State) -> Tensor:
        return scores[splits_of(parts, space, state)].sum(1) - 1234.5

    found = split_scores(space, log_reward, torch.Generator().manual_seed(0), trees=300)
    trees, probability = terminating_mass(space, split_policy(space, found))
    assert float((probability - log_reward(trees).softmax(0)).abs().sum()) < 0.01


@settings(max_examples=15)
@given(st.sampled_from([2, 3, 4, 6, 8, 10, MAX_LEAVES + 1]), st.integers(0, 2**31))
def test_mass_sums_to_one_on_exactly_the_allowed_joins(n: int, seed: int) -> None:
    space = Phylogeny(n)
    policy = TreeNet(space, [noisy(space, seed), noisy(space, seed + 1)])
    drawn = sample(policy, space, 8, generator=torch.Generator().manual_seed(seed), exploration=0.5)
    for state in [*drawn.trajectories.states, drawn.trajectories.final]:
        choices = policy.choices(state)
        assert torch.allclose(choices.log_prob.exp().sum(2), torch.ones(2, 8), atol=1e-5)
        if not space.is_terminating(state).any():
            dense = torch.full((8, space.n_actions), -torch.inf).scatter(
                1, choices.action, choices.log_prob[1]
            )
            assert torch.equal(torch.isfinite(dense), space.forward_mask(state))
    back = sample_backward(space, drawn.trajectories.final, generator=torch.Generator().manual_seed(seed))
    assert torch.isfinite(evaluate(policy, space, back).log_pf).all()


@pytest.mark.parametrize("n", [5, MAX_LEAVES + 1])
def test_a_stack_says_what_each_model_says_alone(n: int) -> None:
    space = Phylogeny(n)
    models = [noisy(space, seed) for seed in range(3)]
    stack = TreeNet(space, models)
    drawn = sample(stack, space, 32, generator=torch.Generator().manual_seed(0), temperature=2.0)
    together = evaluate(stack, space, drawn.trajectories)
    assert torch.allclose(together.log_pf, drawn.evaluated.log_pf, atol=1e-5)
    for i, tensors in enumerate(models):
        alone = evaluate(TreeNet(space, [tensors]), space, drawn.trajectories)
        assert torch.allclose(together.log_pf[i], alone.log_pf[0], atol=1e-5)
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in stack.tensors(i).items())


def test_ten_leaves_are_sampled_close_to_their_posterior_before_any_training() -> None:
    """34 million trees, of which a few thousand are scored; the weights towards the posterior are nearly even."""
    space, generator = Phylogeny(10), torch.Generator().manual_seed(1)
    target = Jc69(space, alignment_of(space, 60, 2), 0.2)
    policy = split_policy(space, split_scores(space, target.log_likelihood, generator, trees=1000))
    drawn = sample(policy, space, 1000, generator=generator)
    reward = target.log_likelihood(drawn.trajectories.final)
    assert len(reward.unique()) > 10
    assert effective_share(reward + drawn.trajectories.log_pb.sum(0) - drawn.log_q) > 0.6


def renamed_trees(space: Phylogeny, state: State, order: list[int]) -> State:
    """The same trees with leaf i called order[i]."""
    bits = torch.tensor([1 << order[i] for i in range(space.n_leaves)])
    nodes = (space.members(state.nodes[:, 1:]).long() * bits).sum(2)  # (B, n - 1) leaf sets, some empty
    done = torch.zeros_like(state.nodes)
    for row in range(len(nodes)):
        made = sorted((int(x) for x in nodes[row] if x), key=int.bit_count)
        clades = {1 << i: 1 << i for i in range(space.n_leaves)}
        for whole in made:  # its two parts are the largest sets so far within it
            parts = sorted(s for s in clades.values() if s & whole == s)
            low = min(parts, key=lambda s: s & -s)
            high = next(s for s in parts if s != low)
            done[row, (high & -high).bit_length() - 1] = whole
            del clades[high & -high]
            clades[low & -low] = whole
    return space.terminal(done)


@settings(max_examples=10)
@given(st.permutations(range(6)), st.integers(0, 2**31))
def test_renaming_leaves_and_the_weights_on_them_renames_the_policy(order: list[int], seed: int) -> None:
    space = Phylogeny(6)
    tensors = noisy(space, seed)
    tensors[SCORES].zero_()
    renamed = {name: tensor.clone() for name, tensor in tensors.items()}
    renamed["node.0.weight"][[*order, *(6 + i for i in order)]] = tensors["node.0.weight"]
    renamed["root.weight"][order] = tensors["root.weight"]
    state = space.initial(8)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        action = torch.multinomial(space.forward_mask(state).float(), 1, generator=generator)[:, 0]
        state = space.step(state, action)
    one = TreeNet(space, [tensors]).choices(state).log_prob[0]
    other = TreeNet(space, [renamed]).choices(renamed_trees(space, state, order)).log_prob[0]
    assert torch.allclose(one.sort(1).values, other.sort(1).values, atol=1e-5)


@pytest.mark.parametrize("n", [7, 10, MAX_LEAVES + 1])
def test_a_model_is_what_its_spec_says(n: int) -> None:
    space = Phylogeny(n)
    tensors = tree_net.initial_tensors(space, 16, torch.Generator().manual_seed(0))
    check_tensors(tensors, tree_net.spec(space, 16))
    check_policy(TreeNet(space, [tensors]), space)
    assert (SCORES in tensors) == (n <= MAX_LEAVES)


def test_what_has_no_split_scores_is_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(UsageError, match="too many splits"):
        split_scores(Phylogeny(MAX_LEAVES + 1), lambda s: s.nodes[:, 0].double(), generator)
    with pytest.raises(EpgfnError, match="not finite"):
        split_scores(Phylogeny(4), lambda s: torch.full((len(s.nodes),), math.nan), generator)
    with pytest.raises(ValueError, match="at most"):
        partitions_of(MAX_LEAVES + 1)


def test_the_same_seed_gives_the_same_scores() -> None:
    space = Phylogeny(5)
    target = Jc69(space, alignment_of(space, 30, 2), 0.2)
    runs: list[Any] = [
        split_scores(space, target.log_likelihood, torch.Generator().manual_seed(7), trees=100)
        for _ in range(2)
    ]
    assert torch.equal(*runs)

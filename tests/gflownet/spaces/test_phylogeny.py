"""Forests: every tree once, equal whatever the order of joining, read back from Newick as they were."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from epgfn.gflownet.spaces.enumeration import explore
from epgfn.gflownet.spaces.phylogeny import MAX_LEAVES, MAX_LISTED, Phylogeny, State


def walk(space: Phylogeny, n: int, seed: int, steps: int | None = None) -> State:
    """`n` random forests after `steps` joins, or finished trees."""
    generator, state = torch.Generator().manual_seed(seed), space.initial(n)
    for _ in range(space.max_steps if steps is None else steps):
        action = torch.multinomial(space.forward_mask(state).float(), 1, generator=generator)[:, 0]
        state = space.step(state, action)
    return state


def parse(newick: str) -> set[frozenset[str]]:
    """The clades of the trees of a Newick string of plain labels, leaves included."""
    stack: list[set[str]] = []
    found, label = set(), ""
    for c in newick:
        if c in "(),;":
            if label:
                found.add(frozenset([label]))
                if stack:
                    stack[-1].add(label)
                label = ""
            if c == "(":
                stack.append(set())
            elif c == ")":
                done = stack.pop()
                found.add(frozenset(done))
                if stack:
                    stack[-1].update(done)
        else:
            label += c
    return found


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7])
def test_every_tree_is_listed_once_and_reached(n: int) -> None:
    space = Phylogeny(n)
    listed, reached = space.trees(), explore(space)
    count = math.prod(range(1, 2 * n - 2, 2))  # (2n - 3)!!, 10,395 for seven
    keys = {tuple(key) for key in space.key(listed).tolist()}
    assert len(listed.nodes) == len(keys) == count
    assert keys == {tuple(key) for key in space.key(reached[-1].state).tolist()}
    assert len(set(space.decode(listed))) == count
    for level, k in zip(reached, range(n, 0, -1), strict=True):  # forests of k trees
        forests = math.factorial(2 * n - k - 1) // (
            math.factorial(k - 1) * math.factorial(n - k) * 2 ** (n - k)
        )
        assert len(level.state.nodes) == forests


@settings(max_examples=25)
@given(st.integers(2, MAX_LEAVES), st.integers(0, 2**31))
def test_newick_holds_exactly_the_clades(n: int, seed: int) -> None:
    space = Phylogeny(n)
    state = walk(space, 4, seed)
    for tree, nodes in zip(space.decode(state), state.nodes[:, 1:].tolist(), strict=True):
        clades = parse(tree)
        assert len(clades) == 2 * n - 1
        assert {frozenset(str(i) for i in range(n) if node >> i & 1) for node in nodes} <= clades


@settings(max_examples=25)
@given(st.integers(2, MAX_LEAVES), st.integers(0, 2**31))
def test_the_order_of_joining_leaves_no_trace(n: int, seed: int) -> None:
    """Taken apart and put together in another order, a tree is the same state."""
    space = Phylogeny(n)
    final = walk(space, 8, seed)
    generator, state, actions = torch.Generator().manual_seed(seed + 1), final, []
    for _ in range(space.max_steps):
        choice = torch.multinomial(space.backward_mask(state).float(), 1, generator=generator)[:, 0]
        state, action = space.step_back(state, choice)
        actions.append(action)
    assert torch.equal(state.nodes, space.initial(8).nodes)
    for action in reversed(actions):
        state = space.step(state, action)
    assert all(torch.equal(a, b) for a, b in zip(state, final, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(space.terminal(final.nodes), final, strict=True))


@settings(max_examples=25)
@given(st.integers(2, MAX_LEAVES), st.integers(0, 2**31))
def test_joins_put_the_tree_together_children_first(n: int, seed: int) -> None:
    space = Phylogeny(n)
    final = walk(space, 8, seed)
    state, pairs = space.initial(8), space.pairs.T.tolist()
    number = {tuple(pair): a for a, pair in enumerate(pairs)}
    for left, right in zip(*(x.T.tolist() for x in space.joins(final)), strict=True):
        action = torch.tensor([number[pair] for pair in zip(left, right, strict=True)])
        assert space.forward_mask(state).gather(1, action[:, None]).all()
        state = space.step(state, action)
    assert torch.equal(state.nodes, final.nodes)


@settings(max_examples=15)
@given(st.integers(2, MAX_LEAVES), st.data())
def test_features_and_key_tell_forests_apart(n: int, data: st.DataObject) -> None:
    space = Phylogeny(n)
    state = walk(space, 32, data.draw(st.integers(0, 2**31)), data.draw(st.integers(0, n - 1)))
    keys, features = space.key(state), space.features(state)
    assert features.shape == (32, space.n_features) and features.dtype == torch.float32
    for a, b in itertools.combinations(range(32), 2):
        same = bool((state.nodes[a] == state.nodes[b]).all())
        assert bool((keys[a] == keys[b]).all()) == same == bool((features[a] == features[b]).all())


def test_a_forest_is_its_trees_and_names_are_quoted_where_they_must() -> None:
    space = Phylogeny(3)
    forest = space.step(space.initial(1), torch.tensor([1]))  # leaves 0 and 2
    assert space.decode(forest) == ["(0,2);1;"]
    assert space.newick(forest, ["Homo sapiens", "it's", "Pan"]) == ["('Homo sapiens',Pan);'it''s';"]


@pytest.mark.parametrize("n", [-1, 0, 1, MAX_LEAVES + 1])
def test_impossible_numbers_of_leaves_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match="leaves"):
        Phylogeny(n)


def test_too_many_trees_are_not_listed() -> None:
    with pytest.raises(ValueError, match="at most"):
        Phylogeny(MAX_LISTED + 1).trees()

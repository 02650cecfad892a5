"""State graphs keep their promises, whichever is in the registry."""

from __future__ import annotations

import itertools
import math
from typing import Any

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from epgfn.base.errors import UsageError
from epgfn.gflownet.spaces import (
    SPACES,
    DagByEdges,
    DagBySinks,
    Hypergrid,
    Multiset,
    Phylogeny,
    Sequence,
    make_space,
)
from epgfn.gflownet.spaces.base import InRows, pack_digits, take, where
from epgfn.gflownet.spaces.enumeration import explore
from epgfn.gflownet.spaces.parent_index import modular_score, parent_index
from epgfn.gflownet.spaces.parent_sets import parent_masks

KINDS = sorted(SPACES)


def numbers(**ranges: tuple[int, int]) -> st.SearchStrategy[dict[str, int]]:
    return st.fixed_dictionaries({name: st.integers(*ends) for name, ends in ranges.items()})


dag_settings = st.integers(2, 6).flatmap(lambda v: numbers(n_variables=(v, v), max_parents=(1, v - 1)))
# a new space: what it may be asked to be, and how many objects some small ones have
SETTINGS: dict[str, st.SearchStrategy[dict[str, int]]] = {
    "dag-by-sinks": dag_settings,
    "dag-by-edges": dag_settings,
    "hypergrid": numbers(n_dimensions=(1, 4), side=(2, 9)),
    "multiset": numbers(n_items=(2, 7), size=(1, 6)),
    "phylogeny": numbers(n_leaves=(2, 8)),
    "sequence": numbers(n_letters=(1, 7), max_length=(1, 6)),
}
DAGS = [({"n_variables": v, "max_parents": v - 1}, n) for v, n in {2: 3, 3: 25, 4: 543}.items()]
OBJECTS: dict[str, list[tuple[dict[str, int], int]]] = {
    "dag-by-sinks": DAGS,
    "dag-by-edges": DAGS,
    "hypergrid": [({"n_dimensions": 1, "side": 2}, 2), ({"n_dimensions": 3, "side": 4}, 64)],
    "multiset": [({"n_items": 2, "size": 1}, 2), ({"n_items": 4, "size": 5}, math.comb(8, 5))],
    "phylogeny": [({"n_leaves": 2}, 1), ({"n_leaves": 5}, 105), ({"n_leaves": 7}, 10_395)],
    "sequence": [({"n_letters": 1, "max_length": 2}, 3), ({"n_letters": 3, "max_length": 4}, 121)],
}


@st.composite
def spaces(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(KINDS))
    return make_space(kind, **draw(SETTINGS[kind]))


def assert_legal(space: Any, thing: Any) -> None:
    """What `decode` gives is an object of the space."""
    if isinstance(space, DagBySinks | DagByEdges):
        assert nx.is_directed_acyclic_graph(thing)
        assert len(thing) == space.n_variables
        assert max(degree for _, degree in thing.in_degree()) <= space.max_parents
    elif isinstance(space, Hypergrid):
        assert len(thing) == space.n_dimensions
        assert all(0 <= i < space.side for i in thing)
    elif isinstance(space, Multiset):
        assert len(thing) == space.n_items
        assert sum(thing) == space.size
        assert min(thing) >= 0
    elif isinstance(space, Phylogeny):
        assert thing.endswith(");")
        assert thing.count("(") == thing.count(")") == thing.count(",") == space.n_leaves - 1
        assert all(str(i) in thing for i in range(space.n_leaves))
    elif isinstance(space, Sequence):
        assert len(thing) <= space.max_length
        assert set(thing) <= set("ABCDEFGHIJ"[: space.n_letters])
    else:
        raise AssertionError(f"say here what an object of {type(space).__name__} is")


def random_action(mask: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    weights = torch.where(mask.any(1, keepdim=True), mask, True).float()
    return torch.multinomial(weights, 1, generator=generator)[:, 0]


@settings(max_examples=25)
@given(spaces(), st.integers(0, 2**31))
def test_every_walk_ends_in_time_in_a_legal_object_and_can_be_walked_back(space: Any, seed: int) -> None:
    generator, state = torch.Generator().manual_seed(seed), space.initial(16)
    for _ in range(space.max_steps):
        running, mask = ~space.is_terminating(state), space.forward_mask(state)
        assert mask.shape == (16, space.n_actions)
        assert (mask.any(1) == running).all()
        assert space.features(state).shape == (16, space.n_features)
        assert space.features(state).dtype == torch.float32
        action = random_action(mask, generator)
        after = where(running, space.step(state, action), state)
        rows = running.nonzero()[:, 0]
        # the way back that undoes the action leads to the state before
        found = torch.zeros(16, dtype=torch.bool)
        for choice in range(space.n_backward):
            way = space.backward_mask(after)[:, choice]
            back = space.step_back(after, torch.full((16,), choice))
            same = (space.key(back.state) == space.key(state)).all(1)
            found |= way & same & (back.action == action)
        assert found[rows].all()
        state = after
    assert space.is_terminating(state).all()
    decoded = space.decode(state)
    assert len(decoded) == 16
    for thing in decoded:
        assert_legal(space, thing)


@settings(max_examples=15)
@given(spaces(), st.integers(0, 2**31))
def test_a_step_back_taken_forward_again_returns(space: Any, seed: int) -> None:
    generator, state = torch.Generator().manual_seed(seed), space.initial(16)
    for _ in range(space.max_steps):
        running = ~space.is_terminating(state)
        state = where(running, space.step(state, random_action(space.forward_mask(state), generator)), state)
    while (ways := space.backward_mask(state)).any():
        can = ways.any(1)
        back = space.step_back(state, random_action(ways, generator))
        before = where(can, back.state, state)
        again = where(can, space.step(before, torch.where(can, back.action, 0)), state)
        allowed = space.forward_mask(before).gather(1, torch.where(can, back.action, 0)[:, None])[:, 0]
        assert allowed[can].all()
        assert (space.key(again) == space.key(state)).all()
        state = before
    assert (space.key(state) == space.key(space.initial(16))).all()


SMALL = [(kind, *case) for kind in KINDS for case in OBJECTS[kind]]


@pytest.mark.parametrize(("kind", "how", "expected"), SMALL)
def test_all_objects_are_reached_and_ways_back_are_counted_right(
    kind: str, how: dict[str, int], expected: int
) -> None:
    space = make_space(kind, **how)
    levels, objects = explore(space), 0
    for level, following in itertools.pairwise(levels):
        arrows = torch.bincount(level.target, minlength=len(following.state[0]))
        assert (space.backward_mask(following.state).sum(1) == arrows).all()
    for level in levels:
        objects += int(space.is_terminating(level.state).sum())
    assert objects == expected
    assert len({tuple(key) for level in levels for key in space.key(level.state).tolist()}) == sum(
        len(level.state[0]) for level in levels
    )


@settings(max_examples=25)
@given(st.integers(2, 8), st.data())
def test_sets_are_numbered_as_they_are_listed(v: int, data: st.DataObject) -> None:
    fan_in = data.draw(st.integers(1, v - 1))
    masks = parent_masks(v, fan_in)
    members = ((masks[:, None] >> torch.arange(v)) & 1).bool()  # (K, V)
    columns = members[:, :, None].expand(-1, v, v)  # every variable has that parent set
    assert (parent_index(columns, fan_in) == torch.arange(len(masks))[:, None]).all()
    table = torch.randn(v, len(masks), dtype=torch.float64)
    assert torch.allclose(modular_score(table, columns, fan_in), table.sum(0))


@settings(max_examples=25)
@given(st.integers(2, 7), st.data())
def test_the_short_list_of_actions_is_the_mask(v: int, data: st.DataObject) -> None:
    space = DagBySinks(v, data.draw(st.integers(1, v - 1)))
    generator, state = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31))), space.initial(8)
    for _ in range(v):
        legal = space.legal(state)
        listed = (legal.candidates[:, :, None] * space.n_sets + legal.sets[:, None]).flatten(1)
        mask = torch.zeros(8, space.n_actions).scatter_add(
            1, listed, torch.ones_like(listed, dtype=torch.float32)
        )
        assert torch.equal(mask, space.forward_mask(state).float())
        state = space.step(state, random_action(space.forward_mask(state), generator))


def test_reachability_is_kept_up_to_date() -> None:
    space = DagByEdges(6, 3)
    generator, state = torch.Generator().manual_seed(0), space.initial(32)
    for _ in range(space.max_steps):
        for adjacency, closure in zip(state.adjacency, state.closure, strict=True):
            graph = nx.from_numpy_array(adjacency.numpy(), create_using=nx.DiGraph)
            reach = nx.to_numpy_array(nx.transitive_closure(graph, reflexive=True), nodelist=range(6)) > 0
            assert (closure.numpy() == reach).all()
        state = space.step(state, random_action(space.forward_mask(state), generator))


def test_finished_graphs_become_states() -> None:
    adjacency = torch.zeros(1, 3, 3, dtype=torch.bool)
    adjacency[0, 0, 1] = adjacency[0, 2, 1] = True
    by_sinks = DagBySinks(3, 2).terminal(adjacency)
    assert by_sinks.sinks.tolist() == [[False, True, False]]
    assert DagByEdges(3, 2).is_terminating(DagByEdges(3, 2).terminal(adjacency)).all()
    assert [set(g.edges) for g in DagBySinks(3, 2).decode(by_sinks)] == [{(0, 1), (2, 1)}]


@pytest.mark.parametrize("v", [30, 50])
def test_large_graphs_need_no_large_tables(v: int) -> None:
    space = DagBySinks(v, 2)
    assert space.n_sets == 1 + v + math.comb(v, 2)
    state = space.terminal(torch.ones(v, v).tril(-1).triu(-1).bool()[None])
    assert space.backward_mask(state).sum() == 1
    assert space.key(state).shape[1] == -(-(v + v * v) // 62)


@settings(max_examples=25)
@given(st.integers(2, 100), st.integers(1, 80), st.data())
def test_packed_keys_are_equal_exactly_where_the_digits_are(base: int, n: int, data: st.DataObject) -> None:
    rows = st.lists(st.integers(0, base - 1), min_size=n, max_size=n)
    a, b = data.draw(rows), data.draw(rows)
    packed = pack_digits(torch.tensor([a, b, a]), base)
    assert (packed[0] == packed[2]).all()
    assert (packed[0] == packed[1]).all() == (a == b)
    assert (packed >= 0).all()


def test_objects_are_decoded_to_their_natural_form() -> None:
    assert Hypergrid(2, 5).decode(Hypergrid(2, 5).terminal(torch.tensor([[4, 0]]))) == [(4, 0)]
    assert Multiset(3, 4).decode(Multiset(3, 4).terminal(torch.tensor([[2, 0, 2]]))) == [(2, 0, 2)]
    assert Sequence(3, 4).decode(Sequence(3, 4).terminal(torch.tensor([[3, 1, 0, 0]]))) == ["CA"]


IMPOSSIBLE = [
    ("dag-by-sinks", {"n_variables": 1, "max_parents": 1}),
    ("dag-by-edges", {"n_variables": 3, "max_parents": 3}),
    ("hypergrid", {"n_dimensions": 0, "side": 4}),
    ("hypergrid", {"n_dimensions": 2, "side": 1}),
    ("multiset", {"n_items": 1, "size": 4}),
    ("multiset", {"n_items": 3, "size": 0}),
    ("sequence", {"n_letters": 0, "max_length": 4}),
    ("sequence", {"n_letters": 63, "max_length": 4}),
    ("sequence", {"n_letters": 3, "max_length": 0}),
    ("sequence", {"sides": 3}),
    ("no-such-space", {"n_variables": 3}),
]


@pytest.mark.parametrize(("kind", "how"), IMPOSSIBLE)
def test_an_impossible_space_is_refused_at_once(kind: str, how: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        make_space(kind, **how)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["hypergrid", "multiset", "sequence"]).flatmap(
        lambda kind: st.tuples(st.just(kind), SETTINGS[kind])
    ),
    st.integers(0, 1000),
)
def test_rows_say_what_features_say(of: tuple[str, dict[str, int]], seed: int) -> None:
    """Along random trajectories: rows add up to the features, tell states apart, and take the space's own steps."""
    space: Any = make_space(of[0], **of[1])
    assert isinstance(space, InRows)
    generator, table = torch.Generator().manual_seed(seed), space.row_features()
    state = space.initial(16)
    while bool((acting := ~space.is_terminating(state)).any()):
        state = take(state, acting)
        rows, allowed = space.rows(state), space.forward_mask(state)
        assert torch.equal(table[rows].sum(1), space.features(state))
        assert len(torch.unique(rows, dim=0)) == len(torch.unique(space.key(state), dim=0))
        assert torch.equal(torch.from_numpy(space.allowed(rows.numpy()).copy()), allowed)
        action = torch.multinomial(allowed.float(), 1, generator=generator)[:, 0]
        stops = torch.zeros(len(action), dtype=torch.bool)
        if space.stop_action is not None:
            stops = action == space.stop_action
        after = rows.clone()
        after[~stops] = torch.from_numpy(space.after(rows[~stops].numpy(), action[~stops].numpy()))
        state = space.step(state, action)
        assert all(map(torch.equal, space.of_rows(after, stops), state))
        finished = torch.from_numpy(~space.allowed(after.numpy()).any(1)) | stops
        assert torch.equal(finished, space.is_terminating(state))

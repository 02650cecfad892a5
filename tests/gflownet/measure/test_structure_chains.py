"""Markov chains over DAGs find the edge probabilities that the enumeration of all DAGs gives, and say so themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epgfn.gflownet.measure import exact, graph_moves, structure_chains
from epgfn.gflownet.measure.structure_chains import EFFORTS, Chains, Thinned, annealed, lists_of, run
from epgfn.gflownet.spaces import DagBySinks
from epgfn.gflownet.spaces.parent_sets import parent_masks
from rules import as_set, drawn_rules, kept


def drawn_table(v: int, fan_in: int, spread: float, seed: int) -> Tensor:
    """(V, K) scores in nats at random, -inf where a variable would be its own parent."""
    space, generator = DagBySinks(v, fan_in), torch.Generator().manual_seed(seed)
    table = torch.randn(v, space.n_sets, dtype=torch.float64, generator=generator) * spread
    return table.masked_fill(space.parents.T, -torch.inf)


def edges_of(table: Tensor, fan_in: int) -> Tensor:
    return torch.as_tensor(exact.edge_marginals(table, parent_masks(len(table), fan_in)))


@pytest.mark.parametrize(("v", "fan_in", "spread"), [(4, 2, 2.0), (6, 3, 3.0), (7, 2, 8.0)])
def test_they_reach_the_posterior_from_the_empty_graph(v: int, fan_in: int, spread: float) -> None:
    table = drawn_table(v, fan_in, spread, seed=0)
    found = run(Chains(table, fan_in), seed=1, enough=0.0)
    error = (found.edges - edges_of(table, fan_in)).abs()
    assert float(error.max()) < 0.03 and float(error.mean()) < 0.007
    assert found.apart < 0.06 and found.apart_mean < 0.02
    assert float((found.graphs.double().mean(0) - edges_of(table, fan_in)).abs().max()) < 0.05


def test_modes_far_apart_are_weighed_as_they_are() -> None:
    """Two orders of four variables, what lies between them 40 nats below; one is the more probable."""
    fan_in = 3
    table = torch.full((4, 15), -40.0, dtype=torch.float64)
    masks = parent_masks(4, fan_in).tolist()
    for order, more in (((0, 1, 2, 3), float(np.log(2.0))), ((3, 2, 1, 0), 0.0)):
        for place, child in enumerate(order):
            row = masks.index(sum(1 << i for i in order[:place]))
            table[child, row] = max(float(table[child, row]), 0.0) + (more if place == 3 else 0.0)
    table = table.masked_fill(DagBySinks(4, fan_in).parents.T, -torch.inf)
    truth = edges_of(table, fan_in)
    assert sorted({round(6 * p) for p in truth.flatten().tolist()})[-1] < 6  # no mode has all of it
    found = run(Chains(table, fan_in), seed=1)
    assert float((found.edges - truth).abs().max()) < 0.1 + found.apart


@pytest.mark.parametrize(("v", "spread", "seed"), [(9, 8.0, 2), (8, 12.0, 2)])
def test_where_few_chains_do_not_agree_more_of_them_do(v: int, spread: float, seed: int) -> None:
    """And are right. As many graphs are handed on as by few."""
    table = drawn_table(v, 3, spread, seed)
    chains, few = Chains(table, 3), [np.random.default_rng([1, 2, number]) for number in range(4)]
    first = structure_chains._run(chains, 16, EFFORTS[0], few, 8, 0.02, 9.0, Thinned(1, 1))
    found = run(chains, seed=1, chains=16)
    assert first.apart > 0.1 >= found.apart
    assert float((found.edges - edges_of(table, 3)).abs().max()) < 0.05
    assert len(found.graphs) == len(first.graphs) and len(found.populations[0].rank) == 16


def test_where_an_edge_is_impossible_it_never_appears() -> None:
    table = drawn_table(5, 2, 2.0, seed=3)
    space = DagBySinks(5, 2)
    table[4] = table[4].masked_fill(space.parents[:, 0], -torch.inf)
    found = run(Chains(table, 2), seed=1, rounds=2)
    assert float(found.edges[0, 4]) == 0
    assert not bool(found.graphs[:, 0, 4].any())


def test_more_variables_than_a_word_has_bits() -> None:
    """70 variables in pairs: each pair is an edge of known odds, and no two pairs know of one another."""
    v = 70
    sets = [s for r in range(2) for s in itertools.combinations(range(v), r)]
    table = torch.full((v, len(sets)), -60.0, dtype=torch.float64)
    table[:, 0] = 0.0
    for i in range(0, v, 2):
        table[i + 1, sets.index((i,))] = float(np.log(2.0))
    found = run(Chains(table, 1), seed=1, populations=2, chains=16, rounds=2)
    pairs = found.edges[torch.arange(0, v, 2), torch.arange(1, v, 2)]
    assert float(found.edges.sum() - pairs.sum()) < 1e-6
    assert float((pairs - 2 / 3).abs().max()) < 0.1
    assert abs(float(pairs.mean()) - 2 / 3) < 0.02


def test_a_table_is_answered_once() -> None:
    table = drawn_table(5, 2, 2.0, seed=4)
    assert annealed(Chains(table, 2)) is annealed(Chains(table - 3.0, 2))
    assert annealed(Chains(table, 2)) is not annealed(Chains(drawn_table(5, 2, 2.0, seed=5), 2))
    assert len(structure_chains._remembered) <= structure_chains.REMEMBERED


def test_one_seed_gives_one_answer_and_the_graphs_are_acyclic() -> None:
    table = drawn_table(8, 3, 4.0, seed=6)
    one, other = (run(Chains(table, 3), seed=7, chains=8, rounds=1) for _ in range(2))
    assert torch.equal(one.edges, other.edges) and torch.equal(one.graphs, other.graphs)
    paths = one.graphs.double()
    for _ in range(3):  # (I + A)^8
        paths = ((paths + torch.eye(8)) @ (paths + torch.eye(8)) > 0).double() - torch.eye(8)
    assert not bool((paths.diagonal(dim1=1, dim2=2) > 0).any())
    assert int(one.graphs.sum(1).max()) <= 3


def test_lists_hold_each_set_once_best_first() -> None:
    table = drawn_table(6, 2, 2.0, seed=8)
    lists = lists_of(table, 2)
    assert lists.sets.shape == (6, 16, 1) and lists.holding.shape == (6, 6, 5)
    for child in range(6):
        assert len(set(lists.sets[child, :, 0].tolist())) == 16
        assert (np.diff(lists.log_scores[child]) <= 0).all() and lists.log_scores[child, 0] == 0
        for parent in set(range(6)) - {child}:
            held = lists.sets[child, lists.holding[child, parent], 0]
            assert ((held >> np.uint64(parent)) & np.uint64(1)).all()


@settings(max_examples=6, deadline=None)
@given(st.sampled_from([(4, 2), (5, 2)]), st.integers(0, 10_000))
def test_under_rules_they_reach_every_graph_that_keeps_them_and_no_other(
    size: tuple[int, int], seed: int
) -> None:
    """From the graph of required edges, whichever sets are barred; tables hold -inf there, lists are as short as they can be."""
    rules = drawn_rules(*size, seed)
    space = DagBySinks(*size, rules)
    table = drawn_table(*size, 1.5, seed).masked_fill(~space.admissible, -torch.inf)
    chains = Chains(table, size[1])
    assert chains.lists.sets.shape[1] <= int(space.admissible.sum(1).max()) + 1
    assert torch.equal(chains.graphs(chains.without_edges(1))[0], rules.required)
    found = run(chains, seed=1, enough=0.0, chains=32, populations=2, rounds=4)
    graphs = kept(rules, size[1])
    weight = torch.softmax(exact.log_scores(table, parent_masks(*size), graphs), 0)
    truth = torch.einsum("d,dij->ij", weight, graphs.double())
    assert float((found.edges - truth).abs().max()) < 0.08
    assert as_set(found.graphs) <= as_set(graphs)
    likely = graphs[weight > 0.02]
    assert as_set(likely) <= as_set(found.graphs)
    assert np.allclose(exact.edge_marginals(table, parent_masks(*size)), truth.numpy(), atol=1e-9)


@pytest.mark.parametrize(("spread", "shift"), [(0.5, 0.0), (6.0, 0.0), (6.0, 700.0)])
def test_parents_are_drawn_in_proportion_where_the_best_are_forbidden(spread: float, shift: float) -> None:
    """However few of all sets are allowed, and however far they lie below those that are not."""
    v, draws = 12, 4000
    table = drawn_table(v, 3, spread, seed=4)
    with_last = DagBySinks(v, 3).parents[:, v - 1]  # sets that hold it are the best by far, and forbidden
    table[0, with_last] += 40.0 + shift
    chains = Chains(table, 3)
    logs, sets = chains.lists.log_scores[0], chains.lists.sets[0]
    weights = np.exp(logs)
    tail, every = chains._tail, chains.lists
    graph_moves.tails(
        every.log_scores, np.exp(every.log_scores), every.holding, False, tail, chains._holding_tail
    )
    forbidden = np.array([1 << (v - 1) | 0b111], np.uint64)
    allowed = (sets & forbidden == 0).all(1) & np.isfinite(logs)
    truth = np.exp(np.where(allowed, logs - logs[allowed].max(), -np.inf))
    truth /= truth.sum()
    seen, sums, random = np.empty(len(logs), np.int64), np.empty(len(logs)), np.random.default_rng(1)
    found = [
        graph_moves.drawn(sets, logs, weights, tail[0], forbidden, seen, sums, random) for _ in range(draws)
    ]
    share = np.bincount(found, minlength=len(logs)) / draws
    assert share[~allowed].sum() == 0
    assert abs(share - truth).max() < 4.5 * np.sqrt(0.25 / draws)
    bins = np.minimum(np.arange(len(logs)) * 8 // len(logs), 7)
    assert abs(np.bincount(bins, share) - np.bincount(bins, truth)).max() < 4.5 * np.sqrt(0.25 / draws)
    none = np.array([(1 << v) - 1], np.uint64)
    only = graph_moves.drawn(sets, logs, weights, tail[0], none, seen, sums, random)
    assert sets[only].sum() == 0, "no parents at all"

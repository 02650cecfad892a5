"""DAGs edge by edge at the sizes people have: reachability, fan-in and the ways back up to 64 variables."""

from __future__ import annotations

import networkx as nx
import pytest
import torch

from epgfn.base.errors import UsageError
from epgfn.gflownet.spaces import make_space
from epgfn.gflownet.spaces.base import where
from epgfn.gflownet.spaces.dag_by_edges import DagByEdges, State, closure_of


def walk(space: DagByEdges, n: int, steps: int) -> list[State]:
    """Random walks that do not stop before they must."""
    generator, state = torch.Generator().manual_seed(0), space.initial(n)
    states: list[State] = [state]
    for _ in range(steps):
        weights = space.forward_mask(state).float()
        weights[:, -1] *= 1e-9
        stopped = space.is_terminating(state)
        weights[stopped] = 1.0
        action = torch.multinomial(weights, 1, generator=generator)[:, 0]
        state = where(~stopped, space.step(state, action), state)
        states.append(state)
    return states


@pytest.mark.parametrize(("v", "fan_in"), [(50, 3), (64, 2)])
def test_large_graphs_stay_acyclic_within_the_fan_in_and_full_ones_only_stop(v: int, fan_in: int) -> None:
    space = DagByEdges(v, fan_in)
    states = walk(space, 2, space.max_steps)
    for state in states[:: v // 2]:
        assert torch.equal(state.closure, closure_of(state.adjacency))
    last = states[-1]
    assert space.is_terminating(last).all()
    for graph in space.decode(last):
        assert nx.is_directed_acyclic_graph(graph)
        assert max(degree for _, degree in graph.in_degree()) <= fan_in
    # nothing but stopping was left: every variable is full or all that could be its parents are
    assert not space.forward_mask(last._replace(stopped=torch.zeros(2, dtype=torch.bool)))[:, :-1].any()


@pytest.mark.parametrize("v", [50, 64])
def test_one_edge_back_and_forward_again(v: int) -> None:
    space = DagByEdges(v, 3)
    state = walk(space, 3, 40)[-1]
    ways = space.backward_mask(state)
    assert ways.sum(1).tolist() == [40] * 3
    choice = torch.multinomial(ways.float(), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    back = space.step_back(state, choice)
    assert torch.equal(back.state.closure, closure_of(back.state.adjacency))
    assert space.forward_mask(back.state).gather(1, back.action[:, None]).all()
    again = space.step(back.state, back.action)
    assert torch.equal(again.adjacency, state.adjacency)
    assert torch.equal(again.closure, state.closure)


def test_exactly_the_edges_that_close_no_cycle_are_allowed() -> None:
    space = DagByEdges(7, 3)
    for state in walk(space, 4, 8):
        mask = space.forward_mask(state)[:, :-1].view(4, 7, 7)
        for b, graph in enumerate(space.decode(state)):
            for i in range(7):
                for j in range(7):
                    fits = i != j and not graph.has_edge(i, j) and graph.in_degree(j) < 3
                    grown = nx.DiGraph(graph)
                    grown.add_edge(i, j)
                    assert bool(mask[b, i, j]) == (fits and nx.is_directed_acyclic_graph(grown))


@pytest.mark.parametrize(("v", "fan_in", "says"), [(1, 1, "2 variables"), (5, 0, "fan-in"), (5, 5, "fan-in")])
def test_an_impossible_space_says_what_is_wrong(v: int, fan_in: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make_space("dag-by-edges", n_variables=v, max_parents=fan_in)

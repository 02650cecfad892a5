"""Compelled edges against the definition: those that all graphs with the same skeleton and v-structures share."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from epgfn.gflownet.measure.equivalence import compelled_edges, compelled_given_edge
from epgfn.gflownet.measure.exact import enumerate_dags


def class_of(graph: Tensor) -> bytes:
    """Skeleton and v-structures, written out."""
    v, edges = len(graph), graph.tolist()
    skeleton = {frozenset((i, j)) for i in range(v) for j in range(v) if edges[i][j]}
    colliders = {
        (frozenset((i, j)), k)
        for k in range(v)
        for i, j in itertools.combinations(range(v), 2)
        if edges[i][k] and edges[j][k] and frozenset((i, j)) not in skeleton
    }
    return repr(
        (
            sorted(map(sorted, skeleton)),
            sorted((sorted(pair), k) for pair, k in colliders),
        )
    ).encode()


@pytest.mark.parametrize("v", [3, 4])
def test_compelled_is_what_all_equivalent_graphs_share(v: int) -> None:
    graphs = enumerate_dags(v)
    classes: dict[bytes, list[int]] = {}
    for n, graph in enumerate(graphs):
        classes.setdefault(class_of(graph), []).append(n)
    assert len(classes) == {3: 11, 4: 185}[v]
    found = compelled_edges(graphs)
    for members in classes.values():
        shared = graphs[members].all(0)
        assert bool((found[members] == shared).all())


def test_how_often_an_edge_that_is_there_is_compelled() -> None:
    """A collider, one of the two chains that share no direction, and a graph that counts for nothing."""
    graphs = torch.zeros(3, 3, 3, dtype=torch.bool)
    graphs[0, 0, 2] = graphs[0, 1, 2] = graphs[1, 0, 1] = graphs[1, 1, 2] = graphs[2, 2, 0] = True
    found = compelled_given_edge(graphs, torch.tensor([1.0, 3.0, 0.0]))
    assert found.tolist() == [[0, 0, 1], [0, 0, 0.25], [0, 0, 0]]


def test_rule_three_by_hand() -> None:
    """0 - 1, 0 - 2, 0 - 3, with 1 => 3 <= 2: then 0 => 3, although 0 - 1 and 0 - 2 stay open."""
    graph = torch.zeros(1, 4, 4, dtype=torch.bool)
    for i, j in ((0, 1), (0, 2), (0, 3), (1, 3), (2, 3)):
        graph[0, i, j] = True
    assert compelled_edges(graph)[0].nonzero().tolist() == [[0, 3], [1, 3], [2, 3]]

"""What graphs say beyond edges, against networkx, graph by graph."""

from __future__ import annotations

import itertools

import networkx as nx
import torch

from epgfn.gflownet.measure.equivalence import compelled_edges
from epgfn.gflownet.measure.exact import enumerate_dags
from epgfn.gflownet.measure.graph_relations import (
    adjacent,
    ancestors,
    blankets,
    classes,
    collides,
    distinct,
    reaches,
)

GRAPHS = enumerate_dags(4)


def written_out(graph: torch.Tensor) -> nx.DiGraph:
    found = nx.DiGraph()
    found.add_nodes_from(range(len(graph)))
    found.add_edges_from(map(tuple, graph.nonzero().tolist()))
    return found


def test_every_graph_of_four_variables() -> None:
    below, near, colliding = ancestors(GRAPHS), blankets(GRAPHS), collides(GRAPHS, 0, 1, 2)
    avoiding = reaches(GRAPHS, 0, 3, [1])
    for number, graph in enumerate(GRAPHS):
        known = written_out(graph)
        for i, j in itertools.product(range(4), repeat=2):
            assert bool(below[number, i, j]) == (i in nx.ancestors(known, j))
            spouses = {p for child in known.successors(j) for p in known.predecessors(child)} - {j}
            of_j = {*known.predecessors(j), *known.successors(j), *spouses}
            assert bool(near[number, i, j]) == (i in of_j)
        edges = set(known.edges)
        is_collider = {(0, 1), (2, 1)} <= edges and not {(0, 2), (2, 0)} & edges
        assert bool(colliding[number]) == is_collider
        known.remove_node(1)
        assert bool(avoiding[number]) == nx.has_path(known, 0, 3)


def test_classes_are_as_many_as_are_known() -> None:
    """185 of four variables (Gillispie & Perlman, UAI 2001); adjacency is kept, and what is compelled is directed."""
    found = classes(GRAPHS)
    assert len(distinct(found).graphs) == 185
    assert bool((adjacent(found) == adjacent(GRAPHS)).all())
    assert bool((compelled_edges(GRAPHS) == (found & ~found.mT)).all())


def test_those_drawn_most_come_first() -> None:
    rows = torch.tensor([7, 3, 7, 7, 3, 100])
    found = distinct(GRAPHS[rows])
    assert found.share.tolist() == [0.5, 2 / 6, 1 / 6]
    assert bool((found.graphs == GRAPHS[torch.tensor([7, 3, 100])]).all())

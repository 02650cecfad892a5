"""What graphs say beyond single edges, as pure functions of (B, V, V) bool adjacency, [b, i, j] = i -> j.

Every relation is (B,) or (B, V, V) bool, so that its mean over graphs drawn from a posterior is how probable it is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.measure.equivalence import compelled_edges


def adjacent(graphs: Tensor) -> Tensor:
    """(B, V, V) bool: an edge between i and j, whichever way."""
    return graphs | graphs.mT


def ancestors(graphs: Tensor) -> Tensor:
    """(B, V, V) bool [i, j]: a directed path of one edge or more leads from i to j."""
    found = graphs
    while True:
        more = found | _any(found, found)
        if bool((more == found).all()):
            return found
        found = more


def blankets(graphs: Tensor) -> Tensor:
    """(B, V, V) bool [i, j]: i is in the Markov blanket of j, being its parent, its child, or another parent of a child of it."""
    other = ~torch.eye(graphs.shape[1], dtype=torch.bool, device=graphs.device)
    return (adjacent(graphs) | _any(graphs, graphs.mT)) & other


def reaches(graphs: Tensor, start: int, end: int, avoiding: list[int]) -> Tensor:
    """(B,) bool: a directed path leads from `start` to `end` through none of `avoiding`."""
    kept = torch.ones(graphs.shape[1], dtype=torch.bool, device=graphs.device)
    kept[avoiding] = False
    return ancestors(graphs & kept & kept[:, None])[:, start, end]


def collides(graphs: Tensor, one: int, middle: int, other: int) -> Tensor:
    """(B,) bool: one -> middle <- other is a v-structure, `one` and `other` not being adjacent."""
    return graphs[:, one, middle] & graphs[:, other, middle] & ~adjacent(graphs)[:, one, other]


class Distinct(NamedTuple):
    """Of n graphs the M different ones, (M, V, V) bool, most frequent first, and the `share` (M,) float64 that each has."""

    graphs: Tensor
    share: Tensor


def distinct(graphs: Tensor) -> Distinct:
    """Graphs that are drawn more than once are counted together."""
    different, count = torch.unique(graphs.flatten(1).to(torch.uint8), dim=0, return_counts=True)
    order = count.argsort(descending=True, stable=True)
    v = graphs.shape[1]
    return Distinct(different[order].view(-1, v, v).bool(), count[order].double() / len(graphs))


def classes(graphs: Tensor) -> Tensor:
    """(B, V, V) bool: the completed partially directed graph (CPDAG) of each one's Markov equivalence class, [i, j] and [j, i] both where
    the direction cannot be told from observation (Verma & Pearl, UAI 1990; Chickering, JMLR 2 (2002))."""
    compelled = compelled_edges(graphs)
    return compelled | (adjacent(graphs) & ~adjacent(compelled))


def _any(one: Tensor, other: Tensor) -> Tensor:
    """The boolean matrix product."""
    return (one.float() @ other.float()) > 0

"""Which directions of a graph's edges can be told from observation: Markov equivalence.

Graphs with the same skeleton and the same v-structures (i -> k <- j, i and j not adjacent) imply the same independences (Verma & Pearl,
UAI 1990). An edge that all graphs of a class direct alike is *compelled*; the others are *reversible*, and no amount of records
says which way they go.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 512
"""Graphs worked on at once; bounds memory."""


def compelled_edges(adjacency: Tensor) -> Tensor:
    """Of B directed acyclic graphs (B, V, V) bool, [b, i, j] = i -> j, the edges that every equivalent graph has too: (B, V, V) bool.

    Edges of v-structures, and what follows from them by Meek's rules 1 to 3 (UAI 1995), which are complete without background
    knowledge.
    """
    return torch.cat([_compelled(block) for block in torch.split(adjacency.bool(), BLOCK)])


def compelled_given_edge(adjacency: Tensor, weight: Tensor) -> Tensor:
    """(V, V) float64 [i, j]: of the `weight` (B,) of the graphs (B, V, V) that have i -> j, the share in which it is compelled; 0 where
    no graph has it.

    Times P(i -> j) that is P(i -> j is there and compelled), which never exceeds it, whatever chance did to the graphs at hand.
    """
    weight = weight.double()
    there = torch.einsum("b,bij->ij", weight, adjacency.double())
    told = torch.einsum("b,bij->ij", weight, compelled_edges(adjacency).double())
    return torch.where(there > 0, told / there.clamp_min(torch.finfo(torch.float64).tiny), 0.0).clamp(0, 1)


def _compelled(edges: Tensor) -> Tensor:
    apart = ~(edges | edges.mT) & ~torch.eye(edges.shape[1], dtype=torch.bool)
    found = edges & _any(apart, edges)  # (i, k): some j -> k that i is not adjacent to
    while True:
        told = (
            found
            | (edges & _any(found.mT, apart))  # i => j - k, i and k apart: else a v-structure more
            | (edges & _any(found, found))  # i => j => k, i - k: else a cycle
            | (edges & _from_two(edges, found, apart))
        )
        if bool((told == found).all()):
            return found
        found = told


def _from_two(edges: Tensor, found: Tensor, apart: Tensor) -> Tensor:
    """Rule 3, (i, k): i - j => k and i - l => k, j and l apart, i - j and i - l undirected."""
    open_ = (edges & ~found) | (edges & ~found).mT
    out = torch.zeros_like(edges)
    for k in range(edges.shape[1]):
        between = open_ & found[:, None, :, k]  # (B, i, j)
        out[:, :, k] = (_any(between, apart) & between).any(2)
    return out


def _any(a: Tensor, b: Tensor) -> Tensor:
    """(B, i, k): whether some j has a[i, j] and b[j, k]."""
    return torch.bmm(a.float(), b.float()) > 0

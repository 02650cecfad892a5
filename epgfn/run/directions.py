"""Which directions of edges a run's samples agree on whatever the data: how probable it is that an edge is compelled.

Graphs of one Markov equivalence class imply the same independences, so records alone cannot tell i -> j from j -> i where the class has
both. That i and j are adjacent, and that i -> j is compelled, are what records can tell.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from epgfn.gflownet.measure.equivalence import compelled_edges
from epgfn.run.samples import adjacency
from epgfn.study import Study

Array = npt.NDArray[np.float64]


def compelled_probabilities(counts: Mapping[str, int], study: Study) -> Array:
    """(V, V) float64 [i, j] = share of the graphs in `counts`, texts of samples and how often each stands there, in which i -> j is
    compelled.

    Raises:
        ValueError: a text is no graph of the study.
    """
    graphs = adjacency(list(counts), study.variable_names, study.space.max_parents)
    weight = torch.tensor([float(count) for count in counts.values()], dtype=torch.float64)
    shares = torch.einsum("b,bij->ij", weight / weight.sum(), compelled_edges(graphs).double())
    return np.asarray(shares.numpy())


def adjacent_probabilities(edges: Array) -> Array:
    """(V, V) symmetric P(i and j are adjacent) from (V, V) P(i -> j): a graph has at most one of the two directions."""
    return np.minimum(edges + edges.T, 1.0)

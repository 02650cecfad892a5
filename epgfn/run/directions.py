"""Which directions of edges a run's graphs agree on whatever the data: how probable it is that an edge is compelled.

Graphs of one Markov equivalence class imply the same independences, so records alone cannot tell i -> j from j -> i where the class has
both. That i and j are adjacent, and that i -> j is compelled, are what records can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from epgfn.gflownet.measure.equivalence import compelled_given_edge
from epgfn.run.samples import adjacency
from epgfn.run.summary import COMPELLED
from epgfn.study import Study

Array = npt.NDArray[np.float64]


def compelled_probabilities(
    summary: Mapping[str, Any], counts: Mapping[str, int], edges: Array, study: Study
) -> Array | None:
    """(V, V) float64 [i, j] = P(i -> j is there and compelled), as the `summary` has it; where it says nothing of that, by the graphs in
    `counts`, texts of samples and how often each stands there: how often `edges` (V, V), the published probabilities, are compelled
    there. None where there is neither.

    Raises:
        ValueError: a text is no graph of the study.
    """
    if COMPELLED in summary:
        return np.asarray(summary[COMPELLED], dtype=np.float64)
    if not counts:
        return None
    graphs = adjacency(list(counts), study.variable_names, study.space.max_parents)
    weight = torch.tensor(list(counts.values()), dtype=torch.float64)
    return np.asarray(edges * compelled_given_edge(graphs, weight).numpy())


def adjacent_probabilities(edges: Array) -> Array:
    """(V, V) symmetric P(i and j are adjacent) from (V, V) P(i -> j): a graph has at most one of the two directions."""
    return np.minimum(edges + edges.T, 1.0)

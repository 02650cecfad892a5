"""Which directions of edges a run's samples agree on whatever the data: how probable it is that an edge is compelled.

Graphs of one Markov equivalence class imply the same independences, so records alone cannot tell i -> j from j -> i where the class has
both. That i and j are adjacent, and that i -> j is compelled, are what records can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from epgfn.gflownet.measure.equivalence import compelled_edges

Array = npt.NDArray[np.float64]


def compelled_probabilities(samples: Path, names: Sequence[str]) -> Array | None:
    """(V, V) float64 [i, j] = share of the graphs in the Parquet file `samples` in which i -> j is compelled; None where the file is
    missing, or holds no graphs over `names`."""
    try:
        column = pq.read_table(samples, columns=["edges"]).column(0).cast(pa.string())
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return None
    counted = pc.value_counts(column).to_pylist()
    at = {name: k for k, name in enumerate(names)}
    graphs = torch.zeros(len(counted), len(at), len(at), dtype=torch.bool)
    try:
        for graph, row in zip(graphs, counted, strict=True):
            for edge in filter(None, str(row["values"]).split(";")):
                parent, child = edge.split("->")
                graph[at[parent], at[child]] = True
    except (KeyError, ValueError):
        return None
    if not counted:
        return None
    weight = torch.tensor([float(row["counts"]) for row in counted], dtype=torch.float64)
    shares = torch.einsum("b,bij->ij", weight / weight.sum(), compelled_edges(graphs).double())
    return np.asarray(shares.numpy())


def adjacent_probabilities(edges: Array) -> Array:
    """(V, V) symmetric P(i and j are adjacent) from (V, V) P(i -> j): a graph has at most one of the two directions."""
    return np.minimum(edges + edges.T, 1.0)

"""samples.parquet, the objects that a coordinator drew from a model: read from bytes that were verified, and whether each is possible."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

LOG_PROB = "log_prob"


def counted(raw: bytes, column: str) -> dict[str, int]:
    """How often each object's text stands in the column `column` of a Parquet file, beside finite numbers `log_prob` and nothing else.

    Raises:
        ValueError: it is of another form, or empty.
    """
    try:
        table = pq.read_table(io.BytesIO(raw))
        if table.column_names != [column, LOG_PROB] or not len(table):
            raise ValueError("other columns, or no rows")
        texts = table.column(0).cast(pa.string())
        numbers = table.column(1).cast(pa.float64())
        if texts.null_count or numbers.null_count or not pc.all(pc.is_finite(numbers)).as_py():
            raise ValueError("something is missing")
        return {str(row["values"]): int(row["counts"]) for row in pc.value_counts(texts).to_pylist()}
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError("no table") from error


def adjacency(texts: Sequence[str], names: Sequence[str], max_parents: int) -> Tensor:
    """(B, V, V) bool, [k, i, j] = graph k has the edge i -> j, of texts such as "a->b;c->b" over the variables `names`.

    Raises:
        ValueError: a text is not written as samples are, or its graph has a cycle or more than `max_parents` parents of a variable.
    """
    at = {name: k for k, name in enumerate(names)}
    graphs = torch.zeros(len(texts), len(at), len(at), dtype=torch.bool)
    for graph, text in zip(graphs, texts, strict=True):
        edges = [edge.split("->") for edge in text.split(";")] if text else []
        if not all(len(edge) == 2 and edge[0] in at and edge[1] in at for edge in edges):
            raise ValueError("an edge is not one between two of the variables")
        pairs = [(at[parent], at[child]) for parent, child in edges]
        if len(set(pairs)) < len(pairs):
            raise ValueError("an edge is listed twice")
        for i, j in pairs:
            graph[i, j] = True
    if bool((graphs.sum(1) > max_parents).any()):
        raise ValueError("more parents than the study allows")
    if not bool(_acyclic(graphs).all()):
        raise ValueError("a graph has a cycle")
    return graphs


def _acyclic(graphs: Tensor) -> Tensor:
    """(B,) bool: variables without parents are taken away until none is left, or none can be."""
    left = torch.ones(graphs.shape[:2], dtype=torch.bool)
    for _ in range(graphs.shape[1]):
        has_parent = (graphs & left[:, :, None]).any(1)
        left &= has_parent
    return ~left.any(1)

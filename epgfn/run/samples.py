"""samples.parquet, the objects that a coordinator drew from a model: read from bytes that were verified, and whether each is possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from epgfn.learn.samples import Samples
from epgfn.run.parquet_footer import SNAPPY, UNCOMPRESSED, codecs
from epgfn.study import Study
from epgfn.study.objects import space_of

LOG_PROB = "log_prob"


def counted(raw: bytes, column: str, rows: int | None = None) -> dict[str, int]:
    """How often each object's text stands in the column `column` of a Parquet file, beside finite numbers `log_prob` and nothing else.

    A text that stands there often is held once, and only pages that are not compressed, or as pandas does it, are read: there no byte
    becomes more than some twenty. `rows`: how many there have to be.

    Raises:
        ValueError: it is of another form, or empty, or of another number of rows.
    """
    try:
        texts, _ = _columns(raw, column, rows)
        counts: dict[str, int] = {}
        for chunk in texts.chunks:
            if not isinstance(chunk, pa.DictionaryArray):
                chunk = chunk.dictionary_encode()
            known = chunk.dictionary.cast(pa.string()).to_pylist()
            for row in pc.value_counts(chunk.indices).to_pylist():
                text = known[row["values"]]
                counts[text] = counts.get(text, 0) + int(row["counts"])
        return counts
    except (pa.ArrowException, OSError, KeyError, IndexError, OverflowError) as error:
        raise ValueError("no table") from error


def published(raw: bytes, study: Study) -> Samples:
    """The samples in the bytes of a Parquet file; of graphs with their states.

    Raises:
        ValueError: it is of another form, or a text is no graph of the study.
    """
    column = study.kind.column
    try:
        texts, numbers = _columns(raw, column, None)
        objects = [str(text) for text in texts.cast(pa.string()).to_pylist()]
        log_prob = numbers.to_numpy()
    except (pa.ArrowException, OSError, KeyError, IndexError, OverflowError) as error:
        raise ValueError("no table") from error
    state: Any = None
    if study.kind.has_edges:
        different = {text: number for number, text in enumerate(dict.fromkeys(objects))}
        graphs = adjacency(list(different), study.variable_names, study.space.max_parents)
        state = space_of(study).terminal(graphs[torch.tensor([different[text] for text in objects])])
    return Samples(objects, log_prob, state, column)


def _columns(raw: bytes, column: str, rows: int | None) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Texts and finite numbers, as `counted` wants them."""
    if not codecs(raw) <= {UNCOMPRESSED, SNAPPY}:
        raise ValueError("compressed in a way that samples are not")
    file = pq.ParquetFile(pa.BufferReader(raw), read_dictionary=[column], pre_buffer=False)
    found = file.metadata.num_rows
    if file.schema_arrow.names != [column, LOG_PROB] or not found:
        raise ValueError("other columns, or no rows")
    if rows is not None and found != rows:
        raise ValueError(f"{found} samples; the study asks for {rows}")
    # A thread that is still about when the process ends may end it with a crash.
    table = file.read(use_threads=False)
    texts, numbers = table.column(0), table.column(1).cast(pa.float64())
    if texts.null_count or numbers.null_count or not pc.all(pc.is_finite(numbers)).as_py():
        raise ValueError("something is missing")
    return texts, numbers


def adjacency(texts: Sequence[str], names: Sequence[str], max_parents: int) -> Tensor:
    """(B, V, V) bool, [k, i, j] = graph k has the edge i -> j, of texts such as "a->b;c->b" over the variables `names`.

    Raises:
        ValueError: a text is not written as samples are, or its graph has a cycle or more than `max_parents` parents of a variable.
    """
    at = {name: k for k, name in enumerate(names)}
    graphs = torch.zeros(len(texts), len(at), len(at), dtype=torch.bool)
    for graph, text in zip(graphs, texts, strict=True):
        if text.count(";") >= len(at) ** 2:
            raise ValueError(
                "an edge is listed twice"
            )  # there are not so many; the rest need not be looked at
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

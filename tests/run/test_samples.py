"""samples.parquet: read as what it is, or refused."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pandas as pd
import pytest

from epgfn.run.samples import adjacency, counted


def parquet(**columns: Sequence[object]) -> bytes:
    table = io.BytesIO()
    pd.DataFrame(columns).to_parquet(table, index=False)
    return table.getvalue()


def test_objects_are_counted() -> None:
    raw = parquet(edges=["a->b", "", "a->b"], log_prob=[-0.5, -1.0, -0.5])
    assert counted(raw, "edges") == {"a->b": 2, "": 1}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"PAR1 damaged",
        parquet(edges=["a->b"]),
        parquet(log_prob=[0.0], edges=["a->b"]),
        parquet(edges=["a->b"], log_prob=[float("nan")]),
        parquet(edges=["a->b"], log_prob=[None]),
        parquet(edges=[None, "a->b"], log_prob=[0.0, 0.0]),
        parquet(edges=["a->b"], log_prob=["text"]),
        parquet(edges=["a->b"], log_prob=[0.0], more=[1]),
        parquet(edges=[], log_prob=[]),
    ],
)
def test_anything_else_is_no_table_of_samples(raw: bytes) -> None:
    with pytest.raises(ValueError):
        counted(raw, "edges")


def test_graphs_are_what_their_text_says() -> None:
    graphs = adjacency(["", "a->b;c->b"], ["a", "b", "c"], 2)
    assert graphs.nonzero().tolist() == [[1, 0, 1], [1, 2, 1]]


@pytest.mark.parametrize(
    "text",
    ["a->b;b->a", "a->b;b->c;c->a", "a->a", "a->b;c->b;d->b", "a->z", "a", "a->b;", "a->b->c", "a->b;a->b"],
)
def test_what_no_model_of_the_study_samples_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        adjacency(["", text], ["a", "b", "c", "d"], 2)

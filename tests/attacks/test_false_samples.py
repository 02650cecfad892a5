"""Promise: the samples that lie beside a model are its samples. The coordinator signs garbage, other objects, or a file that swells."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attacks import closing, refusal


def signed(root: Path, samples: bytes) -> tuple[str, str]:
    """What the audit says where the coordinator signs these."""
    run = closing(root)
    run.samples = samples
    run.close()
    return refusal(run.finish())


def table(edges: list[str], compression: str = "snappy", times: int = 1) -> bytes:
    """Samples in a file that has each text once, however often it stands there."""
    raw = io.BytesIO()
    indices = pa.array([place for place in range(len(edges)) for _ in range(times)], pa.int32())
    texts = pa.DictionaryArray.from_arrays(indices, pa.array(edges, pa.string()))
    rows = pa.table({"edges": texts, "log_prob": [0.0] * len(indices)})
    pq.write_table(rows, raw, compression=compression)
    return raw.getvalue()


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        (b"garbage", "no table"),
        (table(["a->b"] * 199), "199 samples; the study asks for 200"),
        (table(["a->b;b->a"] * 200), "a graph has a cycle"),
        (table(["a->mars"] * 200), "not one between two of the variables"),
        (table(["a->b;b->c"] * 200), "does not say what the signed model says"),
        (table(["a->b;a->b"] * 200), "an edge is listed twice"),
        (table(["a->b"] * 200, "gzip"), "compressed in a way that samples are not"),
    ],
    ids=["garbage", "too few", "cycle", "another variable", "another model", "twice", "compressed"],
)
def test_samples_that_the_model_does_not_give_are_refused_though_signed(
    tmp_path: Path, samples: bytes, why: str
) -> None:
    check, said = signed(tmp_path / "run", samples)
    assert check == "global" and "global/samples.parquet" in said and why in said


def test_samples_that_are_swapped_afterwards_are_refused(copy: Path) -> None:
    path = copy / "global/samples.parquet"
    pd.read_parquet(path).iloc[::-1].to_parquet(path, index=False)
    check, said = refusal(copy)
    assert check == "global"
    assert said.startswith("global/samples.parquet is not the file that the coordinator signed")


def test_one_long_text_in_every_row_is_held_once(tmp_path: Path) -> None:
    """10 MiB of text, 200 times, from a file of half a megabyte: refused as no graph of the study, without two gigabytes of it."""
    raw = table(["a->b;" * (2 << 20)], times=200)
    assert len(raw) < 1 << 20
    check, said = signed(tmp_path / "run", raw)
    assert check == "global" and "an edge is listed twice" in said
    most = pa.default_memory_pool().max_memory()  # of the whole process
    assert most is None or most < 512 << 20

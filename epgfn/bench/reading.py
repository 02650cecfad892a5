"""`epgfn bench reading`: a file of numbers, read and checked for a study, beside pandas reading it unchecked, in turns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from epgfn.base.errors import UsageError
from epgfn.study.records.tables import load_records
from epgfn.study.study import Study


def reading(*, rows: int = 100_000, columns: int = 11, rounds: int = 5, seed: int = 0) -> dict[str, Any]:
    """CPU-seconds for a CSV file of `rows` × `columns` log-normal numbers of full precision.

    Returns:
        `rows`, `columns`, `bytes`; `epgfn_cpu_s` and `pandas_cpu_s`, medians of `rounds` turns after one that
        is not counted; `ratio`, of both.

    Raises:
        UsageError: a size below 1.
    """
    if min(rows, columns, rounds) < 1:
        raise UsageError("rows, columns and rounds are 1 or more")
    names = [f"v{number}" for number in range(columns)]
    study = Study.model_validate(
        {
            "name": "reading",
            "roster": ["a"],
            "space": {"kind": "dag-by-sinks", "max_parents": 1},
            "variables": [{"name": name, "centre": 0.0, "scale": 1.0} for name in names],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "numbers.csv"
        values = np.exp(np.random.default_rng(seed).normal(size=(rows, columns)))
        pd.DataFrame(values, columns=names).to_csv(path, index=False)
        ways: Sequence[Callable[[], object]] = (lambda: load_records(path, study), lambda: pd.read_csv(path))
        spent = [[_cpu_seconds(way) for way in ways] for _ in range(rounds + 1)][1:]
        ours, theirs = (median(turns) for turns in zip(*spent, strict=True))
        size = path.stat().st_size
    return {
        "rows": rows,
        "columns": columns,
        "bytes": size,
        "epgfn_cpu_s": ours,
        "pandas_cpu_s": theirs,
        "ratio": ours / theirs,
    }


def _cpu_seconds(way: Callable[[], object]) -> float:
    started = time.process_time()
    way()
    return time.process_time() - started

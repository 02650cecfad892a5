"""What a run found about objects other than graphs: marginals, the most probable objects, and the comparison if there is one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from epgfn.run.comparison.objects import TOP, Marginals, ObjectComparison, TopObject, read_marginals
from epgfn.run.layout import RunLayout
from epgfn.study import Study


@dataclass(frozen=True)
class Found:
    """`top`: most probable objects; their exact probabilities are NaN where nobody knows them. `sampled`: among how many samples
    `top` was counted, 0 where all objects were listed."""

    marginals: Marginals
    top: list[TopObject]
    sampled: int = 0
    comparison: ObjectComparison | None = None


def read_found(
    run_dir: Path, study: Study, summary: Mapping[str, Any], comparison: ObjectComparison | None
) -> Found | None:
    """From a summary and the samples beside it; None for a study of graphs.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: the summary is not of the form that the coordinator writes.
    """
    if study.kind.has_edges:
        return None
    marginals = read_marginals(summary["marginals"])
    if not marginals:
        raise ValueError("no marginals")
    if comparison is None and summary.get("comparison") is not None:
        comparison = ObjectComparison.from_json(summary["comparison"])
    if comparison is not None and comparison.top:
        return Found(comparison.global_marginals, comparison.top, comparison=comparison)
    top, sampled = most_frequent(RunLayout(run_dir).samples)
    return Found(marginals, top, sampled, comparison)


def most_frequent(path: Path, count: int = TOP) -> tuple[list[TopObject], int]:
    """The objects that most samples in the Parquet file at `path` show, with their shares, and how many samples there are;
    nothing where the file is missing or damaged."""
    try:
        column = pq.read_table(path, columns=["object"]).column(0).cast(pa.string())
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return [], 0
    pairs = [(str(row["values"]), int(row["counts"])) for row in pc.value_counts(column).to_pylist()]
    pairs.sort(key=lambda pair: (-pair[1], pair[0]))
    return [TopObject(text, n / len(column), math.nan) for text, n in pairs[:count]], len(column)

"""Parquet: the run's table of probabilities, with the study's name and digest in the file's metadata."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from epgfn.run.exports.options import Options

if TYPE_CHECKING:
    from epgfn.run.result import RunResult


def parquet(run: RunResult, options: Options) -> bytes:
    """`RunResult.table`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(run.table, preserve_index=False)
    told = {"epgfn.study": run.study.name, "epgfn.study_digest": run.study.digest}
    if run.caveat:
        told["epgfn.caveat"] = run.caveat
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({**(table.schema.metadata or {}), **told}), sink)
    return sink.getvalue()

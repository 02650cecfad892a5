"""CSV: the run's table of probabilities, as any spreadsheet and R read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epgfn.base.spreadsheets import csv_bytes
from epgfn.run.exports.options import Options

if TYPE_CHECKING:
    from epgfn.run.result import RunResult


def csv(run: RunResult, options: Options) -> bytes:
    """`RunResult.table`, in UTF-8 with a header line; numbers with every digit."""
    return csv_bytes(list(run.table.columns), run.table.itertuples(index=False, name=None))

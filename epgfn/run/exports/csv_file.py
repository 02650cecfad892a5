"""CSV: the run's table of probabilities, as any spreadsheet and R read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epgfn.run.exports.options import Options

if TYPE_CHECKING:
    from epgfn.run.result import RunResult


def csv(run: RunResult, options: Options) -> bytes:
    """`RunResult.table`, in UTF-8 with a header line; numbers with every digit."""
    text: str = run.table.to_csv(index=False, lineterminator="\n")
    return text.encode("utf-8")

"""A Parquet file of records. In it a place is a row, the first record being 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epgfn.base.errors import UsageError
from epgfn.study import Study
from epgfn.study.missing import WITH_BLANKS
from epgfn.study.records.csv_file import (
    allowed,
    names_of,
    not_a_table,
    parse_cells,
    public_value,
    read_of,
    require_readable,
    scored,
    table_of,
)
from epgfn.study.records.faults import Faults
from epgfn.study.records.names import check_extra, match_columns
from epgfn.study.records.table import Floats, Numbers, Table
from epgfn.study.variables import Variable

MAGIC = b"PAR1"


def read_parquet(raw: bytes, path: Path, study: Study) -> Table:
    """The column of each variable of the study.

    Raises:
        UsageError: it is no such file; the sentence says what is wrong and where.
    """
    variables = read_of(study)
    try:
        file = pq.ParquetFile(pa.BufferReader(raw))
        order, extra = match_columns(list(file.schema_arrow.names), names_of(study), path)
        table = file.read(
            use_threads=False
        )  # one that is still about when the process ends may end it with a crash
    except (pa.ArrowException, OSError):
        raise not_a_table(path) from None
    notes = check_extra(extra, study.data.extra_columns == "refuse", path)
    faults, rows = Faults(path, "row"), range(1, table.num_rows + 1)
    columns: list[Numbers] = []
    for number, (at, variable) in enumerate(zip(order, variables, strict=False)):
        column = table.column(at)
        columns.append(
            _numbers(column, variable, faults, study.data.missing in WITH_BLANKS)
            if variable.categories is None
            else scored(
                parse_cells(
                    _texts(column, variable.name, path), variable, rows, faults, ".", *allowed(study, number)
                ),
                variable,
            )
        )
    doubts = require_readable(faults, study, table.num_rows)
    names = names_of(study)[len(variables) :]
    whose = [
        pa.array(_written(table.column(at), name, path), pa.string())
        for at, name in zip(order[len(variables) :], names, strict=True)
    ]
    return table_of(columns, notes, "row", lambda: rows, study, doubts, faults.unread(), whose)


def _numbers(column: pa.ChunkedArray, variable: Variable, faults: Faults, blanks: bool) -> Floats:
    """A column as (n,) float64; what is null or not finite goes to `faults`, and is the variable's `public_value`; where there may be
    `blanks` nulls are NaN.

    Raises:
        UsageError: it holds something else.
    """
    kind, name = column.type, variable.name
    if len(column) and column.null_count == len(column):
        faults.empty(name)
        return np.zeros(len(column))
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise UsageError(
            f"{faults.path}: column '{name}' does not hold numbers; store it as integers or floating-point numbers"
        )
    missing = np.asarray(column.is_null().to_numpy(), dtype=bool)
    if column.null_count:
        if not blanks:
            faults.cells(name, (np.flatnonzero(missing) + 1).tolist(), "blank")
        column = column.fill_null(0)
    try:
        values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    except pa.ArrowException:
        raise UsageError(
            f"{faults.path}: column '{name}' cannot be read as numbers; store it as floating-point numbers"
        ) from None
    infinite = ~np.isfinite(values)
    faults.cells(name, (np.flatnonzero(infinite) + 1).tolist(), "finite")
    read = np.where(missing | infinite, public_value(variable), values)
    return np.where(missing, np.nan, read) if blanks else read


def _written(column: pa.ChunkedArray, name: str, path: Path) -> list[str]:
    """Whatever it holds as text, nulls as blanks.

    Raises:
        UsageError: it holds what is no text, or no date, in Python.
    """
    try:
        return ["" if value is None else str(value) for value in column.to_pylist()]
    except (ValueError, OverflowError, pa.ArrowException):  # its text quotes cells
        raise UsageError(
            f"{path}: column '{name}' cannot be read as text; store it as text in UTF-8 or as integers"
        ) from None


def _texts(column: pa.ChunkedArray, name: str, path: Path) -> list[str]:
    """A column of categories as text; nulls become blanks, which are refused."""
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        raise UsageError(f"{path}: column '{name}' holds numbers; store its categories as text or integers")
    return _written(column, name, path)

"""One institution's records: read a table against the study's variables and put them on the study's public scale.

x = (transform(raw / transform_scale) - centre) / scale, all constants from the study, never from the data. Categories become their
places in the study's list, and an alignment (FASTA) a row of codes for each site. Every refusal
names the file, the column and the row (row 1 is the first record), and never a value: errors end up in logs, and logs
travel. A column that is not in the study is named by its position only, because in a file without a header line the
"names" are somebody's data.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from epgfn.base.errors import UsageError
from epgfn.base.files import read_bytes, sha256_hex
from epgfn.study import Study
from epgfn.study.records.alignments import load_alignment
from epgfn.study.settings import Variable

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]
PARQUET_MAGIC = b"PAR1"


def load_records(path: Path | str, study: Study) -> Numbers:
    """The records in the file at `path`, one a row. CSV or Parquet with one column a variable, in any order; FASTA for a study of trees.

    Returns:
        Numbers: (n, V) float64, transformed and scaled, finite, n >= V for graphs, no constant column. Categories: (n, V) int64,
        or (n,) where the study has one variable by its kind. Taxa: (sites, V) uint8 as `targets.alignment` codes them.

    Raises:
        UsageError: the file is missing, unreadable or of another form; a column is missing, extra or doubled; a cell is blank, or
            not what its variable takes; or there are too few records. No data value is in the message or its causes.
    """
    path = Path(path)
    columns = _columns(path, study)
    if not study.columns.numeric:
        return _together(columns, study)
    if study.columns.must_vary and len(columns[0]) < len(columns):
        raise UsageError(
            f"{path} holds fewer records than the study has variables ({len(columns)}); more records are needed"
        )
    scaled = [
        _scaled(values, variable, path, study.columns.must_vary)
        for values, variable in zip(columns, study.variables, strict=True)
    ]
    return np.stack(scaled, axis=1)


class BoundedRecords(NamedTuple):
    """Records for a release with noise. `raw` (n, V) as the file has them (a category as a number that its name alone decides),
    `scaled` as `load_records` returns them, each number moved into its public bounds first."""

    raw: Numbers
    scaled: Numbers


def load_bounded_records(path: Path | str, study: Study) -> BoundedRecords:
    """The records in the file at `path` for a study whose nodes release with noise.

    Few records, a constant column or a number outside the domain of its transform are no errors here, as in `load_records`: whether
    a release is made must not hang on what records say. A file that is no table of numbers, or of categories, still is one.

    Raises:
        UsageError: the file is missing, unreadable, empty or of another form; a column is missing, extra or doubled; a cell
            is blank, or not what its variable takes. No data value is in the message or its causes.
    """
    path = Path(path)
    columns = _columns(path, study)
    if not study.columns.numeric:
        named = [_by_name(codes, v) for codes, v in zip(columns, study.variables, strict=True)]
        return BoundedRecords(np.stack(named, axis=1), _together(columns, study))
    for values, variable in zip(columns, study.variables, strict=True):
        _check_finite(values, variable.name, path, "is not finite")
    pairs = zip(columns, study.variables, strict=True)
    scaled = [on_scale(np.clip(values, v.lower, v.upper), v) for values, v in pairs]
    return BoundedRecords(np.stack(columns, axis=1), np.stack(scaled, axis=1))


def on_scale(values: npt.ArrayLike, variable: Variable) -> Floats:
    """Raw numbers of a variable on the study's scale; not finite where its transform is not defined."""
    x = np.asarray(values, dtype=np.float64)
    with np.errstate(all="ignore"):
        x = x / variable.transform_scale
        if variable.transform == "arcsinh":
            x = np.arcsinh(x)
        elif variable.transform == "log":
            x = np.log(x)
        return np.asarray((x - variable.centre) / variable.scale, dtype=np.float64)


def off_scale(scaled: npt.ArrayLike, variable: Variable) -> Floats:
    """The raw numbers that `on_scale` makes `scaled` of."""
    x = np.asarray(scaled, dtype=np.float64) * variable.scale + variable.centre
    if variable.transform == "arcsinh":
        x = np.sinh(x)
    elif variable.transform == "log":
        x = np.exp(x)
    return np.asarray(x * variable.transform_scale, dtype=np.float64)


def split_table(path: Path | str, parts: int, seed: int) -> list[pd.DataFrame]:
    """Cut a CSV table into `parts` row-disjoint tables of (nearly) equal size that together hold every row once.

    Rows are shuffled with `seed`; the same seed gives the same cut. Cells stay the text they were, so that writing the parts
    as CSV changes no digit.

    Raises:
        UsageError: the file is missing or is no CSV table, or there are fewer rows than parts.
    """
    path = Path(path)
    raw = read_bytes(path, "data file")
    try:
        table = pd.read_csv(io.BytesIO(raw), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (
        ValueError
    ):  # pandas' parser errors and bad UTF-8 are ValueErrors, and may quote a line of the file
        raise UsageError(
            f"{path} is not a CSV table; save it as CSV (UTF-8, comma) with a header line"
        ) from None
    if not 1 <= parts <= len(table):
        raise UsageError(f"{path} cannot be cut into {parts} parts; choose 1 up to its number of rows")
    order = np.random.default_rng(seed).permutation(len(table))
    return [table.iloc[rows].reset_index(drop=True) for rows in np.array_split(order, parts)]


def _together(columns: list[Numbers], study: Study) -> Numbers:
    return columns[0] if study.columns.single else np.stack(columns, axis=1)


def _by_name(codes: Numbers, variable: Variable) -> Numbers:
    """Numbers that stay the same when a study lists its categories in another order, or more of them."""
    if variable.categories is None:
        return codes
    digests = [sha256_hex(name.encode("utf-8"))[:15] for name in variable.categories]
    return np.asarray(np.array([int(digest, 16) for digest in digests])[codes])


def _columns(path: Path, study: Study) -> list[Numbers]:
    """Raw numbers, or places of categories, of each variable of the study; at least one record."""
    if study.columns.alignment:
        return list(load_alignment(path, study.variable_names).codes.numpy())
    raw = read_bytes(path, "data file")
    read = _read_parquet if raw.startswith(PARQUET_MAGIC) else _read_csv
    columns = read(raw, path, study)
    if len(columns[0]) == 0:
        raise UsageError(
            f"{path} holds no records; give a file with at least {len(columns)} rows below the header"
        )
    return columns


def _read_csv(raw: bytes, path: Path, study: Study) -> list[Numbers]:
    """The column of each variable of the study, from a CSV file."""
    try:
        text = raw.decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except (UnicodeDecodeError, csv.Error):
        raise _not_a_table(path) from None
    if "\0" in text:
        raise _not_a_table(path)
    if not rows:
        raise UsageError(
            f"{path} is empty; give a CSV or Parquet file with one column for each variable of the study"
        )
    order = _column_order([name.strip() for name in rows[0]], path, study)
    width = len(rows[0])
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != width:
            raise UsageError(
                f"{path}: row {number} has {len(row)} cells where the header has {width}; correct that row"
            )
    return [
        _parse([row[at] for row in rows[1:]], variable, path)
        for at, variable in zip(order, study.variables, strict=True)
    ]


def _parse(cells: list[str], variable: Variable, path: Path) -> Numbers:
    """Text cells as numbers, or as places of categories; blanks and what is neither are refused."""
    name = variable.name
    if cells and not any(cell.strip() for cell in cells):
        raise UsageError(f"{path}: column '{name}' is empty; fill it or take it out of the study")
    if variable.categories is not None:
        return _places(cells, variable, path)
    values = np.empty(len(cells))
    for row, cell in enumerate(cells, start=1):
        if not cell.strip():
            raise _bad_cell(path, name, row, "is blank")
        try:
            values[row - 1] = float(cell)
        except ValueError:
            raise _bad_cell(path, name, row, "is not a number") from None
        if "_" in cell:  # Python reads 1_000 as a number, no other program does
            raise _bad_cell(path, name, row, "is not a number")
    return values


def _places(cells: list[str], variable: Variable, path: Path) -> Numbers:
    """(n,) int64: where each cell stands in the study's list."""
    place = {category: i for i, category in enumerate(variable.categories or [])}
    for row, cell in enumerate(cells, start=1):
        if not cell.strip():
            raise _bad_cell(path, variable.name, row, "is blank")
        if cell.strip() not in place:
            raise _bad_cell(path, variable.name, row, "is none of the study's categories")
    return np.array([place[cell.strip()] for cell in cells], dtype=np.int64)


def _read_parquet(raw: bytes, path: Path, study: Study) -> list[Numbers]:
    """The column of each variable of the study, from a Parquet file."""
    try:
        file = pq.ParquetFile(io.BytesIO(raw))
        order = _column_order(list(file.schema_arrow.names), path, study)
        table = file.read()
    except (pa.ArrowException, OSError):
        raise _not_a_table(path) from None
    return [
        _numbers(table.column(at), variable.name, path)
        if variable.categories is None
        else _parse(_texts(table.column(at), variable.name, path), variable, path)
        for at, variable in zip(order, study.variables, strict=True)
    ]


def _numbers(column: pa.ChunkedArray, name: str, path: Path) -> Floats:
    """A Parquet column as float64; nulls and columns that do not hold numbers are refused."""
    if len(column) and column.null_count == len(column):
        raise UsageError(f"{path}: column '{name}' is empty; fill it or take it out of the study")
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise UsageError(
            f"{path}: column '{name}' does not hold numbers; store it as integers or floating-point numbers"
        )
    if column.null_count:
        missing = np.asarray(column.is_null().to_numpy(), dtype=bool)
        raise _bad_cell(path, name, int(missing.argmax()) + 1, "is blank")
    try:
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    except pa.ArrowException:
        raise UsageError(
            f"{path}: column '{name}' cannot be read as numbers; store it as floating-point numbers"
        ) from None


def _texts(column: pa.ChunkedArray, name: str, path: Path) -> list[str]:
    """A Parquet column of categories as text; nulls become blanks, which are refused."""
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        raise UsageError(f"{path}: column '{name}' holds numbers; store its categories as text or integers")
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _column_order(found: list[str], path: Path, study: Study) -> list[int]:
    """Position of each variable of the study among the columns `found`, which must be those variables exactly."""
    names = study.variable_names
    for name in names:
        if found.count(name) > 1:
            raise UsageError(f"{path}: column '{name}' is listed twice; keep one of them")
    for name in names:
        if name not in found:
            raise UsageError(
                f"{path}: column '{name}' is missing; the first line must name every variable of the study as the study does"
            )
    for at, name in enumerate(found, start=1):
        if name not in names:
            raise UsageError(
                f"{path}: column number {at} is not a variable of the study; take it out of the file"
            )
    return [found.index(name) for name in names]


def _scaled(values: Floats, variable: Variable, path: Path, must_vary: bool) -> Floats:
    """(transform(raw / transform_scale) - centre) / scale."""
    _check_finite(values, variable.name, path, "is not finite")
    if must_vary and values.min() == values.max():
        raise _constant(path, variable.name)
    if variable.transform == "log":
        low = values / variable.transform_scale <= 0
        if low.any():
            what = "is not positive, but the study takes its logarithm"
            raise _bad_cell(path, variable.name, int(low.argmax()) + 1, what)
    x = on_scale(values, variable)
    _check_finite(x, variable.name, path, "is too large for the study's scale")
    if must_vary and x.min() == x.max():
        raise _constant(path, variable.name)
    return np.asarray(x, dtype=np.float64)


def _check_finite(values: Floats, name: str, path: Path, what: str) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        raise _bad_cell(path, name, int(bad.argmax()) + 1, what)


def _bad_cell(path: Path, name: str, row: int, what: str) -> UsageError:
    return UsageError(
        f"{path}: column '{name}', row {row} {what}; correct that cell or leave that record out"
    )


def _constant(path: Path, name: str) -> UsageError:
    return UsageError(
        f"{path}: column '{name}' is constant; take it out of the study or give records in which it varies"
    )


def _not_a_table(path: Path) -> UsageError:
    return UsageError(
        f"{path} is neither CSV (UTF-8, comma, header line) nor Parquet; save it as one of these"
    )

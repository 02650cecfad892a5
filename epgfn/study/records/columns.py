"""What the columns of somebody's file are, without a study that says so: numbers, categories, dates, identifiers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epgfn.base.errors import UsageError
from epgfn.base.files import read_bytes
from epgfn.study.missing import MARKS
from epgfn.study.records import parquet_file
from epgfn.study.records.csv_file import NUMBER, SEPARATORS, lines_from, not_a_table, text_of
from epgfn.study.records.names import Names
from epgfn.study.records.table import Floats

Sort = Literal["number", "category", "date", "identifier", "text", "empty", "constant", "commas"]
MOST_CATEGORIES: Final = 12
"""Different values of a column that is taken for one of categories; whole numbers up to half of it."""
_LOOKED_AT: Final = 50
_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2}))([T ]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?Z?)?"
)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?", re.ASCII)
_TIME = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?")
_CALLED_ID = re.compile(
    r"(^|[\W_])(id|ids|nr|no|uuid|guid|mrn|ssn|index|key|rownames|subject|patient)([\W_]|$)|^unnamed",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Column:
    """A `name` as the header has it, what sort of column it is, its numbers (n,) where it is one of numbers, and the different values
    where it is one of categories, sorted. `blanks`: cells without a value."""

    name: str
    sort: Sort
    numbers: Floats
    values: list[str]
    blanks: int


def read_columns(paths: Sequence[Path]) -> tuple[list[Column], list[str], list[bool]]:
    """The columns that all files have, as one; the names of those that only some have; and of each file whether its numbers have a decimal
    comma. Where only some files have it, theirs are read as if they were written with a point.

    Raises:
        UsageError: a file is missing or is no table with a header line, or they have no column in common. No value is in the message.
    """
    tables = [_cells(path) for path in paths]
    with_comma = [any(map(_has_commas, table.values())) for table in tables]
    if any(with_comma) and not all(with_comma):
        tables = [
            {name: _with_points(cells) for name, cells in table.items()} if has else table
            for table, has in zip(tables, with_comma, strict=True)
        ]
    first, others = tables[0], [(Names(list(table)), list(table.values())) for table in tables[1:]]
    together: dict[str, list[str]] = {}
    some = []
    for name, cells in first.items():
        places = [known.place(name) for known, _ in others]
        if None in places:
            some.append(name)
            continue
        more = [
            columns[place] for place, (_, columns) in zip(places, others, strict=True) if place is not None
        ]
        together[name] = [cell for part in (cells, *more) for cell in part]
    if not together:
        raise UsageError("the files have no column in common; check that they are of the same study")
    commas = any(_has_commas(cells) for cells in together.values())
    return [_column(name, cells, commas) for name, cells in together.items()], some, with_comma


def _with_points(cells: Sequence[str]) -> list[str]:
    """A column of a file whose numbers have decimal commas, in which they have points; one that is not of numbers as it is."""
    pointed = [cell if cell.lower() in MARKS else cell.replace(",", ".") for cell in cells]
    is_numbers = all(NUMBER.fullmatch(cell) for cell in pointed if cell and cell.lower() not in MARKS)
    return pointed if is_numbers else list(cells)


def _cells(path: Path) -> dict[str, list[str]]:
    """The text of each column by its name; a name that is there twice is taken once."""
    raw = read_bytes(path, "data file")
    if raw.startswith(parquet_file.MAGIC):
        try:
            table = pq.read_table(pa.BufferReader(raw), use_threads=False)
        except (pa.ArrowException, OSError):
            raise not_a_table(path) from None
        return {
            str(name): ["" if value is None else str(value) for value in column.to_pylist()]
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
    text = text_of(raw, path)
    begins, separator = 0, None
    for shown in lines_from(text, 0):
        if told := re.fullmatch(r"sep=(.)[\r\n]*", shown, re.IGNORECASE):
            separator = told[1]
        elif shown.strip() and not shown.startswith("#"):
            break
        begins += len(shown)
    below = text[begins:]
    separator = separator or max(SEPARATORS, key=lambda s: _fits(below, s))
    rows = [row for row in _rows(below, separator, path) if any(cell.strip() for cell in row)]
    if not rows:
        raise UsageError(f"{path} is empty; give a table with a header line")
    header = [cell.strip() for cell in rows[0]]
    if any(NUMBER.fullmatch(cell.replace(",", ".")) for cell in header):
        raise UsageError(
            f"{path} has no header line: its first line holds numbers; put a line with names above it"
        )
    width = len(header)
    if wrong := [row for row in rows[1:] if len(row) != width]:
        raise UsageError(
            f"{path}: {len(wrong)} of its rows have not as many cells as the header ({width}); correct them first"
        )
    columns: dict[str, list[str]] = {}
    for at, name in enumerate(header):
        if name:
            columns.setdefault(name, [row[at].strip() for row in rows[1:]])
    return columns


def _fits(text: str, separator: str) -> tuple[bool, int]:
    """Whether the first lines have one number of cells, more than one, cut there, and which."""
    try:
        rows = [
            r
            for r in islice(
                csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator), _LOOKED_AT
            )
            if r
        ]
    except csv.Error:
        return False, 0
    widths = {len(row) for row in rows}
    return widths != {1} and len(widths) == 1, min(widths, default=0)


def _rows(text: str, separator: str, path: Path) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator))
    except csv.Error:
        raise not_a_table(path) from None


def _has_commas(cells: Sequence[str]) -> bool:
    """Whether all numbers can be read with a decimal comma and some only so: it may stand between thousands if three digits follow each."""
    given = [cell for cell in cells if cell and cell.lower() not in MARKS]
    return any("," in cell and not _THOUSANDS.fullmatch(cell) for cell in given) and all(
        NUMBER.fullmatch(cell.replace(",", ".")) for cell in given
    )


def _column(name: str, cells: Sequence[str], commas: bool) -> Column:
    given = [cell for cell in cells if cell and cell.lower() not in MARKS]
    blanks, nothing = len(cells) - len(given), np.zeros(0)
    different = sorted(set(given))
    if not given:
        return Column(name, "empty", nothing, [], blanks)
    if all(_DATE.fullmatch(cell) or _TIME.fullmatch(cell) for cell in different):
        return Column(name, "date", nothing, [], blanks)
    if len(different) == 1:
        return Column(name, "constant", nothing, different, blanks)
    written = [cell.replace(",", ".") if commas else cell for cell in given]
    of_thousands = {cell for cell in different if _THOUSANDS.fullmatch(cell)}
    if (
        not commas
        and of_thousands
        and all(cell in of_thousands or NUMBER.fullmatch(cell) for cell in different)
    ):
        return Column(name, "commas", nothing, [], blanks)
    if not all(NUMBER.fullmatch(cell) for cell in written):
        if len(different) > max(MOST_CATEGORIES, len(given) // 10) or (
            _CALLED_ID.search(name) and len(different) > len(given) // 2
        ):
            sort: Sort = "identifier" if len(different) == len(given) else "text"
            return Column(name, sort, nothing, [], blanks)
        return Column(name, "category", nothing, different, blanks)
    numbers = np.array([float(cell) for cell in written])
    whole = bool(np.all(np.isfinite(numbers))) and bool(np.all(numbers == np.round(numbers)))
    if whole and len(different) == len(given) and len(given) > 2:
        counted = np.ptp(numbers) == len(numbers) - 1
        if counted or _CALLED_ID.search(name):
            return Column(name, "identifier", nothing, [], blanks)
    if whole and _CALLED_ID.search(name) and len(different) > MOST_CATEGORIES:
        return Column(name, "identifier", nothing, [], blanks)
    if whole and len(different) <= MOST_CATEGORIES // 2 and len(given) >= 3 * len(different):
        return Column(
            name,
            "category",
            numbers,
            sorted(set(given), key=lambda cell: float(cell.replace(",", "."))),
            blanks,
        )
    return Column(name, "number", numbers, [], blanks)


def called(name: str) -> str:
    """A name as a comment may hold it."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())[:64]

"""A CSV file as people have it, read strictly: every cell of a variable is what the study says, or the file is refused.

What is found out from the file: the character between cells, from the header line alone; and, where the study does not say and asks
for no privacy, whether numbers are written with a decimal comma, if no number can be meant otherwise. Comment lines above the header and
a byte-order mark are passed over. pyarrow reads what is written plainly; anything else, and whatever pyarrow refuses, goes through
Python's reader, which can say in which line the trouble is.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from epgfn.base.errors import UsageError
from epgfn.study import Study
from epgfn.study.design import arm_variable, notes_of
from epgfn.study.missing import MARKS, WITH_BLANKS, category_of_blanks, hint_for
from epgfn.study.missing import notes_of as notes_of_blanks
from epgfn.study.records.faults import Fault, Faults
from epgfn.study.records.names import Names, check_extra, fold, found_in, match_columns
from epgfn.study.records.table import Numbers, Table
from epgfn.study.settings import Variable

SEPARATORS: Final = (",", ";", "\t", "|")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
_WITH_COMMA: Final = r"^\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*$"
_THOUSANDS: Final = r"^\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*$"
_WHOLE: Final = r"^\s*[+-]?\d+\s*$"
_WITH_POINT: Final = r"^\s*[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?\s*$"


class _Header(NamedTuple):
    """`cells` of the header line, the `separator` between them, and where what is below it begins: a place in the text, and the number
    of the line before."""

    cells: list[str]
    separator: str
    end: int
    line: int


def read_csv(raw: bytes, path: Path, study: Study) -> Table:
    """The column of each variable of the study.

    Raises:
        UsageError: it is no such file; the sentence says what is wrong and where.
    """
    text = text_of(raw, path)
    header = _header(text, path, study)
    variables = read_of(study)
    order, extra = match_columns(header.cells, names_of(study), path)
    notes = check_extra(extra, study.data.extra_columns == "refuse", path)
    below, faults = _Below(raw, text, header, order, path), Faults(path)
    plainly = all(v.categories is None for v in variables) and len(order) == len(variables)
    if plainly and study.data.decimal != "," and (numbers := below.numbers()):
        return Table(numbers, notes, "line", below.lines)
    cells = below.quickly() or below.slowly(faults, study.privacy.is_private)
    cells, whose = cells[: len(variables)], cells[len(variables) :]
    numeric = [c for c, v in zip(cells, variables, strict=True) if v.categories is None]
    decimal = _decimal(numeric, path, study)
    columns = [
        scored(_parsed(column, variable, below, faults, decimal, *allowed(study, at)), variable)
        for at, (column, variable) in enumerate(zip(cells, variables, strict=True))
    ]
    doubts = require_readable(faults, study, len(columns[0]), lambda: _hint(numeric, decimal))
    doubts += _perhaps_thousands(cells[: len(study.variables)], study) if decimal == "," else []
    return table_of(columns, notes, "line", below.lines, study, doubts, faults.unread(), whose)


def require_readable(
    faults: Faults, study: Study, records: int, hint: Callable[[], str] = lambda: ""
) -> list[str]:
    """Doubts about cells that cannot be read, which count as their `public_value` where nodes release with noise: whether a node stops
    would tell of one record.

    Raises:
        UsageError: there are such cells and the study has no privacy, or they are half of a column or more. `hint`: one more thing to say.
    """
    more = hint() if len(faults) else ""
    if not study.privacy.is_private:
        faults.check(more + (hint_for(study) if faults.has_blanks() else ""))
        return []
    instead = {variable.name: _instead(variable) for variable in study.variables}
    return faults.tolerated(records, instead, more)


def public_value(variable: Variable) -> float:
    """What a cell without a number counts as in a private study: the middle of the variable's public bounds."""
    return 0.0 if variable.lower is None or variable.upper is None else (variable.lower + variable.upper) / 2


def _instead(variable: Variable) -> str:
    if variable.categories is None:
        return f"{public_value(variable):g}, the middle of its bounds"
    return f"{variable.categories[0]}, its first category"


def scored(column: Numbers, variable: Variable) -> Numbers:
    """Places of categories as the numbers that stand for them, (n,) float64, blanks NaN; any other column as it is."""
    if variable.numbers is None:
        return column
    return np.append(np.asarray(variable.numbers, dtype=np.float64), np.nan)[column.astype(np.int64)]


def read_of(study: Study) -> list[Variable]:
    """The columns that are read of a file: the variables', and after them the one of the study's design, if it has one."""
    arm = arm_variable(study)
    return list(study.variables) if arm is None else [*study.variables, arm]


def names_of(study: Study) -> list[str]:
    """Of the columns that are read: `read_of`, and last the one that says whose a record is, where the study protects persons."""
    person = study.privacy.person
    return [variable.name for variable in read_of(study)] + ([] if person is None else [person])


def _persons(whose: Sequence[pa.Array]) -> Numbers | None:
    """(n,) int64 of that column, if it was read."""
    if not whose:
        return None
    written = pc.utf8_trim_whitespace(pc.utf8_normalize(whose[0].fill_null(""), form="NFC"))
    return np.asarray(written.dictionary_encode().indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def table_of(
    columns: list[Numbers],
    notes: list[str],
    unit: str,
    places: Callable[[], Sequence[int]],
    study: Study,
    doubts: Sequence[str],
    unread: Mapping[str, int],
    whose: Sequence[pa.Array] = (),
) -> Table:
    """From the `columns` of `read_of`, and the text of the one that says `whose` a record is, if any."""
    v = len(study.variables)
    if study.data.missing in WITH_BLANKS:
        notes = notes + notes_of_blanks(study, columns[:v])
    if len(columns) == v:
        return Table(columns, notes, unit, places, doubts, persons=_persons(whose), unread=unread)
    arms = columns[v]
    return Table(columns[:v], notes + notes_of(study, arms.tolist()), unit, places, doubts, arms)


def allowed(study: Study, at: int) -> tuple[Fault, int | None]:
    """Of the column `at` of `read_of`: what is wrong with a text that it does not know, and what a cell without a value is: below 0 a
    blank, else the place of a category; None: a fault."""
    if at >= len(study.variables):
        return "arm", None
    if study.data.missing == "category":
        return "category", category_of_blanks(study.variables[at])
    return "category", -1 if study.data.missing in WITH_BLANKS else None


class _Below:
    """What is below the header line: the text of each variable's column, (n,) strings."""

    def __init__(self, raw: bytes, text: str, header: _Header, order: Sequence[int], path: Path) -> None:
        """`raw` the file, and `text` what it says."""
        self.text, self.header, self.order, self.path = text, header, order, path
        mark = len(codecs.BOM_UTF8) if raw.startswith(codecs.BOM_UTF8) else 0
        self._raw = raw[mark + len(text[: header.end].encode("utf-8")) :]
        self._plain = _quoted_plainly(self._raw, header.separator)
        self._lines: list[int] | None = None

    def numbers(self) -> list[Numbers] | None:
        """Each variable's (n,) float64. None: a cell is not a finite number with a decimal point, or as `quickly`."""
        table = self._read(pa.float64())
        if table is None or any(column.null_count for column in table):
            return None
        found = [np.array(column, dtype=np.float64) for column in table]  # writeable
        return found if all(np.isfinite(column).all() for column in found) else None

    def quickly(self) -> list[pa.Array] | None:
        """None: it is not written plainly, or rows are not as long as the header."""
        table = self._read(pa.string())
        return None if table is None else [column.combine_chunks() for column in table]

    def _read(self, cell: pa.DataType) -> list[pa.ChunkedArray] | None:
        if self._raw.isspace() or not self._raw or not self._plain:
            return None
        names = [str(at) for at in range(len(self.header.cells))]
        wanted = [names[at] for at in self.order]
        try:
            table = pacsv.read_csv(
                pa.BufferReader(self._raw),
                read_options=pacsv.ReadOptions(column_names=names, use_threads=False),
                parse_options=pacsv.ParseOptions(
                    delimiter=self.header.separator, newlines_in_values=b'"' in self._raw
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(wanted, cell), include_columns=wanted,
                    null_values=[], strings_can_be_null=False,
                ),
            )  # fmt: skip
        except pa.ArrowException:  # its text quotes cells
            return None
        return [table.column(name) for name in wanted]

    def slowly(self, faults: Faults, kept: bool = False) -> list[pa.Array]:
        """Row by row; rows that are not as long as the header go to `faults`, and are left out, or `kept` as blanks.

        Raises:
            UsageError: a quotation mark is not closed; or most rows are too long or too short.
        """
        reader = csv.reader(
            io.StringIO(self.text[self.header.end :], newline=""),
            strict=True,
            delimiter=self.header.separator,
        )
        width, wrong = len(self.header.cells), 0
        rows: list[list[str]] = []
        lines: list[int] = []
        begins = self.header.line + 1
        try:
            for row in reader:
                if len(row) == width:
                    rows.append(row)
                    lines.append(begins)
                elif row:
                    faults.width(begins, len(row), width)
                    wrong += 1
                    if kept:
                        rows.append([""] * width)
                        lines.append(begins)
                begins = self.header.line + reader.line_num + 1
        except csv.Error:
            raise UsageError(
                f"{self.path}: in line {begins} a quotation mark is not closed, or something stands after a closed one; correct that line"
            ) from None
        if wrong > len(rows) - (wrong if kept else 0):
            faults.check(
                "; where all lines have more cells than the header, a name may be missing in it (as of R's row names), or the decimal "
                "comma needs another separator than a comma"
            )
        self._lines = lines
        return [pa.array([row[at] for row in rows], pa.string()) for at in self.order]

    def lines(self) -> list[int]:
        """The line that each record begins in, as an editor counts, the first of the file being 1."""
        if self._lines is None:
            self.slowly(Faults(self.path))
        return self._lines or []


def _quoted_plainly(raw: bytes, separator: str) -> bool:
    """Whether every quotation mark opens a cell or closes one, and none is inside: then all readers agree."""
    if b'"' not in raw:
        return True
    found = np.frombuffer(b"\n" + raw + b"\n", dtype=np.uint8)
    at = np.flatnonzero(found == ord('"'))
    edges = np.array([ord(separator), ord("\r"), ord("\n")], dtype=np.uint8)
    opens, closes = np.isin(found[at - 1], edges), np.isin(found[at + 1], edges)
    return bool(len(at) % 2 == 0 and opens[::2].all() and closes[1::2].all() and not (opens & closes).any())


def _decimal(numeric: Sequence[pa.Array], path: Path, study: Study) -> str:
    """The decimal mark: the study's, or a comma that can be nothing else.

    Raises:
        UsageError: commas may stand before decimals or between thousands.
    """
    asked = study.data.decimal
    if asked is not None or study.privacy.is_private or not _any(numeric, _WITH_COMMA):
        return asked or "."
    if _any(numeric, _WITH_POINT):
        return "."
    if _any_but(numeric, _WITH_COMMA, _THOUSANDS):
        return ","
    raise UsageError(
        f"{path}: its numbers have commas that may stand before decimals or between thousands; write them with a decimal point, or say "
        "decimal = ',' under [data] in the study"
    )


def _any(numeric: Sequence[pa.Array], pattern: str) -> bool:
    """Whether a cell is written so."""
    return any(pc.any(pc.match_substring_regex(column, pattern)).as_py() for column in numeric)


def _any_but(numeric: Sequence[pa.Array], pattern: str, other: str) -> bool:
    """Whether a cell is written by the one and not by the other."""
    return any(
        pc.any(pc.and_not(pc.match_substring_regex(c, pattern), pc.match_substring_regex(c, other))).as_py()
        for c in numeric
    )


def _perhaps_thousands(cells: Sequence[pa.Array], study: Study) -> list[str]:
    """What to say of columns whose commas were read as decimal ones and may stand between thousands: three digits follow each, and other
    numbers are whole."""
    return [
        f"column {variable.name}: three digits follow every comma, and its other numbers are whole: are these commas between thousands? "
        "They were read as decimal commas, so that 1,234 is a little more than 1; write whole numbers without commas"
        for column, variable in zip(cells, study.variables, strict=True)
        if variable.categories is None
        and _any([column], _THOUSANDS)
        and not _any_but([column], _WITH_COMMA, _THOUSANDS)
        and _any([column], _WHOLE)
    ]


def _hint(numeric: Sequence[pa.Array], decimal: str) -> str:
    """One more thing to say where numbers cannot be read."""
    commas = f"{_WITH_COMMA}|{_THOUSANDS}"
    if decimal == "." and _any(numeric, commas) and not _any_but(numeric, commas, _THOUSANDS):
        return (
            "; where commas stand between thousands, write the numbers without them; if they stand before decimals, the study says so by "
            "decimal = ',' under [data]"
        )
    if decimal == "." and _any(numeric, _WITH_COMMA):
        return "; numbers with a decimal comma are read where the study says decimal = ',' under [data]"
    if decimal == "," and _any(numeric, _WITH_POINT):
        return "; the study says decimal = ',' under [data], so a point is no decimal mark"
    return ""


def _parsed(
    cells: pa.Array,
    variable: Variable,
    below: _Below,
    faults: Faults,
    decimal: str,
    otherwise: Fault,
    blanks: int | None,
) -> Numbers:
    """`parse_cells`, quickly where nothing is wrong."""
    if variable.categories is not None:
        encoded = cells.dictionary_encode()
        known = Names(variable.categories)
        places = [known.place(cell) for cell in encoded.dictionary.to_pylist()]
        if None not in places:
            found = encoded.indices.to_numpy(zero_copy_only=False)
            return np.asarray(np.array(places, dtype=np.int64)[found])
    else:
        written = cells
        if decimal == ",":
            written = pc.replace_substring(pc.replace_substring(cells, ".", "x"), ",", ".")
        try:
            values = np.array(pc.utf8_trim(written, " \t\r\n").cast(pa.float64()))  # writeable
            if np.isfinite(values).all():
                return values
        except pa.ArrowException:  # its text quotes cells
            pass
    return parse_cells(cells.to_pylist(), variable, below.lines(), faults, decimal, otherwise, blanks)


def parse_cells(
    cells: Sequence[str],
    variable: Variable,
    places: Sequence[int],
    faults: Faults,
    decimal: str = ".",
    otherwise: Fault = "category",
    blanks: int | None = None,
) -> Numbers:
    """Text cells as numbers (n,) float64, or as places of categories (n,) int64; what is neither goes to `faults` and is the variable's
    `public_value`, or its first category. `otherwise`: what is wrong with a text that is none of the categories. `blanks`: what
    cells without a value are, as `allowed` gives it; of numbers NaN."""
    whole = blanks is not None and blanks >= 0  # a column of one category
    if cells and not any(map(str.strip, cells)) and not whole:
        faults.empty(variable.name)
        return np.zeros(len(cells))
    nothing = public_value(variable)
    if variable.categories is not None:
        known = Names(variable.categories)
        memo: dict[str, int | None] = {cell: known.place(cell) for cell in set(cells)}
        codes = np.zeros(len(cells), dtype=np.int64)
        for at, cell in enumerate(cells):
            code = memo[cell]
            if code is None and blanks is not None and _unreadable(cell, otherwise) in ("blank", "missing"):
                codes[at] = blanks
            elif code is None:
                faults.cell(variable.name, places[at], _unreadable(cell, otherwise))
            else:
                codes[at] = code
        return codes
    values: npt.NDArray[np.float64] = np.zeros(len(cells))
    for at, cell in enumerate(cells):
        written = cell.strip(" \t\r\n")
        if decimal == ",":
            written = written.replace(".", "x").replace(",", ".")
        if blanks is not None and _unreadable(cell, "number") in ("blank", "missing"):
            values[at] = np.nan
            continue
        if not NUMBER.fullmatch(written):
            faults.cell(variable.name, places[at], _unreadable(cell, "number"))
            values[at] = nothing
            continue
        values[at] = float(written)
        if not np.isfinite(values[at]):
            faults.cell(variable.name, places[at], "finite")
            values[at] = nothing
    return values


def _unreadable(cell: str, otherwise: Fault) -> Fault:
    """Why a cell is nothing: blank, marked as missing, or `otherwise`."""
    if not cell.strip():
        return "blank"
    return "missing" if cell.strip().lower() in MARKS else otherwise


def text_of(raw: bytes, path: Path) -> str:
    """Raises:
    UsageError: it is no text in UTF-8.
    """
    if raw.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise UsageError(f"{path} is a workbook or an archive; save its table as CSV (UTF-8) or Parquet")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw:
            raise not_a_table(path) from None
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{path} is neither CSV in UTF-8 nor Parquet: line {line} has a character in another encoding; save it as CSV (UTF-8)"
        ) from None
    if "\0" in text:
        raise not_a_table(path)
    if not text or text.isspace():
        raise UsageError(
            f"{path} is empty; give a CSV or Parquet file with one column for each variable of the study"
        )
    return text


def _header(text: str, path: Path, study: Study) -> _Header:
    """The header line: the first that is neither blank nor, unless it names variables, a comment.

    Raises:
        UsageError: there is none.
    """
    asked: str | None = study.data.separator
    begins = line = 0
    for shown in lines_from(text, 0):
        if told := re.fullmatch(r"sep=(.)[\r\n]*", shown, re.IGNORECASE):  # spreadsheets write this
            asked = asked or (told[1] if told[1] in SEPARATORS else None)
        elif shown.startswith("#"):
            if shown[1:].strip() and _names_all(shown[1:], asked, study):
                begins += 1
                break
        elif shown.strip():
            break
        begins += len(shown)
        line += 1
    else:
        raise UsageError(f"{path} holds nothing but comments; give a file with a header line and records")
    tried = [_split(text, begins, line, s) for s in ((asked,) if asked else SEPARATORS)]
    best = max(tried, key=lambda header: found_in(header.cells, study.variable_names))
    if not found_in(best.cells, study.variable_names):
        raise _no_header(shown, tried, path, study)
    return best


def _split(text: str, begins: int, line: int, separator: str) -> _Header:
    """The header that begins at that place, behind that many lines, cut at that separator; nothing in it where it cannot be."""
    reader = csv.reader(lines_from(text, begins), strict=True, delimiter=separator)
    try:
        cells = next(reader)
    except csv.Error:
        return _Header([], separator, begins, line)
    read = list(islice(lines_from(text, begins), reader.line_num))
    return _Header(cells, separator, begins + sum(map(len, read)), line + len(read))


def lines_from(text: str, begins: int) -> Iterator[str]:
    """The lines from there on, with their ends, as an editor tells them apart."""
    for found in _LINE.finditer(text, begins):
        yield found[0]


def _names_all(text: str, separator: str | None, study: Study) -> bool:
    names = study.variable_names
    return any(
        found_in(_split(text, 0, 0, s).cells, names) == len(names)
        for s in ((separator,) if separator else SEPARATORS)
    )


def _no_header(shown: str, tried: Sequence[_Header], path: Path, study: Study) -> UsageError:
    names = study.variable_names
    words = [fold(word) for word in shown.split()]
    if len(names) > 1 and found_in(words, names) == len(names):
        return UsageError(f"{path}: its columns are separated by spaces; save it as CSV with commas")
    others = [s for s in SEPARATORS if found_in(_split(shown, 0, 0, s).cells, names)]
    if study.data.separator and others:
        return UsageError(
            f"{path}: the study says separator = {study.data.separator!r} under [data], and the columns of this file are separated by "
            f"{others[0]!r}; save it with the study's"
        )
    if any(h.cells and all(NUMBER.fullmatch(c.strip().replace(",", ".")) for c in h.cells) for h in tried):
        return UsageError(
            f"{path} has no header line: its first line holds numbers; put a line with the study's names of the columns above it"
        )
    quoted = " ".join(f"'{name}'" for name in names[:3])
    return UsageError(
        f"{path}: its first line names none of the study's variables ({quoted}{', ...' if len(names) > 3 else ''}); it must be a header "
        "line that names every one of them as the study does"
    )


def not_a_table(path: Path) -> UsageError:
    """What is neither."""
    return UsageError(f"{path} is neither CSV (UTF-8, a header line) nor Parquet; save it as one of these")

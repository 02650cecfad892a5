"""CSV that does nothing in a spreadsheet: every CSV that people get is written here.

A spreadsheet takes a cell that begins with = + - or @ for a formula, which may start a program or send what stands in other cells away, and
names of variables, categories and taxa come from whoever wrote a study. An apostrophe before such a text makes it one: `=1+1` is written
`'=1+1`. Numbers stay numbers, -1.5 too; a name is a text even if it is "-1", which with the next cell could become more where lists are
separated by semicolons. Every text that cannot be taken for a formula stays as it is.

    csv_bytes(("from", "to"), rows)     a whole file
    from_cell(to_cell(text)) == text    for every text, so what was written here is read as it was

Where lists are separated by semicolons a spreadsheet may cut a cell at those within it, and at tabs and ends of lines when it is pasted; so
each part between them counts as a beginning.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Final

from epgfn.base.invisible import INVISIBLE

MARK: Final = "'"
_CUTS: Final = re.compile("([;\t\r\n])")
_BREAKS: Final = ("\t", "\r", "\n")
_BEGINS: Final = "=+-@"
_MINUS: Final = "\u2212"
"""What word processors make of a hyphen before a number, and some spreadsheets read as one."""
_QUOTES: Final = "'\"`\u00b4\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\uff02\uff07"


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A table in UTF-8, its `header` in the first line. Numbers are written with every digit, NaN and None as an empty cell, everything
    else as its text by `to_cell`."""
    lines = _Lines()
    writer = csv.writer(lines, lineterminator=lines.end)
    writer.writerow([to_cell(name) for name in header])
    writer.writerows([_written(cell) for cell in row] for row in rows)
    return "".join(lines).encode("utf-8")


class _Lines(list[str]):
    """What a writer has written, a line each. It quotes what its own lines end with, which is why they end with more than those here."""

    end: Final = "\r\n"

    def write(self, line: str) -> None:
        self.append(line.removesuffix(self.end) + "\n")


def to_cell(text: str) -> str:
    """`text` with an apostrophe wherever a spreadsheet could take what follows for a formula."""
    return _each_part(text, lambda part: MARK + part)


def from_cell(cell: str) -> str:
    """What `to_cell` was given; a cell that it did not write is returned as it is."""
    return _each_part(cell, lambda part: part.removeprefix(MARK))


def _written(cell: object) -> object:
    if cell is None or (isinstance(cell, Real) and cell != cell):
        return ""
    return cell if isinstance(cell, Real) else to_cell(str(cell))


def _each_part(text: str, change: Callable[[str], str]) -> str:
    """`text`, where parts that could be taken for formulas are changed. Apostrophes before a part say nothing of whether it is one."""
    found = _CUTS.split(text)
    for at in range(0, len(found), 2):
        if _is_formula(found[at], followed=at == 0 and len(found) > 1 and found[1] in _BREAKS):
            found[at] = change(found[at])
    return "".join(found)


def _is_formula(part: str, followed: bool) -> bool:
    """Whether a cell that begins with `part` could be taken for a formula, spaces and quotation marks before it left out; `followed`: by a
    break that the cell would begin with."""
    at = 0
    while at < len(part) and _says_nothing(part[at]):
        at += 1
    if at == len(part):
        return followed
    begin = unicodedata.normalize("NFKC", part[at])[:1]
    return begin in _BEGINS or begin == _MINUS


def _says_nothing(char: str) -> bool:
    return char in _QUOTES or char.isspace() or not char.isprintable() or INVISIBLE.match(char) is not None

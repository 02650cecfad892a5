"""What is wrong with the cells of a file, all in one sentence that never holds one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from epgfn.base.errors import UsageError
from epgfn.study.records.names import listed

MOST: Final = 20
"""Cells that are named; of more, only how many there are."""
MOST_TEXT: Final = 1200
"""Characters for them: what is said must not be cut off."""
Fault = Literal["blank", "missing", "number", "finite", "category", "arm", "positive", "large"]
_ONE_AND_MORE: Final[dict[Fault, tuple[str, str]]] = {
    "blank": ("is blank", "are blank"),
    "missing": ("is marked as missing", "are marked as missing"),
    "number": ("is not a number", "are not numbers"),
    "finite": ("is not finite", "are not finite"),
    "category": ("is none of the study's categories", "are none of the study's categories"),
    "arm": ("is none of the arms of the study's [design]", "are none of the arms of the study's [design]"),
    "positive": (
        "is not positive, but the study takes its logarithm",
        "are not positive, but the study takes their logarithm",
    ),
    "large": ("is too large for the study's scale", "are too large for the study's scale"),
}


@dataclass
class Faults:
    """Collects what is wrong with the file at `path`. `unit`: what a place in it is called: "line", as an editor counts, or "row"."""

    path: Path
    unit: str = "line"
    _cells: dict[tuple[str, Fault], list[int]] = field(default_factory=dict)
    _rows: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    _empty: list[str] = field(default_factory=list)

    def cell(self, column: str, place: int, fault: Fault) -> None:
        """A cell of the column named so in the study."""
        self._cells.setdefault((column, fault), []).append(place)

    def cells(self, column: str, places: Iterable[int], fault: Fault) -> None:
        """Several."""
        for place in places:
            self.cell(column, place, fault)

    def empty(self, column: str) -> None:
        """A column without a single value."""
        self._empty.append(column)

    def width(self, place: int, cells: int, expected: int) -> None:
        """A row that has not as many cells as the header."""
        self._rows.setdefault((cells, expected), []).append(place)

    def __len__(self) -> int:
        return len(self._empty) + sum(map(len, self._cells.values())) + sum(map(len, self._rows.values()))

    def has_blanks(self) -> bool:
        """Whether a cell without a value is among them."""
        return any(fault in ("blank", "missing") for _, fault in self._cells)

    def check(self, hint: str = "") -> None:
        """Raises:
        UsageError: something is wrong. `hint`: one more thing to say then.
        """
        if not len(self):
            return
        cells = len(self) - len(self._empty)
        what = (
            f"; correct {'that' if cells == 1 else 'these'} or leave out the record{'s' if cells > 1 else ''}"
            if cells
            else ""
        )
        raise UsageError(f"{self.path}: {self._said()}{what}{hint}")

    def unread(self) -> dict[str, int]:
        """How many cells of each column are wrong, by its name in the study; of columns that have such, and that are not empty."""
        found: dict[str, int] = {}
        for (column, _), places in self._cells.items():
            found[column] = found.get(column, 0) + len(places)
        return found

    def tolerated(self, records: int, instead: Mapping[str, str], hint: str = "") -> list[str]:
        """Sentences for the file's owner on what counts as something public, where no record may stop a node: `instead` says as what, by
        column.

        Raises:
            UsageError: half of the `records` or more show nothing in a column that can be read, which is no matter of one record: another
                file or another way to write numbers is meant. `hint`: one more thing to say in either case.
        """
        unread = self.unread() | dict.fromkeys(self._empty, records)
        most = [column for column, n in unread.items() if 2 * n >= records]
        if most:
            self.check(f"; half of column '{most[0]}' or more cannot be read{hint}")
        if not len(self):
            return []
        as_what = "; ".join(f"{column}: {instead[column]}" for column in unread)
        return [f"{self._said()}{hint}. What cannot be read counts as something public ({as_what})"]

    def _said(self) -> str:
        """All that is wrong, up to `MOST` places."""
        left, named = MOST, len(self._empty)
        said = [f"column '{name}' is empty; fill it or take it out of the study" for name in self._empty]
        for text, one, more, places in self._grouped():
            if left <= 0 or sum(map(len, said)) > MOST_TEXT:
                break
            shown = [str(place) for place in sorted(places)[:left]]
            where = (
                f"{self.unit} {shown[0]} {one}" if len(shown) == 1 else f"{self.unit}s {listed(shown)} {more}"
            )
            said.append(f"{text}{where}")
            left -= len(shown)
            named += len(shown)
        rest = f"; and {len(self) - named} more such places" if len(self) > named else ""
        return f"{'; '.join(said)}{rest}"

    def _grouped(self) -> list[tuple[str, str, str, list[int]]]:
        rows = [
            ("", f"has {n} {_cells(n)} where the header has {of}", f"have {n} {_cells(n)} where the header has {of}", p)
            for (n, of), p in self._rows.items()
        ]  # fmt: skip
        cells = [
            (f"column '{column}', ", *_ONE_AND_MORE[fault], places)
            for (column, fault), places in self._cells.items()
        ]
        return rows + cells


def _cells(n: int) -> str:
    return "cell" if n == 1 else "cells"

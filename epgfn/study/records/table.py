"""What a file of records is once it is read, before anything is put on the study's scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Table:
    """The column of each variable of a study, in its order: numbers as they stand in the file, (n,) float64, or places of categories, (n,)
    int64.

    notes: what to tell the file's owner about it, and nobody else. unit: what a place in the file is called, "line" or "row".
    places: the place of each record in those units, found out only where something is wrong.
    doubts: sentences for the owner on what may have been written to mean another number, which nobody should train without having read.
    arms: where the study has a design, the arm of each record by its place there, (n,) int64.
    persons: where the study protects persons, whose each record is: (n,) int64, the same for the same text, all blanks one.
    unread: in a private study, how many cells of a column could not be read and count as something public, by its name there.
    """

    columns: list[Numbers]
    notes: list[str]
    unit: str
    places: Callable[[], Sequence[int]]
    doubts: Sequence[str] = ()
    arms: Numbers | None = None
    persons: Numbers | None = None
    unread: Mapping[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Records."""
        return len(self.columns[0])

    def only(self, rows: npt.NDArray[np.int64]) -> Table:
        """The records in these `rows`, counted from 0 and ascending; notes and doubts are of the whole file and stay behind."""
        places = self.places
        return Table(
            [column[rows] for column in self.columns],
            [],
            self.unit,
            lambda: [places()[row] for row in rows],
            arms=None if self.arms is None else self.arms[rows],
            persons=None if self.persons is None else self.persons[rows],
        )

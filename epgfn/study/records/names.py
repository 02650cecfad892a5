"""Which column of a file is which variable of the study.

Names are compared without the spaces around them and in Unicode's compatibility form (NFKC), where µ is μ, m² is m2 and an accent is
one thing however it was typed; where that would make one of two of the study's own names, they are compared as they are. Upper and
lower case make different names. A column that is not in the study is named by its position only, because in a file without a header
line the "names" are somebody's data.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from epgfn.base.errors import UsageError

MAX_POSITIONS = 20


class Matched(NamedTuple):
    """`order`: the position, from 0, of each name. `extra`: positions of the columns that have none, from 1."""

    order: list[int]
    extra: list[int]


def fold(name: str) -> str:
    """What is compared."""
    return " ".join(unicodedata.normalize("NFKC", name).split())


def plain(name: str) -> str:
    """What is compared where `fold` makes two names one."""
    return unicodedata.normalize("NFC", name).strip()


class Names:
    """The place of a name in a list of distinct ones, by `fold` where that is unambiguous, else by `plain`."""

    def __init__(self, names: Sequence[str]) -> None:
        shared = {key for key, count in Counter(map(fold, names)).items() if count > 1}
        self._folded = {fold(name): at for at, name in enumerate(names) if fold(name) not in shared}
        self._plain = {plain(name): at for at, name in enumerate(names)}

    def place(self, name: str) -> int | None:
        """From 0; None: it is not in the list."""
        found = self._plain.get(plain(name))
        return self._folded.get(fold(name)) if found is None else found


def found_in(header: Sequence[str], names: Sequence[str]) -> int:
    """How many of `names` the header has."""
    known = Names(names)
    return len({known.place(cell) for cell in header} - {None})


def match_columns(header: Sequence[str], names: Sequence[str], path: Path) -> Matched:
    """Where each of `names` is in the header of the file at `path`.

    Raises:
        UsageError: some are missing, or there twice.
    """
    known = Names(names)
    places = [known.place(cell) for cell in header]
    counts = Counter(places)
    twice = [name for at, name in enumerate(names) if counts[at] > 1]
    if twice:
        raise UsageError(f"{path}: {_columns(twice)} listed twice; keep one of them")
    missing = [name for at, name in enumerate(names) if not counts[at]]
    if missing:
        raise UsageError(
            f"{path}: {_columns(missing)} missing; the header line must name every variable of the study as the study does"
            + _nearly(header, missing)
        )
    extra = [at for at, place in enumerate(places, start=1) if place is None]
    return Matched([places.index(at) for at in range(len(names))], extra)


def check_extra(extra: Sequence[int], refused: bool, path: Path) -> list[str]:
    """What to say of columns that are not in the study.

    Raises:
        UsageError: there are any, and the study refuses them.
    """
    if not extra:
        return []
    which = "column number " if len(extra) == 1 else "columns number "
    which += listed([str(at) for at in extra])
    isnt = "is no variable" if len(extra) == 1 else "are no variables"
    if refused:
        raise UsageError(
            f"{path}: {which} {isnt} of the study, which has data.extra_columns = 'refuse'; take out of the file what is not in the study"
        )
    return [f"{which} {isnt} of the study and {'is' if len(extra) == 1 else 'are'} not read"]


def listed(items: Sequence[str], most: int = MAX_POSITIONS) -> str:
    """ "3, 4 and 7"; of more than `most`, the first and how many there are besides."""
    if len(items) > most:
        return f"{', '.join(items[:most])} and {len(items) - most} more"
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _columns(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return f"column {quoted[0]} is" if len(names) == 1 else f"columns {listed(quoted)} are"


def _nearly(header: Sequence[str], missing: Sequence[str]) -> str:
    """Where a column differs from a missing name in upper and lower case alone; its own writing is not shown."""
    keys = [fold(cell).casefold() for cell in header]
    hints = [
        f"column number {keys.index(fold(name).casefold()) + 1} differs from '{name}' in upper and lower case only"
        for name in missing
        if keys.count(fold(name).casefold()) == 1
    ]
    return "".join(f"; {hint}" for hint in hints[:5])

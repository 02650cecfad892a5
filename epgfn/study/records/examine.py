"""What the owner of a file should look at before anything is trained on it: each column on the study's public scale, and what is odd.

Everything here is computed from the records, without noise: for local eyes alone. Warnings are loud where training would give a
result that means something else than people think: another unit, codes that stand for missing values, values that stand apart, records
that alone make two columns look related or are there several times, columns that are copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from epgfn.study import Study
from epgfn.study.missing import is_blank
from epgfn.study.records.apart import Leverage, Places, leverages, standing_apart
from epgfn.study.records.names import listed
from epgfn.study.records.scale import on_scale
from epgfn.study.records.table import Floats, Numbers, Table
from epgfn.study.records.units import Change, fitting, place, two_units
from epgfn.study.settings import Variable

CODES: Final = (
    *(sign * float("9" * digits) for digits in range(1, 8) for sign in (-1, 1)),
    *(-1.0, -8.0, 0.0, 77.0, 88.0, 777.0, 888.0, -998.0, 9998.0, -88.0, -77.0),
)
"""Numbers that people write for a value that is missing."""
FEWEST: Final = 10
"""Records below which nothing is said of spreads."""
OFF, WIDE, NARROW = 4.0, 6.0, 1 / 8
"""Scale units from the centre, and spreads, beyond which a column is hardly on its scale, whatever the reason."""
SUSPECT_OFF, SUSPECT_WIDE, SUSPECT_NARROW = 3.0, 4.0, 1 / 4
"""The same where a known change of units would put it there."""
ALONE, ALONE_AND_AGAIN = 5.0, 1.5
"""Spreads between a code and the nearest other value; of one that is there more than once."""
MOST_OF_TWO: Final = 9.0
"""What a code is at most that may be one of the two values of an ordinary column."""
STEPS_OFF: Final = 1.5
"""Smallest steps between the other values that it must be away at least, as -1 is an ordinary neighbour of 0 and 1."""
FAR, FAR_AMONG = 30.0, 600
"""Scale units from the centre beyond which values are loud however long the tail of their column is; of more values than that it grows with
the cube root of their number, as the largest of an honest column with such a tail does."""
ORDINARY: Final = 0.75
"""Scale units that a column is taken to spread at least, when a value is said to be many spreads away."""
LOOK: Final = "correct the file, or leave out what is wrong"
ALIKE, COPIES = 0.98, 0.99999
"""Absolute correlations."""
OUTSIDE, MOST = 0.10, 0.50
"""Shares beyond the public bounds; the second where noise about a point carries records over them."""
AGAIN: Final = 0.10
SHARE: Final = 0.30


class Warned(NamedTuple):
    """A sentence; `loud` where nobody should train without having read it."""

    text: str
    loud: bool


@dataclass(frozen=True)
class ColumnFacts:
    """One column. Numbers: mean, standard deviation, smallest and largest on the study's scale, in units of it; `outside`: the share beyond
    the public bounds, None without. Categories: None for all of these. `blanks`: cells without a number on the scale, or that could not be
    read. `repeated`: the share of the value that is there most often, of `different` ones."""

    name: str
    count: int
    blanks: int
    mean: float | None
    sd: float | None
    smallest: float | None
    largest: float | None
    outside: float | None
    repeated: float
    different: int


@dataclass(frozen=True)
class Examined:
    """`again`: records that equal an earlier one. `unit`: what a record is called."""

    records: int
    unit: str
    columns: list[ColumnFacts]
    again: int
    warnings: list[Warned]

    @property
    def loud(self) -> list[str]:
        """The sentences of the loud warnings."""
        return [warned.text for warned in self.warnings if warned.loud]


def examine(table: Table, study: Study) -> Examined:
    """What there is to know about the file of one institution that was read for `study`."""
    facts = [
        _facts(raw, v, table.unread.get(v.name, 0))
        for raw, v in zip(table.columns, study.variables, strict=True)
    ]
    warnings = [Warned(doubt, True) for doubt in table.doubts]
    apart: set[int] = set()
    for at, (raw, variable) in enumerate(zip(table.columns, study.variables, strict=True)):
        if variable.is_number and study.columns.unit == "record":
            rows = rows_not_set(study, variable.name, table)
            if len(rows):  # what was set may have any values
                left = table if len(rows) == table.size else table.only(rows)
                said, named = _of_numbers(left.columns[at], variable, left, study)
                warnings += said
                apart |= set(rows[list(named)].tolist())
        elif variable.categories is not None:
            warnings += _of_categories(raw, variable)
    again = 0
    if not (study.columns.alignment or study.columns.single):
        counts = _multiplicities(table.columns)
        again = table.size - len(counts)
        warnings += _repeated(counts, table.columns, any(v.is_number for v in study.variables))
    if study.columns.must_vary:
        warnings += _too_few(table, study)
    untouched = np.flatnonzero(np.isin(np.arange(table.size), _set_somewhere(study, table), invert=True))
    if study.columns.must_vary and len(untouched):
        numbers = _numbers_of(table, study)
        warnings += _collinear([column[untouched] for column, _ in numbers], [v for _, v in numbers])
    if study.columns.scaled and len(untouched):
        warnings += _decided_by_few(table, study, apart | set(_set_somewhere(study, table).tolist()))
    return Examined(
        table.size, study.unit, facts, again, sorted(warnings, key=lambda warned: not warned.loud)
    )


def rows_not_set(study: Study, name: str, table: Table) -> npt.NDArray[np.int64]:
    """Rows in which the variable was observed: not set, by the study's design, and not blank."""
    setting = [at for at, variables in enumerate(study.design.sets.values()) if name in variables]
    rows = np.flatnonzero(~is_blank(table.columns[study.variable_names.index(name)]))
    return rows if table.arms is None else rows[~np.isin(table.arms[rows], setting)]


def _set_somewhere(study: Study, table: Table) -> npt.NDArray[np.int64]:
    """Rows in which something was set."""
    setting = [at for at, variables in enumerate(study.design.sets.values()) if variables]
    return np.zeros(0, np.int64) if table.arms is None else np.flatnonzero(np.isin(table.arms, setting))


def _numbers_of(table: Table, study: Study) -> list[tuple[Floats, Variable]]:
    """The columns that scores take as numbers."""
    return [(c, v) for c, v in zip(table.columns, study.variables, strict=True) if v.is_number]


def _facts(raw: Numbers, variable: Variable, unread: int) -> ColumnFacts:
    blank = is_blank(raw)
    counts = np.unique(raw[~blank], return_counts=True)[1]
    repeated, different = float(counts.max(initial=0)) / len(raw), len(counts)
    if not np.issubdtype(raw.dtype, np.floating):
        unread += int(blank.sum())
        return ColumnFacts(variable.name, len(raw), unread, None, None, None, None, None, repeated, different)
    x = on_scale(raw, variable)
    x = x[np.isfinite(x)]
    some = len(x) > 0
    return ColumnFacts(
        variable.name,
        len(raw),
        len(raw) - len(x) + unread,
        float(x.mean()) if some else None,
        float(x.std()) if some else None,
        float(x.min()) if some else None,
        float(x.max()) if some else None,
        _outside(raw, variable),
        repeated,
        different,
    )


def _outside(raw: Floats, variable: Variable) -> float | None:
    if variable.lower is None and variable.upper is None:
        return None
    low, high = np.float64(-np.inf), np.float64(np.inf)
    below = raw < (low if variable.lower is None else variable.lower)
    return float((below | (raw > (high if variable.upper is None else variable.upper))).mean())


def _of_numbers(raw: Floats, variable: Variable, table: Table, study: Study) -> tuple[list[Warned], set[int]]:
    """What to say of a column, and the records that it names one by one."""
    called, said, named = f"column {variable.name}", [], set[int]()
    if variable.transform == "log" and (none := raw / variable.transform_scale <= 0).any():
        said.append(
            Warned(
                f"{called}: {_cells(none, table)} 0 or below, and the study takes the logarithm: does 0 stand for a missing value?",
                True,
            )
        )
    x = on_scale(raw, variable)
    codes = missing_codes(raw, x)
    said += [
        Warned(
            f"{called}: {_cells(raw == code, table)} {code:g}, far from all others: does it stand for a missing value?",
            True,
        )
        for code in codes
    ]
    named |= set(np.flatnonzero(np.isin(raw, codes)).tolist())
    kept = np.flatnonzero(~np.isin(raw, codes) & np.isfinite(x))
    if study.columns.scaled and len(kept):
        if np.ptp(raw[kept]) == 0:
            said += _constant(variable, len(kept) == len(raw), len(raw))
        else:
            of_scale = list(_of_scale(raw[kept], x[kept], variable))
            said += of_scale
            if not any(warned.loud for warned in of_scale):
                far = kept[_far(x[kept])]
                named |= set(far.tolist())
                said += _of_far(far, x, kept, variable, table)
    outside = _outside(raw, variable)
    if outside and outside > 0.01:
        said.append(
            Warned(
                f"{called}: {_percent(outside)} of the values are outside the public bounds: another unit, or bounds that are too narrow?",
                outside > (OUTSIDE if study.columns.scaled else MOST),
            )
        )
    counts = np.unique(raw, return_counts=True)[1]
    if len(counts) > FEWEST and counts.max() > SHARE * len(raw):
        said.append(
            Warned(
                f"{called}: one value is in {_percent(counts.max() / len(raw))} of the records: a limit of detection, or a filled-in "
                "value?",
                False,
            )
        )
    return said, named


def _constant(variable: Variable, entirely: bool, n: int) -> Iterator[Warned]:
    if n > 1:
        yield Warned(
            f"column {variable.name}: {'is constant' if entirely else 'is constant but for these'}, and nothing can be learned of what "
            "does not vary: take it out of the study, or give records in which it varies",
            True,
        )


def _of_scale(raw: Floats, x: Floats, variable: Variable) -> Iterator[Warned]:
    """Whether a column is on the study's scale."""
    called, (middle, spread) = f"column {variable.name}", place(x)
    if (
        spread < SUSPECT_NARROW
    ):  # half of the values may be equal, or nearly, and the others as they should be
        spread = max(spread, float(np.clip(x, *np.quantile(x, [0.05, 0.95])).std()))
    enough = len(x) >= FEWEST
    binary = len(np.unique(raw)) == 2
    wide, narrow = (spread > SUSPECT_WIDE, spread < SUSPECT_NARROW) if enough else (False, False)
    suspect = abs(middle) > SUSPECT_OFF or wide or narrow
    scaled = partial(on_scale, variable=variable)
    if enough and not binary and (found := two_units(raw, scaled, variable.name)):
        low, high, low_on_scale, changes = found
        yield Warned(
            f"{called}: its values are of two groups, {low} of low and {high} of high ones: two units in one column? The "
            f"{'high' if low_on_scale else 'low'} ones {_would_fit(changes)}",
            True,
        )
        return
    changes = fitting(raw, scaled, variable.name) if suspect and not binary else []
    surely = enough and not binary and not NARROW <= spread <= WIDE
    if changes or abs(middle) > OFF or surely:
        what = (
            f"mean {abs(float(x.mean())):.3g} scale units from the centre"
            if abs(float(x.mean())) > max(SUSPECT_OFF, spread)
            else f"its spread is {spread:.3g} times the study's scale"
        )
        yield Warned(
            f"{called}: {what}: another unit?" + (f" The values {_would_fit(changes)}" if changes else ""),
            True,
        )
    elif suspect:
        yield Warned(
            f"{called}: mean {x.mean():.2g}, spread {spread:.2g} on the study's scale, which should be near 0 and 1",
            False,
        )


def _would_fit(changes: Sequence[Change]) -> str:
    fits = " or ".join(change.words + (f" ({change.name})" if change.name else "") for change in changes)
    return f"{fits} would fit."


def _far(x: Floats) -> Places:
    """Places of values that stand apart, or are far off the study's scale, in order."""
    return np.union1d(
        standing_apart(x, least_spread=ORDINARY),
        np.flatnonzero(np.abs(x) > FAR * max(1.0, len(x) / FAR_AMONG) ** (1 / 3)),
    )


def _of_far(far: Places, x: Floats, kept: Places, variable: Variable, table: Table) -> Iterator[Warned]:
    if not len(far):
        return
    which = np.zeros(len(x), dtype=bool)
    which[far] = True
    furthest = float(np.abs(x[far] - np.median(x[kept])).max())
    many = len(far) > 1
    yield Warned(
        f"column {variable.name}: {_cells(which, table)} far from the others, {'up to ' if many else ''}{furthest:.3g} scale units from "
        f"the middle: mistyped, or in another unit? {'They' if many else 'It'} may decide the result: {LOOK}",
        True,
    )


def _decided_by_few(table: Table, study: Study, apart: set[int]) -> Iterator[Warned]:
    """Records that alone make two columns look related, or hide that they are, but those in `apart`, which are named already."""
    numbers = _numbers_of(table, study)
    if len(numbers) < 2:
        return
    variables = [v for _, v in numbers]
    scaled = np.stack([on_scale(c, v) for c, v in numbers])
    kept = np.flatnonzero(np.isfinite(scaled).all(0) & ~np.isin(np.arange(table.size), list(apart)))
    pairs: dict[tuple[int, ...], list[Leverage]] = {}
    for each in leverages(scaled[:, kept]):
        pairs.setdefault(tuple(kept[each.places].tolist()), []).append(each)
    for places, found in pairs.items():
        most = max(found, key=lambda each: abs(each.r - each.rest))
        which = np.zeros(table.size, dtype=bool)
        which[list(places)] = True
        many = len(places) > 1
        others = len(found) - 1
        yield Warned(
            f"columns {variables[most.i].name} and {variables[most.j].name}: {_records(which, table)} alone "
            f"{'make' if many else 'makes'} their correlation {most.r:.2f}; without {'them' if many else 'it'} it is {most.rest:.2f}"
            + (
                f" (and likewise of {others} other pair{'s' if others > 1 else ''} of columns)"
                if others
                else ""
            )
            + f". Mistyped, or in another unit? {LOOK[0].upper()}{LOOK[1:]}",
            True,
        )


def _too_few(table: Table, study: Study) -> Iterator[Warned]:
    if table.size < len(study.variables) and not study.privacy.is_private:
        yield Warned(
            f"{table.size} record{'s are' if table.size > 1 else ' is'} fewer than the study has variables ({len(study.variables)}): "
            "training refuses the file; more records are needed",
            True,
        )


def missing_codes(raw: Floats, x: Floats) -> list[float]:
    """Which `CODES` are in `raw` (n,), apart from all other values; `x` (n,): the same after any transform to a scale."""
    present = [code for code in dict.fromkeys(CODES) if (raw == code).any()]
    found = []
    for code in present:
        others = [other for other in present if other != 0.0 or code == 0.0]
        rest = ~np.isin(raw, others) & np.isfinite(x)
        if rest.sum() < FEWEST // 2:
            continue
        if np.ptp(raw[rest]) == 0:
            if abs(code) > MOST_OF_TWO:
                found.append(code)
            continue
        low, high, (_, spread) = x[rest].min(), x[rest].max(), place(x[rest])
        at = x[raw == code]
        gap = spread * (ALONE if len(at) == 1 else ALONE_AND_AGAIN)
        gap = max(gap, STEPS_OFF * float(np.diff(np.unique(x[rest])).min()))
        if np.isfinite(at[0]) and (at[0] < low - gap or at[0] > high + gap):
            found.append(code)
    return found


def _of_categories(codes: Numbers, variable: Variable) -> Iterator[Warned]:
    names = variable.categories or []
    absent = [f"'{name}'" for at, name in enumerate(names) if not (codes == at).any()]
    if absent:
        verb = "does" if len(absent) == 1 else "do"
        yield Warned(f"column {variable.name}: {listed(absent, 8)} {verb} not occur", False)


def _multiplicities(columns: Sequence[Numbers]) -> Numbers:
    """How often each different record is there."""
    rows = np.ascontiguousarray(np.stack([np.asarray(c, dtype=np.float64) + 0.0 for c in columns], axis=1))
    keys = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0]
    return np.asarray(np.unique(keys, return_counts=True)[1])


def _repeated(counts: Numbers, columns: Sequence[Numbers], numeric: bool) -> Iterator[Warned]:
    """Records that are there several times, more than columns without any dependence would make them."""
    n, times = int(counts.sum()), int(np.gcd.reduce(counts))
    if times > 1 and len(counts) >= FEWEST // 2:
        yield Warned(
            f"every record is there {times} times, or a multiple of it: is the file a copy of copies?", True
        )
        return
    pairs = float((counts * (counts - 1.0)).sum()) / 2
    share = (n - len(counts)) / n
    if not numeric or not pairs:
        return
    expected = n * (n - 1) / 2
    for column in columns:
        each = np.unique(column, return_counts=True)[1] / n
        expected *= float((each**2).sum())
    odd = share > AGAIN and pairs > 10 * expected + 10
    yield Warned(
        f"{n - len(counts)} of {n} records equal an earlier one" + (": are some there twice?" if odd else ""),
        odd,
    )


def _collinear(columns: Sequence[Numbers], variables: Sequence[Variable]) -> Iterator[Warned]:
    if len(columns) < 2:
        return
    scaled = np.stack([on_scale(c, v) for c, v in zip(columns, variables, strict=True)])
    scaled = scaled[:, np.isfinite(scaled).all(0)]
    if scaled.shape[1] < FEWEST:
        return
    centred = scaled - scaled.mean(1, keepdims=True)
    norms = np.sqrt((centred**2).sum(1))
    varies = norms > 0
    with np.errstate(all="ignore"):
        r = np.where(varies[:, None] & varies, centred @ centred.T / np.outer(norms, norms), 0.0)
    for i, j in zip(*np.nonzero(np.triu(np.abs(r) >= ALIKE, 1)), strict=True):
        same = abs(r[i, j]) >= COPIES
        yield Warned(
            f"columns {variables[i].name} and {variables[j].name}: "
            + (
                "one is a copy of the other, perhaps in another unit"
                if same
                else f"correlation {r[i, j]:.3f}, nearly the same"
            ),
            bool(same),
        )


def _cells(which: Numbers, table: Table) -> str:
    """ "3 cells (lines 4, 9 and 12) are" """
    many = int(which.sum()) > 1
    return f"{which.sum()} cell{'s' if many else ''} ({_records(which, table)}) {'are' if many else 'is'}"


def _records(which: Numbers, table: Table) -> str:
    """ "lines 4, 9 and 12"; of many the first, and how many there are besides."""
    found, places = np.flatnonzero(which).tolist(), table.places()
    return f"{table.unit}{'s' if len(found) > 1 else ''} {listed([str(places[at]) for at in found], 8)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"

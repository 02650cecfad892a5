"""A first study.toml from the columns of a table, for people to go on from.

From the table it takes the names of its columns, what sort each is, and how their values are shaped, which suggests a transform.
Scales and lists of categories are public: they come from ranges and lists that a person gives, or are left to be filled in. Only where
asked for are they taken from the records, and then the file says so.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np

from epgfn.base.errors import UsageError
from epgfn.base.identifiers import NODE_ID
from epgfn.base.invisible import hidden_in
from epgfn.study.mistakes import PLACEHOLDER, did_you_mean
from epgfn.study.records.apart import standing_apart
from epgfn.study.records.columns import Column, Sort, called, read_columns
from epgfn.study.records.examine import missing_codes
from epgfn.study.records.names import Names, listed
from epgfn.study.records.table import Floats
from epgfn.study.variables import MOST_VARIABLES

MOST_OUTSIDE: Final = 0.1
"""Share of a column's values outside its public range, beyond which its owner is told."""
Transform = Literal["none", "log", "arcsinh"]
GIVES_AWAY: Final = (
    "centre and scale are the mean and standard deviation of these records (values far from all others left out) after the transform, "
    "rounded to two digits, and categories "
    "those that occur in them: whoever reads the study, which all parties and the public do, reads that. Do not use it under "
    "differential privacy, which does not cover it"
)
BLANKS: Final = (
    'training refuses a file with blanks unless the study says under [data] what they mean, as in missing = "complete-rows" '
    "(docs/studies.md#blanks)"
)
_WHY_NOT: Final[dict[Sort, str]] = {
    "date": "dates or times",
    "identifier": "looks like an identifier",
    "text": "free text, or too many categories",
    "empty": "empty",
    "constant": "holds one value only",
    "commas": "its commas may stand before decimals or between thousands; write its numbers without them, or with a decimal point",
    "category": "categories, and this study is about numbers",
    "number": "numbers, and this study is about categories",
}
_WANTED: Final[dict[str, Sequence[Sort]]] = {
    "numbers": ["number"],
    "categories": ["category"],
    "both": ["number", "category"],
}


@dataclass(frozen=True)
class Public:
    """What a person says: a usual range of a column's values, in the column's units, and the categories of others."""

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Draft(NamedTuple):
    """The `text` of the file; the names of its `variables`, of those that still need something (`open`); names and reasons of columns that
    were `left_out`; and `notes` on the records, for their owner alone."""

    text: str
    variables: list[str]
    open: list[str]
    left_out: list[tuple[str, str]]
    notes: list[str]


def draft_study(
    paths: Sequence[Path],
    name: str,
    public: Public = Public(),
    *,
    from_my_data: bool = False,
    about: Literal["numbers", "categories", "both"] | None = None,
) -> Draft:
    """A study of graphs over the columns that all the files have.

    about: which columns it takes; None: all of numbers and of categories.

    Raises:
        UsageError: a file is no table; what a person says is of no column, or makes no sense; or too few columns are left.
    """
    columns, some, with_comma = read_columns(paths)
    known = Names([column.name for column in columns])
    ranges = {_named(key, columns, known): _checked(key, value) for key, value in public.ranges.items()}
    lists = {_named(key, columns, known): _listed(key, value) for key, value in public.categories.items()}
    _require_once(ranges, lists, public)
    seen = {column.name: column for column in columns}
    columns = [_as_told(column, ranges, lists) for column in columns]
    chosen = about or "both"
    wanted = _WANTED[chosen]
    taken: list[Column] = []
    left_out = [(column, "not in all files") for column in some]
    for column in columns:
        why = _unfit(column, wanted)
        if why is None and len(taken) == MOST_VARIABLES:
            why = f"a study has {MOST_VARIABLES} variables at most"
        if why is None:
            taken.append(column)
        else:
            left_out.append((column.name, why))
    if len(taken) < 2:
        which = "numbers or categories" if chosen == "both" else chosen
        raise UsageError(
            f"{_files(paths)} leave{'s' if len(paths) == 1 else ''} {len(taken)} column{'' if len(taken) == 1 else 's'} of {which}, and a "
            f"study of graphs needs two at least{_told(left_out)}"
        )
    parts, still, odd = [], [], list[str]()
    for column in taken:
        if column.sort == "number":
            column, said = _without_suspects(column)
            odd += [
                f"{text}; {'left out of its centre and scale' if from_my_data and column.name not in ranges else 'look at it'}"
                for text in said
            ]
        lines, complete = (
            _of_numbers(column, ranges.get(column.name), from_my_data)
            if column.sort == "number"
            else _of_categories(column, lists.get(column.name), from_my_data)
        )
        parts.append("\n".join(["[[variables]]", f"name = {_text(column.name)}", *lines]))
        still += [] if complete else [column.name]
    head = _head(name, paths, taken, all(with_comma), from_my_data, left_out)
    notes = [
        f"column '{column.name}' has {column.blanks} cell{'s' if column.blanks > 1 else ''} without a value"
        for column in taken
        if column.blanks
    ]
    if notes:
        notes.append(BLANKS)
    if any(with_comma) and not all(with_comma):
        some_do = listed([path.name for path, has in zip(paths, with_comma, strict=True) if has], 8)
        notes.append(
            f"{some_do} {'writes' if sum(with_comma) == 1 else 'write'} decimals with a comma and the other files do not: each is read as "
            "it is, but under a privacy mode the study names one mark (decimal under [data]), and then files have to be written alike"
        )
    notes += odd
    notes += [text for name, value in ranges.items() for text in _of_range(seen[name], value)]
    notes += [text for name, value in lists.items() for text in _of_list(seen[name], value)]
    unused = [key for key in (*ranges, *lists) if key not in {column.name for column in taken}]
    notes += [f"what was said of column '{key}' is not used, as the study does not take it" for key in unused]
    return Draft("\n\n".join([head, *parts]) + "\n", [c.name for c in taken], still, left_out, notes)


def suggested(values: Floats, public: tuple[float, float] | None) -> Transform:
    """The transform that makes the values more even: of a public range that spans a decade a logarithm; else by the skewness."""
    finite = values[np.isfinite(values)]
    if public is not None:
        low, high = public
        return "log" if low > 0 and high / low >= 10 else "none"
    if len(finite) < 8 or abs(_skewness(finite)) < 1.5:
        return "none"
    if (finite > 0).all():
        return "log" if abs(_skewness(np.log(finite))) < abs(_skewness(finite)) / 2 else "none"
    bent = np.arcsinh(finite)
    return "arcsinh" if abs(_skewness(bent)) < abs(_skewness(finite)) / 2 else "none"


def _of_numbers(
    column: Column, public: tuple[float, float] | None, from_my_data: bool
) -> tuple[list[str], bool]:
    """The lines of a variable of numbers, and whether nothing is left to fill in."""
    transform = suggested(column.numbers, public)
    lines = []
    if transform != "none":
        why = "the range spans a decade or more" if public else "the values are skewed"
        lines.append(f'transform = "{transform}"    # suggested, because {why}; or "none"')
    if public is not None:
        low, high = (math.log(end) if transform == "log" else end for end in public)
        lines += [
            f"centre = {_digits((low + high) / 2, 4)}    # from the public range {public[0]:g} to {public[1]:g}",
            f"scale = {_digits((high - low) / 4, 4)}",
            f"lower = {_digits(public[0], 12)}",
            f"upper = {_digits(public[1], 12)}",
        ]
        return lines, True
    if from_my_data:
        values = column.numbers[np.isfinite(column.numbers)]
        x = _transformed(values, transform)
        lines += [
            f"centre = {_digits(float(x.mean()), 2)}    # from the records",
            f"scale = {_digits(float(x.std()), 2)}",
        ]
        return lines, True
    unit = "" if transform == "none" else f", after the {'logarithm' if transform == 'log' else 'arcsinh'}"
    lines += [
        f'centre = "{PLACEHOLDER}"    # where ordinary values lie{unit}: a published mean, or the middle of a usual range',
        f'scale = "{PLACEHOLDER}"     # how far they spread: a published standard deviation, or a quarter of that range',
    ]
    return lines, False


def _of_categories(
    column: Column, public: Sequence[str] | None, from_my_data: bool
) -> tuple[list[str], bool]:
    if public is not None or from_my_data:
        names = ", ".join(_text(value) for value in (public or column.values))
        return [f"categories = [{names}]" + ("" if public else "    # from the records")], True
    return [f'categories = "{PLACEHOLDER}"    # all that may occur, as in ["no", "yes"]'], False


def _head(
    name: str,
    paths: Sequence[Path],
    taken: Sequence[Column],
    commas: bool,
    from_my_data: bool,
    left_out: Sequence[tuple[str, str]],
) -> str:
    said = [
        "# A draft: read it, fill in what is marked \"?\", and run: epgfn study check",
        "# Of the table it holds the names of columns, what sort each is, and transforms that the values' shape suggests.",
    ]  # fmt: skip
    if from_my_data:
        said += ["# FROM THE RECORDS: " + GIVES_AWAY + "."]
    said += [f"# Left out: {called(column)} ({why})" for column, why in left_out]
    nodes = list(dict.fromkeys(_node(path) for path in paths))
    lines = [
        "",
        f"name = {_text(name)}",
        f"roster = [{', '.join(map(_text, nodes))}]    # the institutions that take part",
        "",
        "[space]",
        'kind = "dag-by-sinks"',
        f"max_parents = {min(3, len(taken) - 1)}",
        "",
        "[target]",
        *_target({column.sort for column in taken}),
    ]
    if commas:
        lines += ["", "[data]", 'decimal = ","']
    return "\n".join(said + lines)


def _target(sorts: set[Sort]) -> list[str]:
    """The score of what the study takes, in lines."""
    if sorts == {"number"}:
        return ['kind = "bge"', 'mean = "unknown"']
    if sorts == {"category"}:
        return ['kind = "bdeu"']
    return [
        'kind = "conditional-gaussian"    # categories and numbers together; no number leads to a category. Where one has to, as to an',
        '                                 # outcome, give it numbers: categories = ["no", "yes"], numbers = [0, 1], centre, scale',
    ]


def _unfit(column: Column, wanted: Sequence[Sort]) -> str | None:
    """Why a column is left out."""
    if column.sort not in wanted:
        return _WHY_NOT[column.sort]
    if (
        not column.name.isprintable()
        or hidden_in(column.name)
        or len(column.name) > 64
        or ";" in column.name
        or "->" in column.name
    ):
        return "its name does not do for a variable: at most 64 characters, neither ';' nor '->'"
    if column.sort == "category" and any(
        len(v) > 64 or not v.isprintable() or hidden_in(v) for v in column.values
    ):
        return "its values do not do for categories: at most 64 characters"
    return None


def _as_told(column: Column, ranges: Mapping[str, object], lists: Mapping[str, object]) -> Column:
    """What a person gives a range of are numbers, and what they list are categories."""
    if column.name in lists:
        return Column(column.name, "category", column.numbers, column.values, column.blanks)
    if column.name in ranges:
        if not len(column.numbers) and column.sort not in ("constant", "identifier"):
            raise UsageError(
                f"column '{column.name}' does not hold numbers, so it has no range; take it out of --range"
            )
        return Column(column.name, "number", column.numbers, [], column.blanks)
    return column


def _without_suspects(column: Column) -> tuple[Column, list[str]]:
    """A column of numbers without codes for missing values and values that stand apart, and what to tell its owner of them."""
    raw, said = column.numbers[np.isfinite(column.numbers)], []
    for code in missing_codes(raw, raw):
        count = int((raw == code).sum())
        said.append(
            f"column '{column.name}': {count} cell{'s are' if count > 1 else ' is'} {code:g}, far from all others: does it stand for a "
            "missing value?"
        )
        raw = raw[raw != code]
    apart = standing_apart(_transformed(raw, suggested(raw, None)))
    if count := len(apart):
        said.append(
            f"column '{column.name}': {count} value{'s are' if count > 1 else ' is'} far from all others: mistyped, or in another unit?"
        )
        raw = np.delete(raw, apart)
    return Column(column.name, column.sort, raw, column.values, column.blanks), said


def _transformed(values: Floats, transform: Transform) -> Floats:
    return np.asarray(
        np.log(values) if transform == "log" else np.arcsinh(values) if transform == "arcsinh" else values
    )


def _of_range(column: Column, public: tuple[float, float]) -> list[str]:
    """What to tell the owner where the records contradict a public range."""
    if not len(column.numbers):
        return []
    outside = float(((column.numbers < public[0]) | (column.numbers > public[1])).mean())
    if outside <= MOST_OUTSIDE:
        return []
    return [
        f"column '{column.name}': {100 * outside:.0f} % of its values are outside the range {public[0]:g} to {public[1]:g}: another unit, "
        "or a range that is too narrow?"
    ]


def _of_list(column: Column, public: Sequence[str]) -> list[str]:
    """What to tell the owner where the records have a category that is not in a list."""
    known = Names(public)
    values = column.values or sorted({f"{number:g}" for number in column.numbers})
    if not values:
        return [
            f"column '{column.name}': {_WHY_NOT[column.sort]}, and --categories lists what may occur in it"
        ]
    more = [f"'{called(value)}'" for value in values if known.place(value) is None]
    if not more:
        return []
    return [
        f"column '{column.name}' has {listed(more, 8)}, which --categories does not list: training refuses a file with a category that is "
        "not listed"
    ]


def _listed(key: str, values: Sequence[str]) -> Sequence[str]:
    twice = [value for value in dict.fromkeys(values) if list(values).count(value) > 1]
    if twice:
        raise UsageError(f"--categories of '{key}' lists '{twice[0]}' twice; list each category once")
    return values


def _require_once(ranges: Mapping[str, object], lists: Mapping[str, object], public: Public) -> None:
    """Raises:
    UsageError: two things are said of one column.
    """
    if len(ranges) < len(public.ranges) or len(lists) < len(public.categories):
        raise UsageError(
            "two names that were given to --range, or to --categories, are of one column; give each column once"
        )
    if both := [name for name in ranges if name in lists]:
        raise UsageError(f"column '{both[0]}' has a range and categories; give one of them")


def _named(key: str, columns: Sequence[Column], known: Names) -> str:
    place = known.place(key)
    if place is None:
        names = [column.name for column in columns]
        raise UsageError(
            f"there is no column '{key}' in all files{did_you_mean(key, names)}; write its name as the header has it"
        )
    return columns[place].name


def _checked(key: str, value: tuple[float, float]) -> tuple[float, float]:
    if not (math.isfinite(value[0]) and math.isfinite(value[1]) and value[0] < value[1]):
        raise UsageError(f"the range of '{key}' must be two numbers, the lower first, as in {key}=40:250")
    return value


def _node(path: Path) -> str:
    letters = "".join(
        c for c in unicodedata.normalize("NFKD", path.stem.casefold()) if not unicodedata.combining(c)
    )  # ô as o
    plain = re.sub(r"[^a-z0-9]+", "-", letters).strip("-")[:63].strip("-")
    return plain if NODE_ID.fullmatch(plain) else "node-1"


def _skewness(values: Floats) -> float:
    spread = values.std()
    return float((((values - values.mean()) / spread) ** 3).mean()) if spread > 0 else 0.0


def _digits(value: float, digits: int) -> str:
    """As TOML writes a float."""
    return repr(float(f"{value:.{digits}g}"))


def _text(value: str) -> str:
    """As TOML writes a text."""
    return json.dumps(value, ensure_ascii=False)


def _files(paths: Sequence[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else "the files"


def _told(left_out: Sequence[tuple[str, str]]) -> str:
    if not left_out:
        return ""
    return "; left out: " + ", ".join(f"{called(name)} ({why})" for name, why in left_out[:12])

"""Mistakes in a study file as sentences: where, by the variable's name, what is wrong, and what may have been meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from epgfn.base.errors import one_line

PLACEHOLDER: Final = "?"
"""What a draft has where only people can say what belongs there."""
_MUST: Final[dict[str, str]] = {
    "missing": "is missing",
    "float_type": "must be a number, without quotation marks",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "string_type": "must be a text, in quotation marks",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list, in square brackets",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "dict_type": "must be a table",
}


_LENGTHS: Final[dict[str, tuple[str, str, str]]] = {
    "too_short": ("at least", "entry", "entries"),
    "too_long": ("at most", "entry", "entries"),
    "string_too_short": ("at least", "character", "characters"),
    "string_too_long": ("at most", "character", "characters"),
}


class Mistake(NamedTuple):
    """`what` is wrong, `where`, empty for the study as a whole; `variable`: the name of the one it is about, if it is about one."""

    where: str
    what: str
    variable: str | None = None

    def __str__(self) -> str:
        return one_line(f"{self.where}: {self.what}" if self.where else self.what)


class Mistakes(ValueError):
    """Several at once. As a text it is the first; `each` are all of them."""

    def __init__(self, each: Iterable[Mistake]) -> None:
        self.each = list(each)
        super().__init__(str(self.each[0]))


def of_variable(name: str, what: str) -> Mistake:
    """A mistake in what the study says of one variable."""
    return Mistake(f"variable '{name}'", what, name)


def require_none(found: Iterable[Mistake]) -> None:
    """Raises:
    Mistakes: there are any.
    """
    if each := list(found):
        raise Mistakes(each)


def all_of(*checks: Callable[[], None]) -> list[Mistake]:
    """What the checks say, each of which raises ValueError for what is wrong."""
    found: list[Mistake] = []
    for check in checks:
        try:
            check()
        except Mistakes as error:
            found += error.each
        except ValueError as error:
            found.append(Mistake("", str(error)))
        except Exception:
            if not found:  # else it may have relied on what was found to be wrong
                raise
    return found


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """The known word that is nearest, as a question in brackets; empty if none is near."""
    near = nearest(word, known)
    return f" (did you mean '{near}'?)" if near else ""


def nearest(word: object, known: Iterable[str]) -> str | None:
    """The known word that is nearest, whatever its capitals, hyphens and underscores."""
    if not isinstance(word, str):
        return None
    plain = {k.lower().replace("-", "_"): k for k in known}
    close = get_close_matches(word.strip().lower().replace("-", "_"), plain, n=1, cutoff=0.6)
    return plain[close[0]] if close else None


def read(
    detail: Mapping[str, Any], values: Any, settings: Callable[[str], Mapping[str, set[str]]]
) -> list[Mistake]:
    """One of pydantic's `errors()` of a study in words; `values`: the file. `settings(table)`: of that table, and then of all others,
    the names of the settings; "variables" and "" are tables too."""
    raised = detail.get("ctx", {}).get("error")
    loc = detail["loc"]
    where, variable = _where(loc, values)
    if isinstance(raised, Mistakes):
        return raised.each
    return [Mistake(where, _what(detail, loc, settings), variable)]


def _where(loc: tuple[Any, ...], values: Any) -> tuple[str, str | None]:
    """("variables", 3, "scale") as "variable 'LDL', scale"; and the variable's name."""
    if loc[:1] != ("variables",) or len(loc) < 2:
        return ".".join(str(part) for part in loc), None
    try:
        name = values["variables"][loc[1]]["name"]
    except (LookupError, TypeError):
        name = None
    called = f"variable '{name}'" if isinstance(name, str) else f"variable number {loc[1] + 1}"
    rest = f", {loc[2]}" if len(loc) > 2 else ""
    return called + rest, name if isinstance(name, str) else None


def _what(
    detail: Mapping[str, Any], loc: tuple[Any, ...], settings: Callable[[str], Mapping[str, set[str]]]
) -> str:
    kind, given = detail["type"], detail.get("input")
    if given == PLACEHOLDER and kind != "missing":
        return "is still to be filled in"
    if kind == "extra_forbidden":
        return _unknown(loc, settings)
    if kind == "list_type" and loc == ("variables",):
        return "must be a list: write [[variables]], in double brackets, above each variable"
    if kind == "literal_error":
        said = str(detail["msg"]).replace("Input should be", "must be")
        options = str(detail["ctx"]["expected"]).replace(" or ", ", ").split(", ")
        return said + did_you_mean(given, [option.strip("'") for option in options])
    if kind in _MUST:
        return _MUST[kind]
    if kind in _LENGTHS:
        return _length(kind, detail.get("ctx", {}))
    return str(detail["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")


def _length(kind: str, limits: Mapping[str, Any]) -> str:
    """Of a text or a list that is too short or too long."""
    bound, one, many = _LENGTHS[kind]
    count = limits["min_length" if kind.endswith("short") else "max_length"]
    if kind.endswith("short") and count == 1:
        return "must not be empty"
    return f"must have {bound} {count} {one if count == 1 else many}"


def _unknown(loc: tuple[Any, ...], settings: Callable[[str], Mapping[str, set[str]]]) -> str:
    """Of a setting that there is not."""
    table = str(loc[0]) if len(loc) > 1 else ""
    known, key = settings(table), str(loc[-1])
    if near := nearest(key, known[table]):
        return f"there is no such setting (did you mean '{near}'?)"
    homes = [name for name, keys in known.items() if name not in ("variables", "") and key in keys]
    if key in known.get("", ()):
        return f"there is no such setting here; {key} stands at the head of the file, above the first table"
    if homes:
        return f"there is no such setting here; it belongs under {' or '.join(f'[{name}]' for name in homes)}"
    return f"there is no such setting; there are {', '.join(sorted(known[table]))}"

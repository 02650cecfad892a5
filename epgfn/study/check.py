"""All mistakes of a study file at once. Whatever is wrong is taken out and the rest read again, until nothing more is found."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from epgfn.base.toml import TooMuchError
from epgfn.study.kinds import KINDS, kind_in
from epgfn.study.mistakes import Mistake, nearest
from epgfn.study.new import unlike
from epgfn.study.scales import HOW, WITH_SCALES
from epgfn.study.study import Study, in_words, not_shown, parsed, settings_of

ROUNDS: Final = 200
"""More than a file can have mistakes that hide each other."""


class Checked(NamedTuple):
    """The `mistakes`; the `study` if there are none. `all_found`: nothing was left unlooked at because of one of them."""

    mistakes: list[Mistake]
    study: Study | None
    all_found: bool = True


def check_study(raw: bytes) -> Checked:
    """What is wrong with the study file whose bytes these are, scales included, without any records."""
    try:
        values = parsed(raw)
        hidden = not_shown(raw)
    except UnicodeDecodeError:
        return Checked([Mistake("", "it is not UTF-8 text; save it as UTF-8")], None, all_found=False)
    except TooMuchError as error:
        return Checked([Mistake("", f"{error}; a study holds settings, not data")], None, all_found=False)
    except tomllib.TOMLDecodeError as error:
        return Checked([Mistake("", f"it is not valid TOML: {error}")], None, all_found=False)
    found = [Mistake("", hidden)] if hidden else []
    mended, repair = copy.deepcopy(values), _Repair()
    for _ in range(ROUNDS):
        try:
            study = Study.model_validate(mended, context=WITH_SCALES)
        except ValidationError as error:
            details = error.errors()
            for detail in details:
                if detail["loc"] not in repair.places:
                    found += _new(in_words(detail, values), found, repair.variables)
            taken_out = [repair.take_out(mended, detail) for detail in details]
            if True not in taken_out:
                whole = all(detail["loc"] == () for detail in details)
                return Checked(found, None, all_found=whole)
            continue
        found += unlike(study, mended)
        return Checked(found, None) if found else Checked([], Study.from_bytes(raw))
    return Checked(found, None, all_found=False)


def advice(mistakes: list[Mistake]) -> str:
    """How to choose what is missing of a scale, if that is among them; else empty."""
    about = [
        m
        for m in mistakes
        if ("centre" in str(m) or "scale" in str(m)) and ("missing" in m.what or "filled in" in m.what)
    ]
    return f"Centre and scale: {HOW}." if about else ""


def _new(said: list[Mistake], found: list[Mistake], mended: set[str | None]) -> list[Mistake]:
    """Those that were not said before, and are not of a variable of which something was taken out."""
    return [m for m in said if m not in found and m.variable not in mended]


def _least(space: dict[str, Any], taken_out: str) -> None:
    """In place of a limit on parents that was wrong: the default may be one for more variables, which nobody asked for."""
    if nearest(taken_out, ["max_parents"]):
        space.setdefault("max_parents", 1)


class _Repair:
    """Takes out what is wrong. `places` where something stands in that no file said; `variables` of which something is gone."""

    def __init__(self) -> None:
        self.places: set[tuple[Any, ...]] = set()
        self.variables: set[str | None] = set()

    def take_out(self, values: dict[str, Any], detail: Mapping[str, Any]) -> bool:
        """Whether that could be done."""
        loc = tuple(detail["loc"])
        if loc[:1] == ("variables",) and len(loc) > 1 and isinstance(values.get("variables"), list):
            return self._variable(values["variables"], loc, detail["type"] == "extra_forbidden")
        if not loc or loc == ("variables",):
            return False
        if loc == ("name",):
            return self._put(values, loc, "study")
        if loc[0] == "roster":
            given = values.get("roster")
            nodes = range(max(1, len(given)) if isinstance(given, list) else 1)
            return self._put(values, ("roster",), [f"node-{number}" for number in nodes])
        table = values.get(loc[0])
        if len(loc) == 1 and loc[0] in ("space", "target") and isinstance(table, dict):
            return self._kind(values, str(loc[0]), table)
        if len(loc) == 1 or not isinstance(table, dict):
            return values.pop(loc[0], None) is not None and self._gone(loc)
        if detail["type"] == "missing":
            return False
        gone = table.pop(loc[1], None) is not None and self._gone(loc)
        if gone and loc[0] == "space":
            _least(table, str(loc[1]))
        return gone

    def _variable(self, rows: list[Any], loc: tuple[Any, ...], unknown: bool) -> bool:
        row = rows[loc[1]]
        name = row.get("name") if isinstance(row, dict) else None
        key = loc[2] if len(loc) > 2 else None
        if isinstance(row, dict) and unknown and row.pop(key, None) is not None:
            # A setting that was meant is missing now, and has been said to be misspelt.
            if near := nearest(key, settings_of("variables", {})["variables"]):
                row.setdefault(near, 1.0 if near in ("centre", "scale") else row.get(near))
                if row[near] is None:
                    del row[near]
            return True
        whole = isinstance(name, str) and key != "name"
        self.variables.add(name if whole else f"variable number {loc[1] + 1}")
        rows[loc[1]] = {"name": name if whole else f"variable number {loc[1] + 1}"}
        if loc[:2] in self.places:
            return False
        return self._gone(loc[:2])

    def _kind(self, values: dict[str, Any], name: str, table: dict[str, Any]) -> bool:
        """A space or target whose kind is misspelt, or that has another's settings."""
        space = values.get("space", {})
        try:
            kind = kind_in(space)
        except (ValueError, AttributeError):
            near = nearest(table.get("kind"), KINDS) if name == "space" else None
            return near is not None and self._put(table, ("kind",), near)
        targets = {target.name: target for target in kind.targets}
        chosen = table.get("kind", kind.targets[0].name)
        if name == "target" and (not isinstance(chosen, str) or chosen not in targets):
            near = nearest(chosen, targets)
            return near is not None and self._put(table, ("kind",), near)
        model = kind.settings if name == "space" else targets[chosen].settings
        others = [key for key in table if key not in model.model_fields]
        for key in others:
            del table[key]
            if name == "space":
                _least(table, key)
        return bool(others)

    def _put(self, values: dict[str, Any], loc: tuple[Any, ...], value: Any) -> bool:
        if values.get(loc[0]) == value:
            return False
        values[loc[0]] = value
        return self._gone(loc)

    def _gone(self, loc: tuple[Any, ...]) -> bool:
        self.places.add(loc)
        return True

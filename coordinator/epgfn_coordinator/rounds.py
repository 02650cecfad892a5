"""The rounds of one coordinator by name: the first, which is the coordinator's directory itself, and those in rounds/."""

from __future__ import annotations

import re
from typing import Final

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.base.files import read_bytes
from epgfn.base.identifiers import NODE_ID
from epgfn.base.toml import parse_toml
from epgfn_coordinator.home import Home

NAME: Final = NODE_ID
"""Of a round: it is in file names, too."""
MOST: Final = 63
UNNAMED: Final = "first"


def name_for(study_name: str) -> str:
    """What a round of the study with this name is called, unless somebody says otherwise: its letters and digits, lower case."""
    return re.sub("[^a-z0-9]+", "-", study_name.lower())[:MOST].strip("-") or UNNAMED


def name_of(home: Home) -> str:
    """What a round is called; the first by its study's name, as `first` where that cannot be read."""
    if home.house is not None:
        return home.root.name
    try:
        found = parse_toml(read_bytes(home.study, "study file")).get("name")
    except (EpgfnError, ValueError):
        return UNNAMED
    return name_for(found if isinstance(found, str) else "")


def further(home: Home) -> list[Home]:
    """All rounds but the first, by name. What is still being made is none."""
    folder = home.rounds
    if not folder.is_dir():
        return []
    names = sorted(path.name for path in folder.iterdir() if NAME.fullmatch(path.name) and path.is_dir())
    return [home.further(name) for name in names]


def all_rounds(home: Home) -> list[Home]:
    """The first round, then the others by name."""
    return [Home(home.shared), *further(home)]


def find(home: Home, name: str | None) -> Home:
    """The round of that name; without one, the only one that there is.

    Raises:
        UsageError: there is no coordinator in `home`, no such round, or several where none was named.
    """
    home.require()
    found = all_rounds(home)
    names = {name_of(each): each for each in reversed(found)}
    if name is None and len(found) == 1:
        return found[0]
    listed = ", ".join(map(name_of, found))
    if name is None:
        raise UsageError(f"{home.shared} holds several rounds; add --study NAME, one of: {listed}")
    if name not in names:
        raise UsageError(f"{home.shared} holds no round called {name!r}, only: {listed}")
    return names[name]


def options(home: Home) -> str:
    """What names this round on a command line, for sentences that tell somebody what to type."""
    alone = home.house is None and not further(home)
    return f"--home {home.shared}" + ("" if alone else f" --study {name_of(home)}")

"""Names in a study that its readers cannot tell apart: whose variable is this, which node is alice?

Nothing new is begun where two names of a kind look the same, or one holds what nobody sees. Where they differ in capitals alone, or in
signs that are easily taken for one another, people are told, and decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from epgfn.base.invisible import hidden_in
from epgfn.base.lookalikes import alike, code, difference, glimpse, look, look_of_node, mixed
from epgfn.study.mistakes import Mistake, require_none

if TYPE_CHECKING:
    from epgfn.study import Study

MOST_TOLD: Final = 3
"""Pairs that are named."""


def check_names(study: Study) -> None:
    """Raises:
    Mistakes: names of the study cannot be told apart.
    """
    require_none(
        Mistake(where, f"holds {code(hidden)}, which nobody sees; take it out")
        for where, name in _places(study)
        if (hidden := hidden_in(name))
    )
    found = [*_same(study)]
    for one, other in alike(study.roster, look_of_node):
        found.append(
            Mistake(
                "roster",
                f"node ids '{one}' and '{other}' are taken for each other when people read them, in invitations too; rename one of them",
            )
        )
    require_none(found)


def resemblance(study: Study) -> str:
    """Which names people may take for others, in a sentence without its full stop; empty if none."""
    found = [
        f"{what} '{one}' and '{other}'"
        for what, names in _kinds(study)
        for one, other in alike(names, glimpse)
        if look(one) != look(other)
    ]
    said = []
    if found:
        more = f" (and {len(found) - MOST_TOLD} more)" if len(found) > MOST_TOLD else ""
        said.append(
            f"{', '.join(found[:MOST_TOLD])}{more} differ only in capitals or in signs that look alike; rename them unless everybody will "
            "read them as two"
        )
    for what, names in _kinds(study):
        for name in names:
            if letter := mixed(name):
                said.append(
                    f"{what} '{name}' is written with {letter}, which looks like a Latin letter; who types the name will miss it"
                )
    return "; ".join(said[:MOST_TOLD])


def _same(study: Study) -> Iterator[Mistake]:
    for what, names in _kinds(study):
        for one, other in alike(names, look):
            yield Mistake(
                f"{what} '{other}'",
                f"looks the same as {what} '{one}' and is another name, by {difference(one, other)}; give one of them a name that people "
                "can tell apart",
                other if what == "variable" else None,
            )


def _kinds(study: Study) -> Iterator[tuple[str, list[str]]]:
    """Lists of names of which a reader must be able to tell each from every other, and what they are names of."""
    yield "variable", study.variable_names
    for variable in study.variables:
        yield f"variable '{variable.name}', category", variable.categories or []
    yield "arm", list(study.design.sets)


def _places(study: Study) -> Iterator[tuple[str, str]]:
    """All names that people read, and where each stands."""
    yield "name", study.name
    for what, names in _kinds(study):
        for name in names:
            yield f"{what} '{name}'", name
    if study.design.column is not None:
        yield "design.column", study.design.column

"""What a study knows of its graphs, in the forms of other software: bnlearn's white and black lists, pgmpy's `ExpertKnowledge`.

write_edges(path, forbidden_edges(study))      bnlearn: read.csv(path), as `blacklist`; `required_edges` as `whitelist`
prior_of_lists(names, whitelist, blacklist)    the settings of [prior] that say what such lists say
ExpertKnowledge(**expert_settings(study))      pgmpy, which epgfn does not need
prior_of_expert(names, knowledge)              and back
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import tomli_w

from epgfn.base.errors import UsageError
from epgfn.base.files import read_bytes, write_atomic
from epgfn.base.spreadsheets import csv_bytes, from_cell
from epgfn.study.knowledge import ANY, knowledge_of
from epgfn.study.mistakes import did_you_mean

if TYPE_CHECKING:
    from epgfn.study import Study

MAX_LIST_BYTES: Final = 1 << 22
FROM, TO = "from", "to"

Edges = list[tuple[str, str]]
Prior = dict[str, Any]


def forbidden_edges(study: Study) -> Edges:
    """All edges that cannot be there, whichever setting says so, by names."""
    known = knowledge_of(study)
    return [] if known is None else _named(study, known.barred)


def required_edges(study: Study) -> Edges:
    """All edges that have to be there, by names."""
    known = knowledge_of(study)
    return [] if known is None else _named(study, known.required)


def expert_settings(study: Study) -> dict[str, Edges]:
    """The arguments of pgmpy's `ExpertKnowledge` that say the same: tiers, candidates, roots and leaves spelt out as edges."""
    return {"forbidden_edges": forbidden_edges(study), "required_edges": required_edges(study)}


def prior_of_expert(names: Sequence[str], knowledge: Any) -> Prior:
    """Settings of [prior] for variables `names` that say what an `ExpertKnowledge` of pgmpy says: forbidden and required edges, temporal
    order, and edges outside its search space, which are forbidden.

    Raises:
        UsageError: it names what is no variable.
    """
    space = {tuple(edge) for edge in getattr(knowledge, "search_space", None) or ()}
    outside = {(i, j) for i in names for j in names if i != j and (i, j) not in space} if space else set()
    forbidden = {*map(tuple, getattr(knowledge, "forbidden_edges", None) or ()), *outside}
    required = {tuple(edge) for edge in getattr(knowledge, "required_edges", None) or ()}
    found = prior_of_lists(names, required, forbidden)
    tiers = [sorted(group) for group in getattr(knowledge, "temporal_order", None) or () if group]
    _check(names, [(name, name) for group in tiers for name in group], "the temporal order")
    return {**found, "tiers": tiers} if tiers else found


def prior_of_lists(
    names: Sequence[str], whitelist: Iterable[tuple[str, ...]], blacklist: Iterable[tuple[str, ...]]
) -> Prior:
    """Settings of [prior] for variables `names`: what is on the `whitelist` is required, what is on the `blacklist` forbidden. Edges to or
    from all other variables are said once, with "*".

    Raises:
        UsageError: a list names what is no variable.
    """
    found: Prior = {}
    for key, edges in (("forbidden", set(blacklist)), ("required", set(whitelist))):
        _check(names, edges, f"the list of {key} edges")
        if edges:
            found[key] = [list(edge) for edge in _shortened(names, edges)]
    return found


def in_toml(prior: Prior) -> str:
    """As a table [prior] of a study file."""
    lines = tomli_w.dumps({"prior": {key: value for key, value in prior.items() if value}}, indent=2)
    return lines or "[prior]\n"


def write_edges(path: Path, edges: Edges) -> None:
    """A CSV of two columns, `from` and `to`, that `read_edges` reads as it was."""
    write_atomic(path, csv_bytes((FROM, TO), edges))


def read_edges(path: Path) -> Edges:
    """The columns `from` and `to` of a CSV, whatever others there are, such as the row names that R writes. An apostrophe that keeps a
    spreadsheet from taking a name for a formula is no part of the name.

    Raises:
        UsageError: there is no such file, or it has no such columns, or a row is too short.
    """
    try:
        text = read_bytes(path, "list of edges", MAX_LIST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    try:
        rows = list(csv.reader(io.StringIO(text)))
    except csv.Error:  # such as a carriage return within a cell, or a cell of megabytes
        raise UsageError(f"{path} is not a table of cells between commas; save it as CSV") from None
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if FROM not in header or TO not in header:
        raise UsageError(
            f"{path} has no columns '{FROM}' and '{TO}', which a list of edges has in its first line"
        )
    tail, head = header.index(FROM), header.index(TO)
    found = []
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(tail, head):
            raise UsageError(f"{path}, row {number}: too few cells; each row names two variables")
        found.append((from_cell(row[tail].strip()), from_cell(row[head].strip())))
    return found


def _named(study: Study, edges: Collection[tuple[int, int]]) -> Edges:
    names = study.variable_names
    return [(names[i], names[j]) for i, j in sorted(edges)]


def _check(names: Sequence[str], edges: Iterable[tuple[str, ...]], where: str) -> None:
    unknown = sorted({name for edge in edges for name in edge} - set(names))
    if unknown:
        near = did_you_mean(unknown[0], names)
        others = f", nor are {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise UsageError(f"{where}: {unknown[0]!r} is no variable of the study{near}{others}")


def _shortened(names: Sequence[str], edges: set[tuple[str, ...]]) -> Edges:
    """The same edges in the order of the variables, with "*" where all others are meant."""
    left, found = {edge for edge in edges if edge[0] != edge[1]}, Edges()
    for name in names:
        for whole, said in (
            ({(other, name) for other in names if other != name}, (ANY, name)),
            ({(name, other) for other in names if other != name}, (name, ANY)),
        ):
            if whole <= left:
                found.append(said)
                left -= whole
    at = {name: number for number, name in enumerate(names)}
    return found + [(a, b) for a, b in sorted(left, key=lambda edge: (at[edge[0]], at[edge[1]]))]

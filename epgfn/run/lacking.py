"""What has to be said with a run's result because nodes lack variables (`epgfn.study.lacks`), by who took part in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from epgfn.run.published import signed_summary
from epgfn.study import Study
from epgfn.study.lacks import caveat, doubted, notes_of, seen_by

if TYPE_CHECKING:
    import pandas as pd

CAVEAT: Final = "caveat"
IN_DOUBT: Final = "in_doubt"
SEEN_BY: Final = "seen_by"
"""Keys of a summary where nodes lack variables; also the columns of a table of edges."""


def summarised(study: Study, nodes: list[str]) -> dict[str, Any]:
    """What a summary says of it, `nodes` being those whose models are in the result: how many of them have both ends of each edge, and,
    where something is in doubt, which pairs and why. Nothing where every node has every variable."""
    if not study.data.lacks:
        return {}
    names = study.variable_names
    found: dict[str, Any] = {SEEN_BY: seen_by(study, nodes)}
    said = caveat(study, nodes)
    pairs = [[names[i], names[j]] for i, j in doubted(study, nodes)]
    return {**found, **({CAVEAT: f"{said}.", IN_DOUBT: pairs} if said else {})}


def took_part(study: Study, summary: Mapping[str, Any]) -> list[str]:
    """Whose models the result of a summary is made of; the roster where it does not say."""
    named = summary.get("aggregated")
    found = [node for node in study.roster if node in named] if isinstance(named, list) else []
    return found or study.roster


def notes_of_run(run_dir: Path, study: Study) -> list[str]:
    """What to say beside anything that is told of a run's result, without full stops."""
    return notes_of(study, took_part(study, signed_summary(run_dir) or {})) if study.data.lacks else []


def with_columns(rows: pd.DataFrame, study: Study, nodes: list[str]) -> pd.DataFrame:
    """A table of edges, with how many nodes have both ends, and whether the pair is in doubt, where nodes lack variables."""
    if not study.data.lacks:
        return rows
    at = {name: number for number, name in enumerate(study.variable_names)}
    seen, doubt = seen_by(study, nodes), set(doubted(study, nodes))
    ends = [(at[parent], at[child]) for parent, child in zip(rows["parent"], rows["child"], strict=True)]
    found = rows.copy()
    found[SEEN_BY] = [seen[i][j] for i, j in ends]
    found[IN_DOUBT] = [(min(end), max(end)) in doubt for end in ends]
    return found

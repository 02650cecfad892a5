"""The lists of a masked sum, as they are in the state: which are closed, who is in them, and how far the sum has come in words."""

from __future__ import annotations

from collections.abc import Mapping
from sqlite3 import Row
from typing import Final

from epgfn.ledger.entries import SumListEntry, SumStep, parse
from epgfn.run.layout import AGGREGATING, OPEN, WAITING
from epgfn.study import Study
from epgfn_coordinator.store import Store

STEPS: Final[tuple[SumStep, ...]] = ("keys", "shares", "uploads", "signing", "unmasking")
IN_WORDS: Final[Mapping[SumStep, str]] = {
    "keys": "have sent their keys for the masked sum",
    "shares": "have sent their shares for the masked sum",
    "uploads": "have sent their masked numbers",
    "signing": "have signed whose total it is",
    "unmasking": "have said what takes the masks off",
}


def due(store: Store) -> SumStep | None:
    """What nodes are to say now."""
    if store.text("state") not in (OPEN, WAITING, AGGREGATING):
        return None
    return next((step for step in STEPS if list_at(store, step) is None), None)


def expected(study: Study, store: Store, step: SumStep) -> tuple[str, ...]:
    """Whose part may count at a step: those of the list before it; of what takes masks off, whoever has signed."""
    if step == "keys":
        return tuple(study.roster)
    if step == "unmasking":
        return tuple(sorted(said_at(store, "signing")))
    before = STEPS[STEPS.index(step) - 1]
    return nodes_of(store, before) or ()


def in_words(study: Study, store: Store) -> str:
    """How far the sum has come, as part of a sentence; empty where nothing is due."""
    step = due(store)
    if step is None:
        return ""
    said, may = len(said_at(store, step)), len(expected(study, store, step))
    if step in ("signing", "unmasking"):
        return f"{said} of the {study.aggregation.quorum} nodes that it takes {IN_WORDS[step]}"
    of = "nodes" if step == "keys" else "nodes that take part"
    return f"{said} of {may} {of} {IN_WORDS[step]}"


def said_at(store: Store, step: SumStep) -> dict[str, str]:
    """SHA-256 of the bundle that each node has sent at a step, by node."""
    if step == "uploads":
        rows: list[Row] = store.rows("SELECT node_id, bundle_sha256 FROM artifacts")
    else:
        rows = store.rows("SELECT node_id, bundle_sha256 FROM sum_parts WHERE step = ?", step)
    return {row["node_id"]: row["bundle_sha256"] for row in rows}


def list_at(store: Store, step: SumStep) -> Row | None:
    return store.row("SELECT step, position FROM sum_lists WHERE step = ?", step)


def nodes_of(store: Store, step: SumStep) -> tuple[str, ...] | None:
    """The nodes of a closed list, sorted; None where it is open."""
    row = list_at(store, step)
    if row is None:
        return None
    entry = parse(store.entry(row["position"]))
    assert isinstance(entry, SumListEntry)
    return tuple(sorted(entry.statements))

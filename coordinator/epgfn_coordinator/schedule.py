"""When a round's time is up: its deadline, and how long the operator then has before it ends without a result."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from epgfn.run.layout import AGGREGATING, OPEN, PUBLISHED, WAITING
from epgfn.study import Study
from epgfn_coordinator.clock import spelled
from epgfn_coordinator.store import TURN_FACT, Store

DEADLINE_FACT: Final = "deadline"
EXTENSION_FACT: Final = "extension"
"""Where in the ledger the newest deadline stands."""
WAITING_FACT: Final = "waiting_since"


def deadline_of(study: Study, store: Store) -> datetime | None:
    """The study's, or what the operator has extended it to."""
    extended = store.text(DEADLINE_FACT)
    return datetime.fromisoformat(extended) if extended else study.aggregation.deadline


def grace_ends(study: Study, store: Store) -> datetime | None:
    """When a round that waits for its operator fails; None in any other state."""
    if store.text("state") != WAITING:
        return None
    return datetime.fromisoformat(store.text(WAITING_FACT)) + timedelta(days=study.aggregation.grace_days)


def due(study: Study, store: Store) -> datetime | None:
    """The next moment at which the clock alone decides something; None if there is none."""
    return deadline_of(study, store) if store.text("state") == OPEN else grace_ends(study, store)


def expiries(study: Study, store: Store) -> list[datetime]:
    """When the clock makes places free again that nobody has enrolled for: of an open round that may then be complete."""
    if not study.added or store.text("state") != OPEN:
        return []
    rows = store.rows("SELECT node_id, expires FROM tokens WHERE node_id NOT IN (SELECT node_id FROM nodes)")
    return [
        datetime.fromisoformat(row["expires"])
        for row in rows
        if row["expires"] and row["node_id"] in study.added
    ]


def outlook(study: Study, store: Store) -> str:
    """What happens next, and when."""
    rules, state = study.aggregation, store.text("state")
    keeps = study.transport.keep_round_key
    if state == OPEN:
        deadline = deadline_of(study, store)
        all_in = "all nodes have" if rules.close_when == "all" else f"{rules.quorum} nodes have"
        said = f"the round closes when {all_in} sent their model"
        if deadline is None:
            return said
        fewer = (
            f"with fewer models than the quorum of {rules.quorum} it waits {rules.grace_days:g} days for you"
        )
        return f"{said}, or at {spelled(deadline)}; {fewer}"
    if state == WAITING:
        ends = grace_ends(study, store)
        until = (
            ""
            if ends is None
            else f"; at {spelled(ends)} the round fails" + ("" if keeps else " and its key is destroyed")
        )
        return f"you extend the deadline (extend --deadline TIME) or end the round (abandon){until}"
    if state == AGGREGATING and (before := store.text(TURN_FACT)):
        return f"the global model is trained when its turn comes, since one round is aggregated at a time; before it: {before}"
    if state == AGGREGATING:
        return "the global model is trained and published" + (
            "" if keeps else ", and the round key destroyed"
        )
    if state == PUBLISHED and rules.late == "new-aggregate":
        return "late models are taken and make further global models"
    return "nothing, the round is over"

"""`epgfn-node status`: where the round stands, as the coordinator says, and what this node has done.

A deadline that the operator has extended counts only as the signed ledger shows it.
"""

from __future__ import annotations

import contextlib
from typing import Any

from epgfn.base.console import Reporter
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.entries import DeadlineEntry
from epgfn.ledger.entries import parse as parse_entry
from epgfn.rpc.certificates import in_words as in_words_of
from epgfn.sealing.pki import ends_at
from epgfn.v1 import study_pb2
from epgfn_node import ledger
from epgfn_node.client import plain
from epgfn_node.enroll import Connection
from epgfn_node.home import NodeHome
from epgfn_node.join import STATES, listed
from epgfn_node.receipts import verified_receipt
from epgfn_node.renew import warning_of
from epgfn_node.study import Agreement


def status(connection: Connection, agreement: Agreement, report: Reporter) -> dict[str, Any]:
    """State of the round and the coordinator's sentence about it, its deadline and whether that was extended, and this node's own steps.

    Raises:
        RefusedError: "ledger-fork", or the extension that the coordinator shows is not in the ledger, or of another round.
        EpgfnError: nobody answers.
    """
    with connection.open(report) as coordinator:
        # First: where this state of the coordinator does not know this node any more, it learns here that there was a later one.
        ledger.follow(connection.home, coordinator, connection.trust)
        answer = coordinator.call(coordinator.study.GetRound, study_pb2.GetRoundRequest())
        deadline, extended = agreement.study.aggregation.deadline, False
        text = None if deadline is None else deadline.isoformat()
        shown: tuple[Checkpoint, ...] = ()
        if entry := bytes(answer.extension):
            shown = (verified_receipt(bytes(answer.extension_receipt), entry, connection.trust),)
            said = parse_entry(entry)
            if not isinstance(said, DeadlineEntry) or said.round_id != agreement.round.round_id:
                raise RefusedError(
                    "bad-receipt",
                    "the coordinator shows a ledger entry that does not extend this round's deadline; ask its operator",
                )
            text, extended = said.deadline, True
        if shown:
            ledger.follow(connection.home, coordinator, connection.trust, shown)
        others: list[str] = []
        with contextlib.suppress(EpgfnError):  # a coordinator of before has no others
            others = [
                plain(each.name) for each in listed(coordinator) if each.round_id != connection.round_id
            ]
    return {
        "node": connection.node_id,
        "study": agreement.study.name,
        "round": STATES.get(answer.state, "unknown"),
        "detail": plain(answer.detail),
        "deadline": text,
        "extended": extended,
        "own_model": _own(connection.home),
        "certificate_ends": in_words_of(ends_at(connection.certificate_pem)),
        "warning": warning_of(connection) or None,
        "other_rounds": others,
    }


def _own(home: NodeHome) -> str:
    if home.withdrawal.exists():
        return "being withdrawn"
    for path, said in (
        (home.receipt, "sent and accepted"),
        (home.approved, "approved, not yet sent"),
        (home.model, "withdrawn" if home.all_withdrawn() else "trained, not yet approved"),
    ):
        if path.exists():
            return said
    return "withdrawn" if home.all_withdrawn() else "not trained"


def in_words(found: dict[str, Any]) -> str:
    """For people: a line a fact."""
    shown = {**found, "deadline": _deadline(found)}
    del shown["extended"]
    if found["warning"] is None:
        del shown["warning"]
    shown["other_rounds"] = ", ".join(found["other_rounds"])
    if not found["other_rounds"]:
        del shown["other_rounds"]
    width = max(map(len, shown))
    return "\n".join(f"{name.replace('_', ' '):<{width}}  {value}" for name, value in shown.items())


def _deadline(found: dict[str, Any]) -> str:
    if found["deadline"] is None:
        return "none"
    return f"{found['deadline']}{', extended by the operator (signed in the ledger)' if found['extended'] else ''}"

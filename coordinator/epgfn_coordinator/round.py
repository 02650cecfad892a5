"""The round: open → aggregating → published; or it fails, or is abandoned. It closes once, in one transaction.

open          uploads are taken
aggregating   closed with at least a quorum; the global model is being trained (again after a restart)
published     the global model is signed and in the ledger
failed        the deadline passed with fewer models than the quorum
abandoned     the operator gave it up before there was a result
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from epgfn.ledger.entries import StateEntry, encode
from epgfn.run.layout import ABANDONED, AGGREGATING, FAILED, OPEN
from epgfn.study import Study
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.store import Store

WITHOUT_RESULT: Final = (FAILED, ABANDONED)


class Decision(NamedTuple):
    """What becomes of an open round, and the sentence that says why."""

    state: str
    why: str


def round_state(store: Store) -> str:
    """One of the five states."""
    return store.text("state")


def accepted_nodes(store: Store) -> list[str]:
    """Ids of the nodes whose model is accepted, sorted."""
    return [row["node_id"] for row in store.rows("SELECT node_id FROM artifacts ORDER BY node_id")]


def decide(study: Study, accepted: int, now: datetime, *, asked: bool = False) -> Decision | None:
    """What the study's rules make of an open round with `accepted` models; None: wait. `asked`: the operator closes.

    A round never closes below the quorum; at the deadline it fails instead.
    """
    rules, total = study.aggregation, len(study.roster)
    late = rules.deadline is not None and now >= rules.deadline
    if accepted >= rules.quorum:
        if accepted == total:
            return Decision(AGGREGATING, "every node of the roster has sent its model")
        if rules.close_when == "quorum":
            return Decision(AGGREGATING, f"the quorum of {rules.quorum} models is reached")
        if late:
            return Decision(AGGREGATING, f"the deadline has passed with {accepted} of {total} models")
        if asked:
            return Decision(AGGREGATING, f"the operator closed it with {accepted} of {total} models")
    elif late:
        return Decision(
            FAILED,
            f"the deadline passed with {accepted} of {total} models, fewer than the quorum of {rules.quorum}; "
            "agree on a new study with a later deadline or a smaller quorum",
        )
    return None


class Round:
    """The state of the one round in a coordinator's store."""

    def __init__(self, study: Study, store: Store, log: PublishedLog, journal: Journal) -> None:
        self._study, self._store, self._log, self._journal = study, store, log, journal
        self._round_id = store.text("round_id")

    def standing(self) -> tuple[str, str]:
        """State and a sentence about it."""
        state = round_state(self._store)
        if state != OPEN:
            return state, self._store.text("detail")
        accepted, total = len(accepted_nodes(self._store)), len(self._study.roster)
        return state, f"{accepted} of {total} nodes have sent their model"

    def tick(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Close the round if it is time, and answer what operators asked for meanwhile."""
        requests = [
            row["number"] for row in self._store.rows("SELECT number FROM requests WHERE done IS NULL")
        ]
        if round_state(self._store) == OPEN:
            self._close_if_due(now(), bool(requests))
        for number in requests:
            self._answer(number)

    def advance(self, state: str, detail: str, entries: list[bytes] | None = None) -> None:
        """Put the round into `state`, with `entries` before the ledger entry that says so, all at once."""
        with self._store.transaction():
            for entry in entries or []:
                self._store.append_entry(entry)
            self._enter(state, detail)
        self._log.publish()

    def _close_if_due(self, now: datetime, asked: bool) -> None:
        with self._store.transaction():
            # Counted inside the transaction: an artifact is in before the round closes, or it is refused.
            accepted = len(accepted_nodes(self._store))
            decision = decide(self._study, accepted, now, asked=asked)
            if decision is None or round_state(self._store) != OPEN:
                return
            self._enter(decision.state, decision.why)
        self._log.publish()
        failed = decision.state == FAILED
        phase = "failed" if failed else "closed"
        self._journal.decision(phase, decision.why, warn=failed, accepted=accepted)

    def _enter(self, state: str, detail: str) -> None:
        numbers = {"accepted": self._store.count("artifacts"), "roster": len(self._study.roster)}
        self._store.set_fact("state", state)
        self._store.set_fact("detail", detail)
        self._store.append_entry(
            encode(StateEntry(round_id=self._round_id, state=state, detail={"why": detail, **numbers}))
        )

    def _answer(self, number: int) -> None:
        state, detail = self.standing()
        done = state != OPEN
        answer = f"the round is {state}: {detail}"
        if not done:
            quorum = self._study.aggregation.quorum
            answer = f"the round stays open: {detail} and the quorum is {quorum}; wait for more, or for the deadline"
        with self._store.transaction():
            self._store.write(
                "UPDATE requests SET done = ?, answer = ? WHERE number = ?", int(done), answer, number
            )

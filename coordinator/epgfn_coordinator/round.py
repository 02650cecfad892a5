"""The round: open → aggregating → published; or it waits for its operator, fails, or is abandoned. Each step is one transaction.

open          uploads are taken
aggregating   closed with at least a quorum; the global model is being trained (again after a restart)
published     the global model is signed and in the ledger
waiting       the deadline passed with fewer models than the quorum: the operator may extend it, which opens the round again
failed        the operator let the grace period pass, too
abandoned     the operator gave it up before there was a result
"""

from __future__ import annotations

from datetime import datetime
from sqlite3 import Row
from typing import TYPE_CHECKING, Final, NamedTuple

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.ledger.entries import DeadlineEntry, StateEntry, encode
from epgfn.run.layout import ABANDONED, AGGREGATING, FAILED, OPEN, PUBLISHED, WAITING
from epgfn.study import Study
from epgfn_coordinator import clock as clocks
from epgfn_coordinator.clock import Clock, spelled
from epgfn_coordinator.continuity import RESTORED
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.schedule import DEADLINE_FACT, EXTENSION_FACT, WAITING_FACT, deadline_of, due, expiries
from epgfn_coordinator.store import CONTINUITY_FACT, Store
from epgfn_coordinator.sum_lists import expected, in_words

if TYPE_CHECKING:
    from epgfn_coordinator.masked_sum import MaskedSum

WITHOUT_RESULT: Final = (FAILED, ABANDONED)
ABANDONED_FACT: Final = "abandoned"
"""There once nothing is left to do for a round without a result."""


class Interrupted(EpgfnError):
    """The process is asked to end; what was not finished begins anew at the next start."""


class Decision(NamedTuple):
    """What becomes of an open round, and the sentence that says why."""

    state: str
    why: str


def round_state(store: Store) -> str:
    """One of the six states."""
    return store.text("state")


def everybody_has_it(store: Store) -> bool:
    """Whether the global model is there, and every node whose model counts has taken it.

    Raises:
        EpgfnError: there will be none.
    """
    if round_state(store) in WITHOUT_RESULT:
        raise EpgfnError(f"the round has ended without a result: {store.text('detail')}")
    return round_state(store) == PUBLISHED and set(accepted_nodes(store)) <= set(store.fetched())


def accepted_nodes(store: Store) -> list[str]:
    """Ids of the nodes whose model is accepted and counts, sorted."""
    rows = store.rows(
        "SELECT node_id FROM artifacts WHERE node_id NOT IN (SELECT node_id FROM exclusions) ORDER BY node_id"
    )
    return [row["node_id"] for row in rows]


def excluded_nodes(store: Store) -> dict[str, str]:
    """Why each excluded model cannot be combined, by node id."""
    return {row["node_id"]: row["reason"] for row in store.rows("SELECT * FROM exclusions ORDER BY node_id")}


def withdrawal_of(store: Store, node_id: str, sealed_sha256: str) -> Row | None:
    """The node's withdrawal of the sealed model with that SHA-256."""
    return store.row(
        "SELECT * FROM withdrawals WHERE node_id = ? AND sealed_sha256 = ?", node_id, sealed_sha256
    )


def withdrawn_nodes(store: Store) -> list[str]:
    """Nodes that have withdrawn their model and sent no other; sorted."""
    rows = store.rows(
        "SELECT DISTINCT node_id FROM withdrawals WHERE node_id NOT IN (SELECT node_id FROM artifacts) ORDER BY node_id"
    )
    return [row["node_id"] for row in rows]


def awaited_nodes(study: Study, store: Store, *, in_doubt: bool = False) -> list[str]:
    """Whom a round waits for that is to have everybody's model: the roster, but for the places of an open one that nobody has been invited
    to; in the roster's order. A place whose invitation was revoked, or has expired unused, is free again; while the clock is `in_doubt`
    none has expired."""
    if not study.added:
        return list(study.roster)
    rows = store.rows("SELECT node_id FROM nodes UNION SELECT node_id FROM artifacts")
    taken, now = {row["node_id"] for row in rows}, clocks.now()
    for row in store.rows("SELECT node_id, expires FROM tokens"):
        if in_doubt or not row["expires"] or datetime.fromisoformat(row["expires"]) > now:
            taken.add(row["node_id"])
    free = set(study.added) - taken
    return [node for node in study.roster if node not in free]


def decide(
    study: Study,
    accepted: int,
    *,
    excluded: int = 0,
    late: bool = False,
    asked: bool = False,
    awaited: int | None = None,
) -> Decision | None:
    """What the study's rules make of an open round with `accepted` models that count; None: go on. `excluded`: how many do not, and no
    others will come of their nodes; `late`: its deadline has passed; `asked`: the operator closes it; `awaited`: how many nodes are
    waited for, if not the whole roster.

    A round never closes below the quorum; at the deadline it waits for its operator instead.
    """
    rules, total = study.aggregation, len(study.roster) if awaited is None else awaited
    if accepted >= rules.quorum:
        if accepted + excluded == total:
            if total < len(study.roster):
                return Decision(AGGREGATING, f"all {total} nodes that take part have sent their models")
            return Decision(AGGREGATING, "every node of the roster has sent its model")
        if rules.close_when == "quorum":
            return Decision(AGGREGATING, f"the quorum of {rules.quorum} models is reached")
        if late:
            return Decision(AGGREGATING, f"the deadline has passed with {accepted} of {total} models")
        if asked:
            return Decision(AGGREGATING, f"the operator closed it with {accepted} of {total} models")
    elif late:
        return Decision(
            WAITING,
            f"the deadline passed with {accepted} of {total} models, fewer than the quorum of {rules.quorum}; the round waits for the "
            "coordinator's operator, who can extend the deadline or abandon the round",
        )
    return None


class Round:
    """The state of the one round in a coordinator's store."""

    def __init__(
        self,
        study: Study,
        store: Store,
        log: PublishedLog,
        journal: Journal,
        clock: Clock | None = None,
        masked: MaskedSum | None = None,
    ) -> None:
        """`masked`: the round's masked sum, of a study that has one."""
        self._study, self._store, self._log, self._journal = study, store, log, journal
        self._masked, self._went_on = masked, ""
        self._clock = clock or Clock(store)
        self._doubt = ""
        self._round_id = store.text("round_id")

    def standing(self) -> tuple[str, str]:
        """State and a sentence about it."""
        state = round_state(self._store)
        if self._store.fact(CONTINUITY_FACT) is not None and state not in (PUBLISHED, *WITHOUT_RESULT):
            return state, RESTORED
        summing = in_words(self._study, self._store) if self._masked is not None else ""
        if state == AGGREGATING and summing:
            return state, f"{self._store.text('detail')}; {summing}"
        if state != OPEN:
            return state, self._store.text("detail")
        accepted, total = len(accepted_nodes(self._store)), len(awaited_nodes(self._study, self._store))
        deadline = deadline_of(self._study, self._store)
        until = f"; the deadline is {spelled(deadline)}" if deadline is not None else ""
        extended = ", extended by the operator" if self._store.fact(DEADLINE_FACT) is not None else ""
        said = summing or f"{accepted} of {total} nodes have sent their model"
        return state, f"{said}{until}{extended}"

    def extension(self) -> tuple[bytes, bytes]:
        """The ledger entry that extended the deadline last, and its tlog-proof; empty where none did."""
        position = self._store.text(EXTENSION_FACT)
        if not position:
            return b"", b""
        return self._store.entry(int(position)), self._log.receipt(int(position))

    def tick(self, *, busy: bool = False) -> None:
        """Close the round or end its waiting if it is time, and answer what operators asked for meanwhile. `busy`: nothing is to be
        decided now, since a model that arrived in time is being checked."""
        moment = due(self._study, self._store)
        reading = self._clock.read(moment, *expiries(self._study, self._store))
        self._say(reading.doubt)
        if busy:
            return
        late = moment is not None and not reading.doubt and reading.time >= moment
        requests = self._store.rows("SELECT number, deadline FROM requests WHERE done IS NULL")
        for row in requests:
            if row["deadline"] is not None:
                self._answer_extension(row["number"], datetime.fromisoformat(row["deadline"]))
        late = late and due(self._study, self._store) == moment
        closing = [row["number"] for row in requests if row["deadline"] is None]
        state = round_state(self._store)
        self._went_on = ""
        if state == OPEN and closing and self._masked is not None:
            self._went_on = self._close_list()
        if state == OPEN and not self._went_on:
            self._close_if_due(late, bool(closing), bool(reading.doubt))
        elif state == WAITING and late:
            self._fail()
        for number in closing:
            self._answer(number)

    def extend(self, deadline: datetime) -> str:
        """Extend the deadline of an open round, or open one again that waits; a sentence that says so.

        Raises:
            EpgfnError: the round is past that.
            UsageError: `deadline` is not later than now and than the one that stands.
        """
        with self._store.transaction():
            said = self._extend(deadline)
        self._log.publish_now_or_later()
        self._journal.decision("extended", said)
        return said

    def _extend(self, deadline: datetime) -> str:
        deadline = deadline.replace(microsecond=0)
        state, standing = round_state(self._store), deadline_of(self._study, self._store)
        if state not in (OPEN, WAITING):
            raise EpgfnError(f"the round is {state}, so its deadline means nothing any more")
        if state == OPEN and standing is None:
            raise EpgfnError(
                "the study has no deadline, so the round stays open until it is closed or abandoned"
            )
        time = clocks.now()
        if deadline <= time:
            raise UsageError(
                f"{spelled(deadline)} has passed by this machine's clock, which says {spelled(time)}"
            )
        if standing is not None and deadline <= standing:
            raise UsageError(f"the deadline is {spelled(standing)} already; give a later one")
        said = f"the operator extended the deadline to {spelled(deadline)}"
        position = self._store.append_entry(
            encode(DeadlineEntry(round_id=self._round_id, deadline=spelled(deadline)))
        )
        self._store.set_fact(EXTENSION_FACT, str(position))
        self._store.set_fact(DEADLINE_FACT, spelled(deadline))
        if state == WAITING:
            self._enter(OPEN, said)
            said += " and the round is open again"
        return said

    def turn_away(self, why: str) -> None:
        """Answer what operators asked for with no, and why."""
        for row in self._store.rows("SELECT number FROM requests WHERE done IS NULL"):
            self._record(row["number"], False, why)

    def advance(self, state: str, detail: str, entries: list[bytes] | None = None) -> None:
        """Put the round into `state`, with `entries` before the ledger entry that says so, all at once."""
        with self._store.transaction():
            for entry in entries or []:
                self._store.append_entry(entry)
            self._enter(state, detail)
        self._log.publish()

    def _say(self, doubt: str) -> None:
        if doubt and not self._doubt:
            self._journal.decision("held", doubt, warn=True)
        elif self._doubt and not doubt:
            self._journal.decision("released", "the clock is believed again")
        self._doubt = doubt

    def _fail(self) -> None:
        why = f"the operator let the grace period of {self._study.aggregation.grace_days:g} days pass; {self._store.text('detail')}"
        self.advance(FAILED, why)
        self._journal.decision("failed", why, warn=True)

    def _close_list(self) -> str:
        """The operator has a masked sum go on without whoever has not sent keys or shares: a sentence that says so, if it does."""
        assert self._masked is not None
        with self._store.transaction():
            said = self._masked.close_early()
        if said:
            self._log.publish()
            self._journal.decision("sum-list", said, warn=True)
        return said

    def _close_if_due(self, late: bool, asked: bool, in_doubt: bool) -> None:
        with self._store.transaction():
            # Counted inside the transaction: an artifact is in before the round closes, or it is refused.
            accepted, excluded = len(accepted_nodes(self._store)), self._store.count("exclusions")
            awaited = len(awaited_nodes(self._study, self._store, in_doubt=in_doubt))
            if self._masked is not None and not self._masked.is_gathering:
                awaited = len(expected(self._study, self._store, "uploads"))
            decision = decide(
                self._study, accepted, excluded=excluded, late=late, asked=asked, awaited=awaited
            )
            if decision is None or round_state(self._store) != OPEN:
                return
            if self._masked is not None and decision.state == AGGREGATING:
                self._masked.close_uploads()
            self._enter(decision.state, decision.why)
        self._log.publish()
        waits = decision.state == WAITING
        self._journal.decision("waiting" if waits else "closed", decision.why, warn=waits, accepted=accepted)

    def _enter(self, state: str, detail: str) -> None:
        numbers = {"accepted": len(accepted_nodes(self._store)), "roster": len(self._study.roster)}
        self._store.set_fact("state", state)
        self._store.set_fact("detail", "" if state == OPEN else detail)
        if state == WAITING:
            self._store.set_fact(WAITING_FACT, clocks.now().isoformat())
        self._store.append_entry(
            encode(StateEntry(round_id=self._round_id, state=state, detail={"why": detail, **numbers}))
        )

    def _answer(self, number: int) -> None:
        state, detail = self.standing()
        done = state not in (OPEN, WAITING)
        answer = f"the round is {state}: {detail}"
        if self._went_on:
            self._record(number, True, self._went_on)
            return
        if state == OPEN:
            quorum = self._study.aggregation.quorum
            answer = f"the round stays open: {detail} and the quorum is {quorum}; wait for more, or for the deadline"
        self._record(number, done, answer)

    def _answer_extension(self, number: int, deadline: datetime) -> None:
        try:
            self._record(number, True, self.extend(deadline))
        except EpgfnError as error:
            self._record(number, False, str(error))

    def _record(self, number: int, done: bool, answer: str) -> None:
        self._store.write(
            "UPDATE requests SET done = ?, answer = ? WHERE number = ?", int(done), answer, number
        )

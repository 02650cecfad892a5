"""One round in a process that works on it: what answers calls about it, and what keeps it moving.

Nothing here loads torch, which takes seconds, before there is a model to check or to train: calls are answered before that.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from epgfn.base.errors import EpgfnError, NoRoomError
from epgfn.base.files import read_bytes, remove
from epgfn.run.layout import ABANDONED, AGGREGATING, GLOBAL, PUBLISHED
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.statement import RoundPredicate, parse_statement, predicate_of
from epgfn.study import Study
from epgfn.study.parameters import is_masked
from epgfn_coordinator import places, rounds
from epgfn_coordinator.clock import Clock
from epgfn_coordinator.continuity import Continuity
from epgfn_coordinator.home import Home
from epgfn_coordinator.identity import Calls, Identity
from epgfn_coordinator.intake import Intake
from epgfn_coordinator.journal import LOG, Journal
from epgfn_coordinator.keys import Keys
from epgfn_coordinator.masked_sum import MaskedSum
from epgfn_coordinator.people import Member
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.revocation import Revocation
from epgfn_coordinator.round import (
    ABANDONED_FACT,
    WITHOUT_RESULT,
    Interrupted,
    Round,
    accepted_nodes,
    round_state,
)
from epgfn_coordinator.services.artifact import ArtifactServicer
from epgfn_coordinator.services.by_round import Desk
from epgfn_coordinator.services.ledger import LedgerServicer
from epgfn_coordinator.services.masked_sum import SumServicer
from epgfn_coordinator.services.result import ResultServicer
from epgfn_coordinator.services.study import StudyServicer
from epgfn_coordinator.signing import round_key_of
from epgfn_coordinator.store import RETRY_FACT, TROUBLE_FACT, TURN_FACT, Store
from epgfn_coordinator.streams import StreamWatch
from epgfn_coordinator.verify import Verifier
from epgfn_coordinator.withdrawal import Withdrawal

if TYPE_CHECKING:
    from epgfn_coordinator.publication import Publication
    from epgfn_coordinator.together import Trainer

AGAIN = 30.0  # seconds before an aggregation that found no room on the disk is begun anew
LAST_STEP = 5.0  # seconds that aggregation gets to notice that it should stop: what it has not signed begins anew anyway
LAST_STEP_TOGETHER = 30.0  # the same in several processes, which are to end after the same step
AGGREGATION = "aggregation"


class _Ticket(NamedTuple):
    """A place in the queue; every one is another, whatever its name."""

    name: str
    itself: object


class Turn:
    """One round aggregates at a time, since that takes all the processors and memory there are; the others wait, first come, first served.
    Whoever fails goes to the end when it tries again."""

    LOOK = 0.25  # seconds

    def __init__(self) -> None:
        self._queue: list[_Ticket] = []
        self._changed = threading.Condition()

    def take(
        self,
        name: str,
        work: Callable[[threading.Event], None],
        stop: threading.Event,
        waiting: Callable[[list[str]], None],
    ) -> None:
        """Do the work of the round called `name` when it is its turn. `waiting` is told which rounds are before it whenever that changes.

        Raises:
            Interrupted: `stop` was set before.
        """
        ticket, told = _Ticket(name, object()), list[str]()
        with self._changed:
            self._queue.append(ticket)
        try:
            while before := self._before(ticket):
                if before != told:
                    waiting(before)
                    told = before
                if stop.is_set():
                    raise Interrupted("serving ends")
                with self._changed:
                    self._changed.wait(self.LOOK)
            if told:
                waiting([])
            work(stop)
        finally:
            with self._changed:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _before(self, ticket: _Ticket) -> list[str]:
        with self._changed:
            return [each.name for each in self._queue[: self._queue.index(ticket)]]


@dataclass(frozen=True)
class Shared:
    """What all rounds of a process have in common. `keys` are those of whichever round: their authority is all rounds'.
    `trainer` makes what trains; `together`: it does so with other processes. `wake` is set when there is something to do."""

    keys: Keys
    trainer: Callable[[], Trainer]
    together: bool
    calls: Calls
    wake: threading.Event
    turn: Turn

    @classmethod
    def of(
        cls, home: Home, trainer: Callable[[], Trainer] | None = None, *, together: bool = False
    ) -> Shared:
        """For the coordinator in `home`; without a `trainer` it trains alone, on the CPU.

        Raises:
            EpgfnError: a key is missing or does not open.
        """
        return cls(
            Keys.load(home), trainer or _alone_on_the_cpu, together, Calls(), threading.Event(), Turn()
        )


def _alone_on_the_cpu() -> Trainer:
    from epgfn_coordinator.together import Trainer

    return Trainer()


class LiveRound:
    """One round of a coordinator."""

    def __init__(self, home: Home, journal: Journal, shared: Shared) -> None:
        """Open it.

        Raises:
            EpgfnError: a file is missing, damaged or unreadable.
        """
        self.home, self.journal, self._shared = home, journal, shared
        self.study = Study.load(home.study)
        keys = shared.keys.of(home)
        manifest = _manifest(home)
        self.store = Store(home.state)
        if self.may_train:
            try:
                keys.signing  # noqa: B018 -- better now than when everything is trained
            except EpgfnError:
                self.store.close()
                raise
        self.name, self.round_id = rounds.name_of(home), manifest.round_id
        self.ledger_vkey = manifest.ledger_vkey
        self.log = PublishedLog(home, self.store, keys)
        self.watch = StreamWatch()
        self.clock = Clock(self.store, keep=True)
        self.continuity = Continuity(self.store, self.log, keys.ledger.verifier, self.study.roster, journal)
        self.masked: MaskedSum | None = None
        """Of a study whose sums are masked."""
        if is_masked(self.study):
            self.masked = MaskedSum(self.study, self.round_id, self.store, self.log, journal, shared.wake.set)
        self.round = Round(self.study, self.store, self.log, journal, self.clock, self.masked)
        self._verifier = Verifier(self.study, manifest, self.store, self.log)
        self.intake = Intake(
            home,
            self.store,
            self.log,
            self._verifier,
            journal,
            manifest.round_id,
            self.study.roster,
            shared.wake.set,
            takes_late=self.study.aggregation.late == "new-aggregate",
            upload_limit=self.study.transport.max_upload_bytes,
            masked=self.masked,
        )
        self.revocation = Revocation(
            home, self.study, self.store, self.log, journal, self.watch, self.intake.forget
        )
        self.withdrawal = Withdrawal(home, self.store, self.log, self._verifier, journal)
        self._keys, self._manifest = keys, manifest
        self._worker: _Worker | None = None
        self._late: _Worker | None = None
        self.stopped = False
        """Whether nothing is decided or aggregated in it any more, since that failed; it is still read from, and takes models."""

    @property
    def signing(self) -> SigningKey:
        """What this round's statements are signed with."""
        return self._keys.signing

    def _rotations(self) -> list[bytes]:
        """By which the coordinator's keys took the place of one another, up to this round's."""
        found = self.store.rows("SELECT bundle FROM rotations WHERE node_id IS NULL ORDER BY position")
        return [bytes(row["bundle"]) for row in found]

    @property
    def may_train(self) -> bool:
        """Whether there may be models to check or to train by itself."""
        late = self.study.aggregation.late == "new-aggregate"
        return round_state(self.store) not in WITHOUT_RESULT + (() if late else (PUBLISHED,))

    @property
    def member(self) -> Member:
        """Its state and its roster."""
        return Member(self.store, frozenset(self.study.roster))

    @functools.cached_property
    def _publication(self) -> Publication:
        """What aggregates it, and loads torch."""
        from epgfn_coordinator.publication import Publication

        return Publication(
            self.home,
            self.study,
            self._manifest,
            self.store,
            self.log,
            self._keys,
            self._verifier,
            self.round,
            self.journal,
            self._shared.trainer(),
            self.masked,
        )

    def desk(self) -> Desk:
        """What answers calls about it."""
        identity = Identity(self.store, self.study.roster, self._shared.calls)
        return Desk(
            self.name,
            self.round_id,
            identity,
            StudyServicer(self.home, self.study, identity, self.round, self._rotations()),
            ArtifactServicer(identity, self.intake, self.withdrawal, self.watch),
            ResultServicer(self.home, self.store, self.log, identity, self.round, self.watch),
            LedgerServicer(identity, self.log, self.continuity),
            SumServicer(identity, self.masked),
        )

    def begin(self, *, clock_is_right: bool = False, backup_is_newest: bool = False) -> None:
        """What is to be done before it is served.

        Raises:
            EpgfnError: a file cannot be read or written, or the operator vouches for what a node has disproved.
        """
        if clock_is_right:
            self.clock.believe()
        if backup_is_newest:
            self.continuity.believe()
        _remove_strays(self.home, self.store)
        # Nobody waits for the answer any more, and a round must not close because of a command given days ago.
        for table in ("requests", "revocation_requests", "letter_requests"):
            self.store.write(f"DELETE FROM {table} WHERE done IS NULL")
        self._forget(TROUBLE_FACT, RETRY_FACT, TURN_FACT)
        self.log.publish()
        self.log.fill_receipts()

    def say_what_is_odd(self) -> None:
        """To the operator, when it begins to be served."""
        if held := self.continuity.held():
            self.journal.decision("held", held, warn=True)
        if disclosure := self.study.disclosure:
            LOG.warning("disclosure: %s", disclosure)

    def move(self, stop: threading.Event) -> bool:
        """One look at all that may have to be done; False while what was begun waits for room.

        Raises:
            NoRoomError: something cannot be written now.
            EpgfnError: aggregation failed.
        """
        if self.stopped:
            self.round.turn_away(
                f"{self.store.text(TROUBLE_FACT) or 'nothing is decided now'}; {self._how_to_go_on}"
            )
            if self.store.fact(RETRY_FACT) is None:
                return True
            self._go_on()
        if stalled := self.watch.end_stalled():
            LOG.warning("ended %d stalled transfers", stalled)
        if held := self.continuity.held():
            self.round.turn_away(held)
        else:
            self._move(stop)
        worker = self._worker
        return worker is None or not worker.again or (worker.done and worker.failure is None)

    def _move(self, stop: threading.Event) -> None:
        # What arrived in time is in time, however long its check takes.
        self.round.tick(busy=self.intake.busy)
        worker = self._worker
        # Asked before the state is: whoever has ended without an error has left no round aggregating but one opened again since.
        idle = worker is None or (worker.done and worker.failure is None)
        state = round_state(self.store)
        if state in WITHOUT_RESULT and self.store.fact(ABANDONED_FACT) is None:
            self._publication.abandon()
        if worker is not None and worker.failure is not None:
            if not isinstance(worker.failure, NoRoomError) or self._shared.together:
                raise EpgfnError(str(worker.failure)) from worker.failure
            if time.monotonic() - worker.ended < AGAIN:
                raise worker.failure  # which is said, and nothing else comes of it
            idle = True
        summed = self.masked is None or self.masked.is_complete
        if idle and state == AGGREGATING and summed:
            again = worker is not None and worker.failure is not None
            self._worker = self._at_work(lambda told: self._publication.run(told), stop, again=again)
        if state == PUBLISHED:
            self._aggregate_late(stop)

    def _aggregate_late(self, stop: threading.Event) -> None:
        """Start on another global model if late models have come and none is being made.

        One that fails ends nothing, since what is published must stay to be had: it is tried again when another late model
        comes, or at the next start.
        """
        worker = self._late
        if worker is not None and not worker.done:
            return
        if worker is not None and worker.failure is not None and not worker.told:
            worker.told = True
            self.journal.decision(
                "late-failed", f"the late models are not aggregated: {worker.failure}", warn=True
            )
        waiting = places.late_nodes(self.store)
        if not waiting or (worker is not None and worker.failure is not None and worker.about == waiting):
            return
        self._late = self._at_work(lambda told: self._publication.run_late(told), stop, waiting)

    def _at_work(
        self,
        work: Callable[[threading.Event], None],
        stop: threading.Event,
        about: list[str] | None = None,
        *,
        again: bool = False,
    ) -> _Worker:
        turn, wake = self._shared.turn, self._shared.wake
        return _Worker(
            lambda told: turn.take(self.name, work, told, self._waits_for), stop, wake, about, again=again
        )

    def _waits_for(self, names: list[str]) -> None:
        """Keep for `status` which rounds are aggregated before this one."""
        with contextlib.suppress(EpgfnError):  # on a full disk it is not shown
            if names:
                self.store.set_fact(TURN_FACT, ", ".join(names))
            else:
                self._forget(TURN_FACT)

    def _forget(self, *facts: str) -> None:
        for name in facts:
            self.store.write("DELETE FROM facts WHERE name = ?", name)

    @property
    def _how_to_go_on(self) -> str:
        return f"once that is put right: epgfn-coordinator retry {rounds.options(self.home)}"

    def _go_on(self) -> None:
        """The operator wants to try again what failed."""
        self._forget(RETRY_FACT, TROUBLE_FACT)
        self._worker = None if self._worker is None or self._worker.done else self._worker
        self._late = None if self._late is None or self._late.done else self._late
        self.stopped = False
        self.journal.decision("round-resumed", "the operator has this round go on")

    def stop_moving(self, why: EpgfnError) -> None:
        """Nothing is decided in it any more until the operator says so, or `serve` starts again, which `status` says."""
        self.stopped = True
        said = f"{why}; the other rounds go on; this one does not, {self._how_to_go_on}"
        self.journal.decision("round-stopped", said, warn=True)
        try:
            self.store.set_fact(TROUBLE_FACT, str(why))
        except EpgfnError as error:
            LOG.error("no room: %s", error)

    def end(self) -> None:
        """Let what runs come to an end; `stop` is set."""
        for running in filter(None, (self._worker, self._late)):
            running.thread.join(LAST_STEP_TOGETHER if self._shared.together else LAST_STEP)

    def abandon(self) -> str:
        """Give up a round that has no result: the round key is destroyed, and the ledger says so; the round's state then.

        Raises:
            EpgfnError: there is a result, or it only has to be published.
        """
        state = round_state(self.store)
        complete = places.made(self.store, GLOBAL) and not self.study.aggregation.leave_one_out
        if state == PUBLISHED or (state == AGGREGATING and complete):
            raise EpgfnError(
                f"the round in {self.home.root} has a signed global model and cannot be abandoned; "
                "if nodes cannot fetch it yet, run epgfn-coordinator serve once"
            )
        if state not in WITHOUT_RESULT:
            accepted, total = len(accepted_nodes(self.store)), len(self.study.roster)
            self.round.advance(
                ABANDONED,
                f"the operator abandoned the round while {state}, with {accepted} of {total} models",
            )
        self._publication.abandon()
        return round_state(self.store)

    def close(self) -> None:
        """Give the state back."""
        self.intake.close()
        self.store.close()


class _Worker:
    """Aggregation in a thread of its own; `failure` is the error it ended with, if any; `about` whatever it was started for; `again`: the
    one before failed."""

    def __init__(
        self,
        work: Callable[[threading.Event], None],
        stop: threading.Event,
        wake: threading.Event,
        about: list[str] | None = None,
        *,
        again: bool = False,
    ) -> None:
        self.failure: EpgfnError | None = None
        self.done = self.told = False
        self.ended = 0.0  # by the monotonic clock
        self.about, self.again = about, again
        self._work, self._stop, self._wake = work, stop, wake
        self.thread = threading.Thread(target=self._run, name=AGGREGATION, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._work(self._stop)
        except Interrupted:
            LOG.info("aggregation stopped; it begins anew at the next start")
        except EpgfnError as error:
            self.failure = error
        except Exception as error:
            # Its text may quote what a model holds, so only the type is shown.
            self.failure = EpgfnError(
                f"aggregation failed with an unexpected {type(error).__name__}; the round is kept, run serve again to retry"
            )
        self.ended = time.monotonic()
        self.done = True
        self._wake.set()


def _manifest(home: Home) -> RoundPredicate:
    payload = verify_bundle(read_bytes(home.round_bundle, "round manifest"), round_key_of(home))
    return predicate_of(parse_statement(payload), RoundPredicate)


def _remove_strays(home: Home, store: Store) -> None:
    """Files whose transaction never came, from a kill between the two."""
    home.uploads.mkdir(exist_ok=True)
    home.artifacts.mkdir(exist_ok=True)
    home.result.mkdir(exist_ok=True)
    known = {home.part(row["upload_id"]) for row in store.rows("SELECT upload_id FROM uploads")}
    known |= {
        home.artifact(row["sealed_sha256"]) for row in store.rows("SELECT sealed_sha256 FROM artifacts")
    }
    for path in [*home.uploads.iterdir(), *home.artifacts.iterdir()]:
        if path not in known:
            remove(path)

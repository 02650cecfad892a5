"""`serve`: puts the parts together, keeps the round moving, and ends cleanly when asked."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime
from types import FrameType
from typing import Any

from epgfn.base.errors import EpgfnError, NoRoomError
from epgfn.base.files import read_bytes, remove
from epgfn.gflownet.parallel import workers
from epgfn.run.layout import ABANDONED, AGGREGATING, GLOBAL, PUBLISHED
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.statement import RoundPredicate, parse_statement, predicate_of
from epgfn.study import Study
from epgfn_coordinator import metrics, places
from epgfn_coordinator.aggregation import Interrupted
from epgfn_coordinator.certificates import Upkeep
from epgfn_coordinator.clock import Clock
from epgfn_coordinator.continuity import Continuity
from epgfn_coordinator.grpc_servers import Listener, Servicers
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.identity import Identity
from epgfn_coordinator.intake import Intake
from epgfn_coordinator.invitation import moved
from epgfn_coordinator.journal import LOG, Journal
from epgfn_coordinator.keys import Keys
from epgfn_coordinator.publication import Publication
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.revocation import Revocation
from epgfn_coordinator.round import WITHOUT_RESULT, Round, accepted_nodes, round_state
from epgfn_coordinator.services.artifact import ArtifactServicer
from epgfn_coordinator.services.certificate import CertificateServicer
from epgfn_coordinator.services.enrollment import Enrollment
from epgfn_coordinator.services.ledger import LedgerServicer
from epgfn_coordinator.services.result import ResultServicer
from epgfn_coordinator.services.study import StudyServicer
from epgfn_coordinator.store import Store
from epgfn_coordinator.streams import StreamWatch
from epgfn_coordinator.together import Trainer
from epgfn_coordinator.verify import Verifier
from epgfn_coordinator.withdrawal import Withdrawal

TICK = 0.25  # seconds between looks at deadline, requests and stalled streams
AGAIN = 30.0  # seconds before an aggregation that found no room on the disk is begun anew
LAST_STEP = 5.0  # seconds that aggregation gets to notice that it should stop: what it has not signed begins anew anyway
LAST_STEP_TOGETHER = 30.0  # the same in several processes, which are to end after the same step
AGGREGATION = "aggregation"


def serve(
    home: Home,
    journal: Journal,
    stop: threading.Event | None = None,
    trainer: Trainer | None = None,
    *,
    clock_is_right: bool = False,
    backup_is_newest: bool = False,
    metrics_port: int | None = None,
) -> None:
    """Serve the round in `home` until `stop` is set (by SIGTERM or SIGINT too, in the main thread). `trainer` trains the global model.
    `clock_is_right`: the operator vouches for the machine's clock as it is now; `backup_is_newest`: that nothing was entered in the ledger
    after the backup from which this home was restored. `metrics_port`: where on loopback to show metrics.

    Raises:
        EpgfnError: the ports are taken, a file is missing or unreadable, or aggregation failed; run again to go on.
    """
    stop = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        _stop_on_signals(stop)
    home.require()
    with home.served():
        coordinator = Coordinator(home, journal, trainer)
        try:
            coordinator.run(
                stop,
                clock_is_right=clock_is_right,
                backup_is_newest=backup_is_newest,
                metrics_port=metrics_port,
            )
        finally:
            coordinator.close()


def abandon(home: Home, journal: Journal) -> str:
    """Give up the round in `home`, see `Coordinator.abandon`. Whatever interrupts it, a second call ends what is left to do.

    Raises:
        EpgfnError: a coordinator serves from `home`, or the round has a result.
    """
    home.require()
    with home.served():
        coordinator = Coordinator(home, journal)
        try:
            return coordinator.abandon()
        finally:
            coordinator.close()


def extend(home: Home, journal: Journal, deadline: datetime) -> str:
    """Extend the round's deadline where nobody serves from `home`; a sentence that says so.

    Raises:
        EpgfnError: a coordinator serves from `home`, or see `Round.extend`.
    """
    with home.served():
        coordinator = Coordinator(home, journal)
        try:
            return coordinator.extend(deadline)
        finally:
            coordinator.close()


def revoke(home: Home, journal: Journal, node_id: str) -> str:
    """Revoke a node's keys where nobody serves from `home`; a sentence that says so.

    Raises:
        EpgfnError: a coordinator serves from `home`, or see `Revocation.revoke`.
    """
    with home.served():
        coordinator = Coordinator(home, journal)
        try:
            return coordinator.revoke(node_id)
        finally:
            coordinator.close()


class Coordinator:
    """One serving process."""

    def __init__(self, home: Home, journal: Journal, trainer: Trainer | None = None) -> None:
        self._home, self._journal = home, journal
        self._study = Study.load(home.study)
        self._config = Config.load(home.config)
        self._keys = Keys.load(home)
        self._store = Store(home.state)
        self._log = PublishedLog(home, self._store, self._keys)
        self._wake = threading.Event()
        self._watch = StreamWatch()
        self._room = _Room(journal)
        manifest = self._manifest()
        self._identity = Identity(self._store, self._study.roster)
        self._clock = Clock(self._store, keep=True)
        self._round = Round(self._study, self._store, self._log, journal, self._clock)
        self._continuity = Continuity(
            self._store, self._log, self._keys.ledger.verifier, self._study.roster, journal
        )
        verifier = Verifier(self._study, manifest, self._store, self._log)
        self._intake = Intake(
            home,
            self._store,
            self._log,
            verifier,
            journal,
            manifest.round_id,
            self._study.roster,
            self._wake.set,
            takes_late=self._study.aggregation.late == "new-aggregate",
            upload_limit=self._study.transport.max_upload_bytes,
        )
        self._revocation = Revocation(
            home, self._study, self._store, self._log, journal, self._watch, self._intake.forget
        )
        self._upkeep = Upkeep(home, self._store, self._keys.authority, journal)
        self._withdrawal = Withdrawal(home, self._store, self._log, verifier, journal)
        self._publication = Publication(
            home,
            self._study,
            manifest,
            self._store,
            self._log,
            self._keys,
            verifier,
            self._round,
            journal,
            trainer or Trainer(),
        )

    def run(
        self,
        stop: threading.Event,
        *,
        clock_is_right: bool = False,
        backup_is_newest: bool = False,
        metrics_port: int | None = None,
    ) -> None:
        """Serve until `stop` is set."""
        if clock_is_right:
            self._clock.believe()
        if backup_is_newest:
            self._continuity.believe()
        _remove_strays(self._home, self._store)
        # Nobody waits for the answer any more, and a round must not close because of a command given days ago.
        for table in ("requests", "revocation_requests"):
            self._store.write(f"DELETE FROM {table} WHERE done IS NULL")
        self._log.publish()
        self._log.fill_receipts()
        self._upkeep.look()
        listener = Listener(self._home, self._config, len(self._study.roster))
        self._identity.known = listener.recognise
        config = self._config.with_effective(listener.address, listener.enroll_address)
        if config != self._config:
            config.save(self._home.config)
        with metrics.served(self._home, self._study, self._store, metrics_port) as metrics_address:
            self._serve(listener, config, stop, metrics_address)

    def _serve(self, listener: Listener, config: Config, stop: threading.Event, metrics_address: str) -> None:
        listener.start(
            self._desks(),
            Enrollment(self._store, self._log, self._keys.authority, self._journal, config.public_address),
        )
        try:
            shown: dict[str, Any] = (
                {"metrics": f"http://{metrics_address}/metrics"} if metrics_address else {}
            )
            self._journal.decision(
                "serving",
                f"study {self._study.name}, round {round_state(self._store)}",
                address=config.public_address,
                enroll_address=config.public_enroll_address,
                pid=os.getpid(),
                **shown,
            )
            self._tell_who_is_misled(config)
            if held := self._continuity.held():
                self._journal.decision("held", held, warn=True)
            if disclosure := self._study.disclosure:
                LOG.warning("disclosure: %s", disclosure)
            self._keep_moving(stop)
        finally:
            listener.stop()

    def _tell_who_is_misled(self, config: Config) -> None:
        """Say whose invitations lead to an address that this coordinator no longer has."""
        waiting, inside = moved(self._store, config)
        if waiting:
            again = "; ".join(f"epgfn-coordinator token {node} --home {self._home.root}" for node in waiting)
            self._journal.decision(
                "invitations-void",
                f"the address has changed, and these invitations lead elsewhere: {', '.join(waiting)}; make them anew: {again}",
                warn=True,
            )
        if inside:
            self._journal.decision(
                "nodes-misled",
                f"the address has changed, and these enrolled nodes know the old one: {', '.join(inside)}; have each set "
                f'address = "{config.public_address}" in its node.toml',
                warn=True,
            )

    def abandon(self) -> str:
        """Give up a round that has no result: the round key is destroyed, and the ledger says so; the round's state then.

        Raises:
            EpgfnError: there is a result, or it only has to be published.
        """
        state = round_state(self._store)
        complete = places.made(self._store, GLOBAL) and not self._study.aggregation.leave_one_out
        if state == PUBLISHED or (state == AGGREGATING and complete):
            raise EpgfnError(
                f"the round in {self._home.root} has a signed global model and cannot be abandoned; "
                "if nodes cannot fetch it yet, run epgfn-coordinator serve once"
            )
        if state not in WITHOUT_RESULT:
            accepted, total = len(accepted_nodes(self._store)), len(self._study.roster)
            self._round.advance(
                ABANDONED,
                f"the operator abandoned the round while {state}, with {accepted} of {total} models",
            )
        self._publication.abandon()
        return round_state(self._store)

    def extend(self, deadline: datetime) -> str:
        """See `Round.extend`."""
        self._log.publish()
        return self._round.extend(deadline)

    def revoke(self, node_id: str) -> str:
        """See `Revocation.revoke`."""
        self._log.publish()
        return self._revocation.revoke(node_id)

    def close(self) -> None:
        """Give the state back."""
        self._intake.close()
        self._store.close()

    def _keep_moving(self, stop: threading.Event) -> None:
        worker: _Worker | None = None
        late: _Worker | None = None
        try:
            while not stop.is_set():
                try:
                    worker, late = self._move(worker, late, stop)
                    if worker is None or not worker.again or (worker.done and worker.failure is None):
                        self._room.is_there()
                except NoRoomError as error:
                    self._room.is_missing(error)
                self._wake.wait(TICK)
                self._wake.clear()
        finally:
            for running in filter(None, (worker, late)):
                stop.set()
                running.thread.join(LAST_STEP if workers().size == 1 else LAST_STEP_TOGETHER)

    def _move(
        self, worker: _Worker | None, late: _Worker | None, stop: threading.Event
    ) -> tuple[_Worker | None, _Worker | None]:
        """One look at all that may have to be done; who is at work then."""
        self._revocation.answer()
        self._upkeep.look_if_possible()
        if stalled := self._watch.end_stalled():
            LOG.warning("ended %d stalled transfers", stalled)
        if held := self._continuity.held():
            self._round.turn_away(held)
            return worker, late
        self._round.tick(
            busy=self._intake.busy
        )  # what arrived in time is in time, however long its check takes
        # Asked before the state is: whoever has ended without an error has left no round aggregating but one opened again since.
        idle = worker is None or (worker.done and worker.failure is None)
        state = round_state(self._store)
        if state in WITHOUT_RESULT:
            self._publication.abandon()
        if worker is not None and worker.failure is not None:
            if not isinstance(worker.failure, NoRoomError) or workers().size > 1:
                raise EpgfnError(str(worker.failure)) from worker.failure
            if time.monotonic() - worker.ended < AGAIN:
                raise worker.failure  # which is said, and nothing else comes of it
            idle = True
        if idle and state == AGGREGATING:
            again = worker is not None and worker.failure is not None
            worker = _Worker(self._publication.run, stop, self._wake, again=again)
        if state == PUBLISHED:
            late = self._aggregate_late(late, stop)
        return worker, late

    def _aggregate_late(self, worker: _Worker | None, stop: threading.Event) -> _Worker | None:
        """Start on another global model if late models have come and none is being made; the worker at work, if any.

        One that fails ends nothing, since what is published must stay to be had: it is tried again when another late model
        comes, or at the next start.
        """
        if worker is not None and not worker.done:
            return worker
        if worker is not None and worker.failure is not None and not worker.told:
            worker.told = True
            self._journal.decision(
                "late-failed", f"the late models are not aggregated: {worker.failure}", warn=True
            )
        waiting = places.late_nodes(self._store)
        if not waiting or (worker is not None and worker.failure is not None and worker.about == waiting):
            return worker
        return _Worker(self._publication.run_late, stop, self._wake, waiting)

    def _desks(self) -> Servicers:
        return Servicers(
            StudyServicer(self._home, self._identity, self._round),
            ArtifactServicer(self._identity, self._intake, self._withdrawal, self._watch),
            ResultServicer(self._home, self._store, self._log, self._identity, self._round, self._watch),
            LedgerServicer(self._identity, self._log, self._continuity),
            CertificateServicer(self._store, self._identity, self._keys.authority, self._journal),
        )

    def _manifest(self) -> RoundPredicate:
        payload = verify_bundle(
            read_bytes(self._home.round_bundle, "round manifest"), self._keys.signing.public
        )
        return predicate_of(parse_statement(payload), RoundPredicate)


class _Room:
    """Says once that nothing can be written, and once that it can again."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._missing = journal, False

    def is_missing(self, error: NoRoomError) -> None:
        if not self._missing:
            self._journal.decision("no-room", f"{error}; serving goes on", warn=True)
        self._missing = True

    def is_there(self) -> None:
        if self._missing:
            self._journal.decision("room", "there is room again")
        self._missing = False


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


def still_aggregating() -> bool:
    """Whether a thread still trains or judges a model although serving has ended: it has not come to look whether it should stop.

    A process must not tidy up around it, since PyTorch then ends it with an abort. It may simply end: whatever is on disk is as a
    kill would leave it, and a kill is survived anywhere.
    """
    return any(thread.name == AGGREGATION and thread.is_alive() for thread in threading.enumerate())


def _stop_on_signals(stop: threading.Event) -> None:
    def handle(number: int, frame: FrameType | None) -> Any:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)

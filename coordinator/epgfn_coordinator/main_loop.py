"""`serve`: puts the rounds and the two ports together, keeps every round moving, and ends cleanly when asked.

What goes wrong in one round stops that round alone where there are others.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from epgfn.base.errors import EpgfnError, NoRoomError, UsageError
from epgfn.sealing.rotation import ForkError
from epgfn_coordinator import metrics, rounds
from epgfn_coordinator.certificates import Upkeep
from epgfn_coordinator.grpc_servers import Listener, Servicers
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.invitation import moved
from epgfn_coordinator.journal import LOG, Journal
from epgfn_coordinator.letters import Answered, Counter, LetterBox, Letters
from epgfn_coordinator.live_round import AGGREGATION, LAST_STEP, LiveRound, Shared
from epgfn_coordinator.loading import load
from epgfn_coordinator.people import revoked_in, share, unshared_revocations
from epgfn_coordinator.revocation import Requests
from epgfn_coordinator.round import everybody_has_it, round_state
from epgfn_coordinator.services.by_round import (
    ArtifactByRound,
    ByRound,
    Desk,
    LedgerByRound,
    ResultByRound,
    StudyByRound,
    SumByRound,
)
from epgfn_coordinator.services.certificate import CertificateServicer
from epgfn_coordinator.services.enrollment import Enrolling, Enrollment
from epgfn_coordinator.store import SERVED_FACT, Store
from epgfn_coordinator.streams import StreamWatch
from epgfn_coordinator.succession import keep_fork, replace_key
from epgfn_coordinator.succession import share as share_changes

if TYPE_CHECKING:
    from epgfn_coordinator.together import Trainer

TICK = 0.25  # seconds between looks at deadlines, requests and stalled streams
TAKE_UP_AGAIN: Final = 60.0  # seconds before a round that could not be served is tried again
LOADING: Final = "loading"
LOOK_AROUND: Final = (
    1.0  # seconds between looks for rounds that were added, and for what other rounds know of nodes
)


def serve(
    home: Home,
    journal: Journal,
    stop: threading.Event | None = None,
    trainer: Callable[[], Trainer] | None = None,
    *,
    together: bool = False,
    clock_is_right: bool = False,
    backup_is_newest: bool = False,
    metrics_port: int | None = None,
    until_fetched: bool = False,
) -> None:
    """Serve all rounds in `home` until `stop` is set (by SIGTERM or SIGINT too, in the main thread). `trainer` makes what
    trains global models, `together`: with other processes. `until_fetched`: or until every node has its result.
    `clock_is_right`: the operator vouches for the machine's clock as it is now; `backup_is_newest`: that nothing was entered in the ledger
    after the backup from which this home was restored. `metrics_port`: where on loopback to show metrics.

    Raises:
        EpgfnError: the ports are taken, a file is missing or unreadable, or aggregation failed; run again to go on.
        EpgfnError: with `until_fetched`: a round has ended without a result.
        KeyboardInterrupt: with `until_fetched`: it was stopped before.
    """
    stop = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        _stop_on_signals(stop)
    home.require()
    with home.served():
        coordinator = Coordinator(home, journal, trainer, together=together)
        try:
            coordinator.run(
                stop,
                clock_is_right=clock_is_right,
                backup_is_newest=backup_is_newest,
                metrics_port=metrics_port,
                until_fetched=until_fetched,
            )
            if until_fetched and not coordinator.everybody_has_it():
                raise KeyboardInterrupt
        finally:
            coordinator.close()


def abandon(home: Home, journal: Journal) -> str:
    """Give up the round in `home`, see `LiveRound.abandon`. Whatever interrupts it, a second call ends what is left to do.

    Raises:
        EpgfnError: a coordinator serves from `home`, or the round has a result.
    """
    home.require()
    with _alone(home, journal) as current:
        return current.abandon()


def extend(home: Home, journal: Journal, deadline: datetime) -> str:
    """Extend the round's deadline where nobody serves from `home`; a sentence that says so.

    Raises:
        EpgfnError: a coordinator serves from `home`, or see `Round.extend`.
    """
    with _alone(home, journal) as current:
        current.log.publish()
        return current.round.extend(deadline)


def revoke(home: Home, journal: Journal, node_id: str) -> str:
    """Revoke a node's keys, in all rounds, where nobody serves from `home`; a sentence that says so.

    Raises:
        EpgfnError: a coordinator serves from `home`, or see `Coordinator.revoke`.
    """
    with home.served():
        coordinator = Coordinator(home, journal)
        try:
            coordinator.publish()
            return coordinator.revoke(node_id)
        finally:
            coordinator.close()


def receive(home: Home, journal: Journal, letter: Path, out: Path) -> Answered:
    """Answer a letter where nobody serves from `home`.

    Raises:
        EpgfnError: a coordinator serves from `home`, or see `Letters.answer`.
    """
    with home.served():
        coordinator = Coordinator(home, journal)
        try:
            coordinator.publish()
            return coordinator.receive(letter, out)
        finally:
            coordinator.close()


@contextlib.contextmanager
def _alone(home: Home, journal: Journal) -> Iterator[LiveRound]:
    """One round, where nobody serves from its coordinator's directory."""
    with home.served():
        current = LiveRound(home, journal, Shared.of(home))
        try:
            yield current
        finally:
            current.close()


class Coordinator:
    """One serving process."""

    def __init__(
        self,
        home: Home,
        journal: Journal,
        trainer: Callable[[], Trainer] | None = None,
        *,
        together: bool = False,
    ) -> None:
        """Open all rounds.

        Raises:
            EpgfnError: a file of the coordinator is missing or unreadable, or one of the only round.
        """
        self._home, self._journal = Home(home.shared), journal
        self._config = Config.load(home.config)
        self._shared = Shared.of(home, trainer, together=together)
        self._shared.calls.revoked = lambda fingerprint: revoked_in(
            [each.member for each in self._rounds], fingerprint
        )
        self._rounds: list[LiveRound] = []
        self._desks: list[Desk] = []
        self._unserved: dict[Path, tuple[str, float]] = {}
        """Why rounds cannot be served, and when to try again, by their folders."""
        self._watch = StreamWatch()
        self._room = _Room(journal)
        self._letters: LetterBox | None = None
        self._looked = 0.0
        self._first_state: Store | None = None
        self._sharing = threading.Lock()
        every = rounds.all_rounds(self._home)
        self._several = len(every) > 1
        try:
            for each in every:
                self._open(each)
        except BaseException:
            self.close()
            raise
        if not self._rounds:
            raise EpgfnError(f"none of the rounds in {self._home.root} can be opened; the log says why")

    def _open(self, home: Home) -> LiveRound | None:
        """Open a round; where that does not work and there are others, they go on without it."""
        name = rounds.name_of(home)
        try:
            opened = LiveRound(home, self._journal.of(name, lambda: self._several), self._shared)
        except EpgfnError as error:
            self._cannot_serve(home, error)
            return None
        self._rounds = [*self._rounds, opened]
        return opened

    def _cannot_serve(self, home: Home, error: EpgfnError) -> None:
        if not self._several:
            raise error
        name = rounds.name_of(home)
        said, _ = self._unserved.get(home.root, ("", 0.0))
        self._unserved[home.root] = (str(error), time.monotonic() + TAKE_UP_AGAIN)
        if said != str(error):
            self._journal.decision(
                "round-unavailable",
                f"the round {name} cannot be served: {error}; the others go on, and this one is tried again every minute",
                warn=True,
                round=name,
            )

    def run(
        self,
        stop: threading.Event,
        *,
        clock_is_right: bool = False,
        backup_is_newest: bool = False,
        metrics_port: int | None = None,
        until_fetched: bool = False,
    ) -> None:
        """Serve until `stop` is set, or with `until_fetched` until every node has its result."""
        for each in self._rounds:
            try:
                each.begin(clock_is_right=clock_is_right, backup_is_newest=backup_is_newest)
            except NoRoomError:
                raise
            except EpgfnError as error:
                self._cannot_serve(each.home, error)
                self._rounds = [other for other in self._rounds if other is not each]
                each.close()
        if not self._rounds:
            raise EpgfnError(f"none of the rounds in {self._home.root} can be served; the log says why")
        upkeep = Upkeep(
            self._home,
            self._shared.keys.authority,
            self._journal,
            lambda: [each.store for each in self._rounds],
        )
        upkeep.look()
        self._desks = [each.desk() for each in self._rounds]
        self._share()
        listener = Listener(
            self._home, self._config, len({node for each in self._rounds for node in each.study.roster})
        )
        self._shared.calls.known = listener.recognise
        config = self._config.with_effective(listener.address, listener.enroll_address)
        if config != self._config:
            config.save(self._home.config)
        with metrics.served(self._home, self._standing, metrics_port) as metrics_address:
            self._serve(listener, config, upkeep, stop, metrics_address, until_fetched)

    def _serve(
        self,
        listener: Listener,
        config: Config,
        upkeep: Upkeep,
        stop: threading.Event,
        metrics_address: str,
        until_fetched: bool,
    ) -> None:
        enrollment = self._enrollment(config)
        self._letters = LetterBox(self._home, self.letters(enrollment))
        listener.start(self._servicers(), enrollment)
        try:
            shown: dict[str, Any] = (
                {"metrics": f"http://{metrics_address}/metrics"} if metrics_address else {}
            )
            self._journal.decision(
                "serving",
                "; ".join(self._in_words(each) for each in self._rounds),
                address=config.public_address,
                enroll_address=config.public_enroll_address,
                pid=os.getpid(),
                **shown,
            )
            for each in self._rounds:
                _tell_who_is_misled(each, config)
                each.say_what_is_odd()
            if any(each.may_train for each in self._rounds):
                # Beside the first calls: nobody should have to wait for it later.
                threading.Thread(target=load, name=LOADING, daemon=True).start()
            self._keep_moving(stop, upkeep, until_fetched)
        finally:
            listener.stop()

    def _in_words(self, each: LiveRound) -> str:
        called = f" ({each.name})" if self._several else ""
        return f"study {each.study.name}{called}, round {round_state(each.store)}"

    def _servicers(self) -> Servicers:
        by_round = ByRound(self, self._watch)
        return Servicers(
            StudyByRound(by_round),
            ArtifactByRound(by_round),
            ResultByRound(by_round),
            LedgerByRound(by_round),
            CertificateServicer(
                by_round,
                self._store_of,
                self._shared.keys.authority,
                self._journal,
                self._share_if_possible,
                self.replace_key,
            ),
            SumByRound(by_round),
        )

    def _enrollment(self, config: Config) -> Enrollment:
        return Enrollment(
            lambda: [Enrolling(each.member, each.log) for each in self._rounds],
            self._shared.keys.authority,
            self._journal,
            config.public_address,
            self._share_if_possible,
        )

    def letters(self, enrollment: Enrollment) -> Letters:
        """What answers letters."""
        return Letters(self._counters, enrollment, self._journal, self.replace_key)

    def _counters(self) -> list[Counter]:
        desks = {desk.round_id: desk for desk in self._desks}
        return [Counter(each, desks[each.round_id]) for each in self._rounds if each.round_id in desks]

    def receive(self, letter: Path, out: Path) -> Answered:
        """Answer a letter where nobody serves."""
        self._desks = [each.desk() for each in self._rounds]
        return self.letters(self._enrollment(self._config)).answer(letter, out)

    def all(self) -> list[Desk]:
        """What answers calls, a desk a round."""
        return self._desks

    def first(self) -> Desk | None:
        """That of the first round."""
        served = {each.round_id for each in self._rounds if each.home.house is None}
        return next((desk for desk in self._desks if desk.round_id in served), None)

    def missing(self) -> bool:
        """Whether there are rounds that cannot be served."""
        return bool(self._unserved)

    def _store_of(self, round_id: str) -> Store:
        return next(each.store for each in self._rounds if each.round_id == round_id)

    def _standing(self) -> list[metrics.Standing]:
        return [metrics.Standing(each.name, each.study, each.store) for each in self._rounds]

    def publish(self) -> None:
        """Bring each ledger up to its state.

        Raises:
            EpgfnError: one cannot be written.
        """
        for each in self._rounds:
            each.log.publish()

    def revoke(self, node_id: str) -> str:
        """Revoke a node's keys in every round in which they count; a sentence that says so.

        Raises:
            UsageError: it is on no roster, or holds no keys that count.
            EpgfnError: the state of a round cannot be written, or takes no entries now. In that round, too, they open nothing any more
                once they are revoked in another.
        """
        return revoke_in(self._rounds, node_id)

    def replace_key(self, node_id: str, statements: list[bytes]) -> None:
        """Put another signing key in the place of a node's, in every round, by what it has signed.

        Raises:
            RefusedError: see `replace_key` of `succession.py`; of a fork both statements are kept in the coordinator's directory.
            EpgfnError: a state cannot be written.
        """
        with self._sharing:
            try:
                new = replace_key([each.member for each in self._rounds], node_id, statements)
            except ForkError as fork:
                folder = keep_fork(self._home, fork)
                self._journal.decision(
                    "fork",
                    f"{fork}; both statements are in {folder}",
                    warn=True,
                    caller=node_id,
                    node=node_id,
                )
                raise
        for each in self._rounds:
            each.log.publish_now_or_later()
        for rotation in new:
            self._journal.decision(
                "key-replaced", f"{node_id} signs with {rotation.in_words}", caller=node_id, node=node_id
            )

    def everybody_has_it(self) -> bool:
        """Whether every node has its result, in every round.

        Raises:
            EpgfnError: a round has ended without a result.
        """
        return all(everybody_has_it(each.store) for each in self._rounds)

    def close(self) -> None:
        """Give the states back."""
        for each in self._rounds:
            each.close()
        if self._first_state is not None:
            self._first_state.close()

    def _asked_in(self) -> Store | None:
        """The state in which operators ask for what concerns all rounds: that of the first, also where that one cannot be served. None if
        not even its state can be opened."""
        for each in self._rounds:
            if each.home.house is None:
                return each.store
        if self._first_state is None:
            with contextlib.suppress(EpgfnError):
                self._first_state = Store(self._home.state)
        return self._first_state

    def _keep_moving(self, stop: threading.Event, upkeep: Upkeep, until_fetched: bool) -> None:
        requests = Requests(self.revoke)
        try:
            while not stop.is_set():
                missing: NoRoomError | None = None
                try:
                    if (asked := self._asked_in()) is not None:
                        requests.answer(asked)
                        if self._letters is not None:
                            self._letters.look(asked)
                    upkeep.look_if_possible()
                    self._look_around()
                except NoRoomError as error:
                    missing = error
                going = True
                for each in self._rounds:
                    try:
                        going = each.move(stop) and going
                    except NoRoomError as error:
                        missing = error
                    except EpgfnError as error:
                        if not self._several:
                            raise
                        each.stop_moving(error)
                    except Exception as error:
                        if not self._several:
                            raise
                        # Its text may quote what a model holds, so only the type is shown.
                        each.stop_moving(EpgfnError(f"an unexpected {type(error).__name__} came up"))
                if missing is not None:
                    self._room.is_missing(missing)
                elif going:
                    self._room.is_there()
                if until_fetched and self.everybody_has_it():
                    break
                self._shared.wake.wait(TICK)
                self._shared.wake.clear()
        finally:
            stop.set()
            for each in self._rounds:
                each.end()
            if self._letters is not None:
                self._letters.end(LAST_STEP)

    def _look_around(self) -> None:
        """Every now and then: take up rounds that were added, and have each know what the others know of nodes."""
        if time.monotonic() - self._looked < LOOK_AROUND:
            return
        self._looked = time.monotonic()
        self._watch.end_stalled()
        served = {each.home.root for each in self._rounds}
        with contextlib.suppress(OSError):  # no descriptor is left, say
            for home in rounds.all_rounds(self._home):
                again = self._unserved.get(home.root, ("", 0.0))[1]
                if home.root not in served and time.monotonic() >= again:
                    self._several = True
                    self._take_up(home)
        self._share_if_possible()

    def _take_up(self, home: Home) -> None:
        opened = self._open(home)
        if opened is None:
            return
        try:
            opened.begin()
        except EpgfnError as error:
            self._rounds = [each for each in self._rounds if each is not opened]
            opened.close()
            if not isinstance(error, NoRoomError):  # which may pass
                self._cannot_serve(opened.home, error)
            return
        self._desks = [*self._desks, opened.desk()]
        self._unserved.pop(opened.home.root, None)
        opened.store.set_fact(SERVED_FACT, "")  # for whoever has added it and waits for this
        opened.journal.decision("round-added", self._in_words(opened))
        opened.say_what_is_odd()

    def _share(self) -> None:
        with self._sharing:
            live = {id(each.store): each for each in self._rounds}
            members = [each.member for each in self._rounds]
            if len(members) < 2:
                return
            for member, node_id in unshared_revocations(members):
                with contextlib.suppress(EpgfnError):  # that round takes no entries now
                    live[id(member.store)].revocation.revoke(node_id)
            if share_changes(members) + share(members):
                for each in self._rounds:
                    each.log.publish_now_or_later()

    def _share_if_possible(self) -> None:
        """What does not work now works a second later."""
        try:
            self._share()
        except EpgfnError as error:
            LOG.error("no room: %s", error)


def revoke_in(live: list[LiveRound], node_id: str) -> str:
    """See `Coordinator.revoke`."""
    if len(live) == 1:
        return live[0].revocation.revoke(node_id)
    said, trouble = [], []
    for each in live:
        if each.store.row("SELECT 1 FROM nodes WHERE node_id = ?", node_id) is None:
            continue
        try:
            said.append(f"{each.name}: {each.revocation.revoke(node_id)}")
        except EpgfnError as error:
            trouble.append(f"{each.name}: {error}")
    if trouble:
        raise EpgfnError("; ".join([*trouble, *said]))
    if said:
        return "; ".join(said)
    errors = []
    for each in live:
        try:
            each.revocation.revoke(node_id)  # which says why there is nothing to revoke
        except UsageError as error:
            if node_id in each.study.roster:
                raise
            errors.append(error)
    raise errors[0]


def _tell_who_is_misled(current: LiveRound, config: Config) -> None:
    """Say whose invitations lead to an address that this coordinator no longer has."""
    waiting, inside = moved(current.store, config)
    if waiting:
        chosen = rounds.options(current.home)
        again = "; ".join(f"epgfn-coordinator token {node} {chosen}" for node in waiting)
        current.journal.decision(
            "invitations-void",
            f"the address has changed, and these invitations lead elsewhere: {', '.join(waiting)}; make them anew: {again}",
            warn=True,
        )
    if inside:
        current.journal.decision(
            "nodes-misled",
            f"the address has changed, and these enrolled nodes know the old one: {', '.join(inside)}; have each set "
            f'address = "{config.public_address}" in its node.toml',
            warn=True,
        )


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


def still_at_work() -> bool:
    """Whether a thread still loads, trains or judges a model although serving has ended: it has not come to look whether it should stop.

    A process must not tidy up around it, since PyTorch then ends it with an abort. It may simply end: whatever is on disk is as a
    kill would leave it, and a kill is survived anywhere.
    """
    return any(
        thread.name in (AGGREGATION, LOADING) and thread.is_alive() for thread in threading.enumerate()
    )


def _stop_on_signals(stop: threading.Event) -> None:
    def handle(number: int, frame: FrameType | None) -> Any:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)

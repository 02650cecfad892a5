"""No round fails and no key is destroyed on the word of one reading of the clock."""

from __future__ import annotations

import sqlite3
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from coordinator_client import FakeNode, InProcess, OwnProcess, ledger_kinds, make_home, reason_of, tiny_study
from epgfn.base.errors import NoRoomError, UsageError
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.entries import DeadlineEntry, StateEntry, parse
from epgfn.run.audit.audit import audit_run
from epgfn.study import Study
from epgfn.v1 import study_pb2
from epgfn_coordinator import clock, main_loop
from epgfn_coordinator.clock import LEAP, doubt_of, spelled
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Home
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.status import status
from epgfn_coordinator.store import Store
from parties import on_coordinator

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def run(home: Home, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return on_coordinator(verb, "--home", str(home.root), *arguments)


def study_until(deadline: datetime, *, grace_days: float = 7, **changes: Any) -> Study:
    return tiny_study(deadline=f"deadline = {spelled(deadline)}\ngrace_days = {grace_days}", **changes)


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=2)


def states(home: Home) -> list[str]:
    """The ledger's states, and "deadline" where it was extended."""
    store = Store(home.state)
    try:
        entries = [parse(raw) for raw in store.entries()]
    finally:
        store.close()
    return [
        "deadline" if isinstance(entry, DeadlineEntry) else entry.state
        for entry in entries
        if isinstance(entry, DeadlineEntry | StateEntry)
    ]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    def set_to(moment: datetime) -> None:
        monkeypatch.setattr(clock, "now", lambda: moment)

    return set_to


def test_which_readings_are_doubted() -> None:
    seen, due = NOON, NOON + DAY
    little = timedelta(seconds=1)
    for time_, moment in (
        (seen, due),
        (seen - LEAP, due),  # clocks are put right by a little
        (seen + HOUR, due),  # ordinary downtime
        (seen + 30 * DAY, None),  # nothing hangs on it
        (seen + 30 * DAY, seen - little),  # that it is due was believed before
        (seen + LEAP, seen + little),  # a restart over the deadline
    ):
        assert not doubt_of(time_, seen, moment)
    assert "before 2030-01-01T12:00:00Z" in doubt_of(seen - LEAP - little, seen, None)
    assert "2030-01-02T12:00:00Z has passed" in doubt_of(due, seen, due)


def test_a_deadline_that_has_passed_is_refused_at_init(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_bytes(tiny_study(deadline="deadline = 2020-01-01T00:00:00Z").raw)
    home = Home(tmp_path / "home")
    done = run(home, "init", "--study", str(study))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "2020-01-01T00:00:00Z, has passed" in done.stderr
    assert not home.config.exists()


def test_below_the_quorum_the_operator_extends_and_the_round_goes_on(tmp_path: Path) -> None:
    study = study_until(soon())
    home = make_home(tmp_path / "home", study)
    with OwnProcess(home) as server:
        node, other = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        upload = node.make_upload(study)
        assert "quorum" in server.wait_for("waiting")["message"]
        answer = node.round()
        assert answer.state == study_pb2.ROUND_STATE_WAITING and "extend the deadline" in answer.detail
        assert reason_of(lambda: node.begin(upload.bundle)) == "waiting"
        assert reason_of(node.result) == "not-published"
        found = status(home)
        assert (found["state"], found["round_key"]) == ("waiting", "kept")
        ends = datetime.fromisoformat(found["grace_ends"])
        assert timedelta(days=6.9) < ends - datetime.now(UTC) < timedelta(days=7)
        assert "extend --deadline" in found["next"] and found["grace_ends"] in found["next"]

        assert "waiting" in run(home, "close").stderr
        early = run(home, "extend", "--deadline", "2020-01-01T00:00:00Z")
        assert (early.returncode, early.stderr.count("\n")) == (1, 1) and "has passed" in early.stderr
        naive = run(home, "extend", "--deadline", "2090-01-01T00:00:00")
        assert (naive.returncode, naive.stderr.count("\n")) == (2, 1) and "time zone" in naive.stderr
        later = run(home, "extend", "--deadline", "2090-01-01T01:00:00+01:00")
        assert later.returncode == 0 and "open again" in later.stdout, later.stderr

        answer = node.round()
        assert answer.state == study_pb2.ROUND_STATE_OPEN
        assert "the deadline is 2090-01-01T00:00:00Z, extended by the operator" in answer.detail
        node.send(upload)
        other.send(other.make_upload(study, seed=1))
        server.wait_for("published")
    assert states(home) == ["open", "waiting", "deadline", "open", "aggregating", "published"]
    assert "refused" not in ledger_kinds(home)
    assert export(home, tmp_path / "run") == "published"
    report = audit_run(tmp_path / "run")
    assert report.ok, report.findings


def test_only_the_end_of_the_grace_period_destroys_the_key(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", study_until(soon(), grace_days=3 / 86400))
    with OwnProcess(home) as server:
        server.wait_for("waiting")
        assert home.key("round.key").exists()
        assert "0 of 2" in server.wait_for("failed")["message"]
        limit = time.monotonic() + 300
        while "key-destroyed" not in ledger_kinds(home):
            assert time.monotonic() < limit
            time.sleep(0.01)
        node = FakeNode.enrolled(home, "a")
        assert reason_of(node.result) == "round-failed"
        assert node.round().state == study_pb2.ROUND_STATE_FAILED
    assert not home.key("round.key").exists()
    assert "failed" in run(home, "extend", "--deadline", "2090-01-01T00:00:00Z").stderr
    with InProcess(home):  # a failed round is served, and destroys nothing twice
        pass
    assert ledger_kinds(home).count("key-destroyed") == 1
    assert export(home, tmp_path / "run") == "failed"
    assert not (tmp_path / "run" / "global").exists()
    report = audit_run(tmp_path / "run")
    said = {finding.check: finding.message for finding in report.findings}
    assert report.ok and "no global model" in said["global"]


def test_extended_is_said_although_the_disk_is_full_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path / "home", tiny_study(deadline="deadline = 2089-01-01T00:00:00Z"))

    def full(self: PublishedLog) -> Checkpoint:
        raise NoRoomError("cannot write the ledger; free some space")

    with InProcess(home):
        with monkeypatch.context() as patch:
            patch.setattr(PublishedLog, "publish", full)
            done = run(home, "extend", "--deadline", "2090-01-01T00:00:00Z")
        assert done.returncode == 0 and "extended the deadline to 2090-01-01" in done.stdout
        assert "extended by the operator" in FakeNode.enrolled(home, "a").round().detail


def test_killed_while_it_extends_nothing_is_half_done(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", study_until(soon()))
    with OwnProcess(home, die_before="epgfn_coordinator.round:DeadlineEntry") as server:
        server.wait_for("waiting")
        store = Store(home.state)
        store.write("INSERT INTO requests (deadline) VALUES ('2090-01-01T00:00:00+00:00')")
        store.close()
        server.wait_for_death()
    assert states(home) == ["open", "waiting"]
    with OwnProcess(home):
        assert status(home)["state"] == "waiting"
        assert run(home, "extend", "--deadline", "2090-01-01T00:00:00Z").returncode == 0
    assert states(home) == ["open", "waiting", "deadline", "open"]


def test_a_waiting_round_can_be_abandoned(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", study_until(soon()))
    with InProcess(home) as server:
        server.events.wait_for("waiting")
    done = run(home, "abandon", "--yes")
    assert done.returncode == 0 and "destroyed" in done.stdout, done.stderr
    export(home, tmp_path / "run")
    assert audit_run(tmp_path / "run").ok


def test_a_clock_far_ahead_decides_nothing_until_the_operator_vouches(
    tmp_path: Path, set_clock: Callable[[datetime], None]
) -> None:
    set_clock(NOON)
    study = study_until(NOON + DAY, quorum=1)
    home = make_home(tmp_path / "home", study)
    set_clock(NOON + 400 * DAY)
    with InProcess(home) as server:
        assert "--clock-is-right" in server.events.wait_for("held")["message"]
        assert status(home)["held"] and status(home)["state"] == "open"
        node = FakeNode.enrolled(home, "a")
        node.send(node.make_upload(study))
        time.sleep(3 * main_loop.TICK)
        assert status(home)["state"] == "open"  # a quorum is in, and more may come
    set_clock(NOON + HOUR)
    with InProcess(home):
        assert status(home)["held"] is None  # put right, it is believed
    set_clock(NOON + 400 * DAY)
    with InProcess(home) as server:
        server.events.wait_for("held")  # starting it again is no second opinion
    with vouched(home) as server:
        server.events.wait_for("published")
    assert home.key("round.key").exists() is False


def test_a_clock_far_ahead_does_not_end_the_grace_period(
    tmp_path: Path, set_clock: Callable[[datetime], None]
) -> None:
    set_clock(NOON)
    home = make_home(tmp_path / "home", study_until(NOON + timedelta(minutes=2)))
    with InProcess(home) as server:
        set_clock(NOON + timedelta(minutes=4))  # it runs while the deadline passes
        server.events.wait_for("waiting")
        set_clock(NOON + 30 * DAY)  # and then its clock jumps
        server.events.wait_for("held")
        time.sleep(3 * main_loop.TICK)
        assert status(home)["state"] == "waiting" and home.key("round.key").exists()
    with vouched(home) as server:
        server.events.wait_for("failed")


def test_a_clock_that_went_back_is_said(tmp_path: Path, set_clock: Callable[[datetime], None]) -> None:
    set_clock(NOON)
    home = make_home(tmp_path / "home", study_until(NOON + DAY))
    set_clock(NOON - HOUR)
    assert "before 2030-01-01T12:00:00Z" in status(home)["held"]
    with InProcess(home) as server:
        server.events.wait_for("held")
    with vouched(home):
        assert status(home)["held"] is None


def test_extending_ahead_of_time_needs_no_serving_process(
    tmp_path: Path, set_clock: Callable[[datetime], None]
) -> None:
    set_clock(NOON)
    home = make_home(tmp_path / "home", study_until(NOON + DAY))
    events = Journal(InProcess(home).events)
    main_loop.extend(home, events, NOON + 2 * DAY)
    with pytest.raises(UsageError, match="already"):
        main_loop.extend(home, events, NOON + 2 * DAY)
    found = status(home)
    assert (found["deadline"], found["extended"]) == ("2030-01-03T12:00:00Z", True)
    assert states(home) == ["open", "deadline"]
    assert "2030-01-03T12:00:00Z" in found["next"]


def test_looking_waits_for_nobody_who_writes(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    store = Store(home.state)
    begun = time.monotonic()
    with store.transaction():
        assert status(home)["state"] == "open"
    store.close()
    assert time.monotonic() - begun < 25  # and not the 30 s for which a writer is waited for


def test_a_home_of_before_there_were_deadlines_to_extend_opens(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", study_until(soon() + HOUR))
    with InProcess(home):
        FakeNode.enrolled(home, "a")
    with sqlite3.connect(home.state) as old:
        old.execute("ALTER TABLE requests DROP COLUMN deadline")
        old.execute("DELETE FROM facts WHERE name = 'seen'")
    with InProcess(home):
        assert status(home)["held"] is None
        later = run(home, "extend", "--deadline", "2090-01-01T00:00:00Z")
        assert later.returncode == 0, later.stderr


class vouched(InProcess):
    """`serve --clock-is-right`."""

    def _run(self) -> None:
        main_loop.serve(self.home, Journal(self.events, events=True), self._stop, clock_is_right=True)

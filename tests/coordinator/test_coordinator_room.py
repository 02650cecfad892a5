"""A full disk, and logs that others write into: said in a sentence, bounded, and `serve` goes on when there is room."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from coordinator_client import (
    Events,
    FakeNode,
    InProcess,
    OwnProcess,
    ledger_kinds,
    make_home,
    reason_of,
    tiny_study,
)
from epgfn.base.errors import EpgfnError, NoRoomError
from epgfn.base.files import write_atomic
from epgfn.sealing.envelope import sealed_size
from epgfn_coordinator import journal, live_round, quota
from epgfn_coordinator.journal import LOG, Journal, caused_by, log_to_stderr
from epgfn_coordinator.publication import Publication
from epgfn_coordinator.quota import Quota
from epgfn_coordinator.refusals import MAX_RECORDED


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def filled(folder: Path) -> Path:
    """A file that takes what is left of the disk."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as target, contextlib.suppress(OSError):
        while target.write(bytes(4096)):
            pass
    return path


ALL_OF_IT = """
from epgfn_coordinator import live_round, quota
quota.KEPT = {kept}
live_round.AGAIN = 1.0
from epgfn_coordinator.cli import main
import sys
sys.argv = ["epgfn-coordinator", *sys.argv[1:]]
main()
"""


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_step_ends_nothing(small_disk: Path) -> None:
    study = tiny_study()
    home = make_home(small_disk / "home", study)
    with OwnProcess(home, program=ALL_OF_IT.format(kept=0)) as server:
        a, b = FakeNode.enrolled(home, "a"), FakeNode.invited(home, "b")
        upload = a.make_upload(study)
        begun = a.begin(upload.bundle)

        filler = filled(small_disk)
        assert reason_of(b.enroll) == "no-space"
        assert reason_of(lambda: a.upload(begun.upload_id, upload.sealed)) == "no-space"
        filler.unlink()
        b.enroll()
        a.upload(begun.upload_id, upload.sealed[a.status(begun.upload_id).offset :])

        filler = filled(small_disk)
        assert reason_of(lambda: a.committed(begun.upload_id)) == "no-space"
        filler.unlink()
        assert a.committed(begun.upload_id).receipt == a.send(upload).receipt

        other = b.make_upload(study, seed=1)
        b.send(other)
        filler = filled(small_disk)  # while the round closes and the global model is made
        time.sleep(2)
        assert server.process.poll() is None
        filler.unlink()
        server.wait_for("published")
        server.process.terminate()
        _, said = server.process.communicate()
        assert server.process.returncode == 0 and "Traceback" not in said and "Logging error" not in said
        assert any("cannot" in line and "ERROR no room" in line for line in said.splitlines())
    kinds = ledger_kinds(home)
    assert [kinds.count(kind) for kind in ("enrolled", "accepted", "refused", "global")] == [2, 2, 0, 1]


def test_uploads_do_not_get_the_last_of_the_disk(small_disk: Path) -> None:
    study = tiny_study(hidden=300, limit=16 << 20)
    home = make_home(small_disk / "home", study)
    with OwnProcess(home, program=ALL_OF_IT.format(kept=4 << 20)) as server:
        node = FakeNode.enrolled(home, "a")
        upload = node.make_upload(study)
        filler = small_disk / "filler"
        filler.write_bytes(bytes(3 << 20))
        assert reason_of(lambda: node.begin(upload.bundle)) == "no-space"
        filler.unlink()
        begun = node.begin(upload.bundle)
        filler.write_bytes(bytes(4 << 20))
        assert reason_of(lambda: node.upload(begun.upload_id, upload.sealed)) == "no-space"
        filler.unlink()
        assert node.send(upload).receipt
        server.process.terminate()
        assert "beside 4 MiB that are kept for everything else" in server.process.communicate()[1]


def test_a_round_whose_steps_find_no_room_is_held_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a small disk: what writes says so itself."""
    study = tiny_study(quorum=1, close_when="quorum")
    home = make_home(tmp_path / "home", study)
    full = iter([True, True, False, False, False])
    real = Publication.run

    def run(self: Publication, stop: Any) -> None:
        if next(full):
            raise NoRoomError("cannot write it; free some space")
        real(self, stop)

    monkeypatch.setattr(Publication, "run", run)
    monkeypatch.setattr(live_round, "AGAIN", 0.5)
    with InProcess(home) as server:
        node = FakeNode.enrolled(home, "a")
        node.send(node.make_upload(study))
        said = server.events.wait_for("no-room", "ended")
        assert (said["phase"], said["message"]) == (
            "no-room",
            "cannot write it; free some space; serving goes on",
        )
        assert node.round().bundle
        server.events.wait_for("room")
        phases = [event["phase"] for event in server.events.seen]
        assert phases.count("no-room") == phases.count("room") == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, NoRoomError),
        (errno.EMFILE, NoRoomError),
        (errno.EROFS, NoRoomError),
        (errno.EACCES, EpgfnError),
    ],
)
def test_what_may_pass_is_told_from_what_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[EpgfnError]
) -> None:
    def fails(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(EpgfnError, match=os.strerror(code)) as failure:
        write_atomic(tmp_path / "file", b"x")
    assert type(failure.value) is kind and not list(tmp_path.iterdir())


def test_a_node_that_begins_again_and_again_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "TIMES", 1)
    study = tiny_study(limit=20_000)
    home = make_home(tmp_path / "home", study)
    with InProcess(home):
        node = FakeNode.enrolled(home, "a")
        size = 12_000
        model = next(each for each in range(size) if sealed_size("X25519", each) == size)
        first, second = (
            node.begin(node.make_upload(study, seed=seed, sealed_size=size, model_size=model).bundle)
            for seed in range(2)
        )
        assert reason_of(lambda: node.upload(first.upload_id, bytes(size))) == "unknown-upload"
        node.upload(second.upload_id, bytes(size))
        third = node.begin(node.make_upload(study, seed=2, sealed_size=size, model_size=model).bundle)
        assert third.offset == 0
        assert reason_of(lambda: node.upload(third.upload_id, bytes(size))) == "too-much-data"
        assert len(list(home.uploads.iterdir())) <= 1, "one unfinished upload"
        other = FakeNode.enrolled(home, "b")
        assert other.send(other.make_upload(study)).receipt


def test_what_finds_no_room_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a node that tries again while the disk is full would have no quota left once there is room."""
    monkeypatch.setattr(quota, "TIMES", 1)
    study = tiny_study(limit=64 << 10)
    home = make_home(tmp_path / "home", study)
    with InProcess(home):
        node = FakeNode.enrolled(home, "a")
        upload = node.make_upload(study)
        begun = node.begin(upload.bundle)
        with monkeypatch.context() as patch:
            patch.setattr(quota, "KEPT", 1 << 60)
            for _ in range((64 << 10) // len(upload.sealed) + 1):
                assert reason_of(lambda: node.upload(begun.upload_id, upload.sealed)) == "no-space"
        assert node.send(upload).receipt


def test_a_quota_is_each_nodes_own(tmp_path: Path) -> None:
    found = Quota(tmp_path, 10)
    for _ in range(quota.TIMES):
        found.count("a", 10)
    assert reason_of(lambda: found.count("a", 1)) == "too-much-data"
    found.count("b", 1)
    found.require_room(1)
    with pytest.raises(NoRoomError, match="no room for"):
        found.require_room(1 << 60)


@pytest.fixture
def own_log(tmp_path: Path) -> Iterator[Path]:
    before = (LOG.handlers[:], LOG.filters[:], LOG.level, LOG.propagate)
    LOG.handlers[:] = []
    log_to_stderr(tmp_path / "log")
    yield tmp_path / "log"
    for handler in LOG.handlers:
        handler.close()
    LOG.handlers[:], LOG.filters[:], LOG.level, LOG.propagate = before


def to_stream(stream: TextIO) -> None:
    handler = LOG.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.stream = stream


def test_one_callers_lines_are_at_a_pace_and_say_how_many_were_left_out(
    own_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, stderr = Events(), io.StringIO()
    to_stream(stderr)
    said = Journal(events, events=True)
    for number in range(5_000):
        said.decision("refused", "x", warn=True, caller="a", number=number)
        LOG.warning("login refused", extra=caused_by("b"))
    said.decision("accepted", "of another", caller="c")
    said.decision("published", "of nobody in particular")
    lines = stderr.getvalue().splitlines()
    assert len(lines) < 2 * journal.LINES_AT_ONCE + 10
    assert sum("accepted" in line or "published" in line for line in lines) == 2
    assert len(events.seen) < journal.LINES_AT_ONCE + 10
    later = time.monotonic() + 1 / journal.LINES_PER_SECOND + 1
    monkeypatch.setattr(LOG.filters[0]._pace, "_clock", lambda: later)  # type: ignore[union-attr]
    said.decision("refused", "x", caller="a")
    line = stderr.getvalue().splitlines()[-1]
    assert "refused: x  (and 49" in line and line.endswith("lines like it)")
    assert "of nobody in particular" in (own_log / "coordinator.log").read_text()


def test_logs_are_rotated_and_only_so_many_are_kept(own_log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for handler in LOG.handlers:
        if hasattr(handler, "maxBytes"):
            monkeypatch.setattr(handler, "maxBytes", 10_000)
    for number in range(2_000):
        LOG.info("line %d", number)
    files = sorted(own_log.iterdir())
    assert len(files) == 1 + journal.FILES_BEFORE
    assert all(path.stat().st_size <= 10_000 for path in files)


def test_a_log_that_cannot_be_written_ends_nothing(own_log: Path) -> None:
    with contextlib.suppress(OSError), open("/dev/full", "w", buffering=1) as full:
        to_stream(full)  # every write ends with "no space left"
        LOG.error("said to nobody")
        to_stream(io.StringIO())
    assert "said to nobody" in (own_log / "coordinator.log").read_text()


def test_a_certificate_cannot_fill_the_log(tmp_path: Path) -> None:
    """Some 1,000 calls of a node that is refused: a few dozen lines."""
    home = make_home(tmp_path / "home", tiny_study())
    with OwnProcess(home) as server:
        node = FakeNode.enrolled(home, "a")
        for number in range(2 * MAX_RECORDED):
            with contextlib.suppress(EpgfnError):
                node.begin(b"junk %d" % number)
        server.process.terminate()
        out, err = server.process.communicate()
    assert len(err.splitlines()) < journal.LINES_AT_ONCE + 20
    assert len(out.splitlines()) < journal.LINES_AT_ONCE + 20
    assert ledger_kinds(home).count("refused") == MAX_RECORDED

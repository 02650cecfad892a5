"""Backups of a coordinator: taken while it serves, restored elsewhere once it is gone, never older than what nodes have seen."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import stat
import tarfile
import threading
from pathlib import Path
from typing import Any

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
from epgfn.base.archive import MANIFEST
from epgfn.base.console import run_app
from epgfn.base.errors import EpgfnError
from epgfn.run.audit.audit import audit_run
from epgfn.study import Study
from epgfn_coordinator import backup
from epgfn_coordinator.cli import NAME, app
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Home
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.main_loop import serve
from epgfn_coordinator.status import status
from epgfn_coordinator.streams import StreamWatch


def command(home: Home, verb: str, *arguments: str, code: int = 0) -> str:
    """What `epgfn-coordinator` says. In this process, which saves seconds."""
    out, err, ended = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_app(app, NAME, [verb, *arguments, "--home", str(home.root)])
        except SystemExit as end:
            ended = int(end.code or 0)
    assert ended == code, (ended, err.getvalue())
    assert code == 0 or err.getvalue().count("\n") == 1
    return err.getvalue() if code else out.getvalue()


def show(node: FakeNode, note: bytes) -> bytes:
    """The newest checkpoint, as a node that keeps `note` asks for it."""
    size = int(note.decode().split("\n")[1])
    return bytes(node.checkpoint(size, note).checkpoint)


@pytest.fixture
def study() -> Study:
    return tiny_study()


def test_a_round_goes_on_from_a_backup_in_another_place(tmp_path: Path, study: Study) -> None:
    home, again, file = (
        make_home(tmp_path / "home", study),
        Home(tmp_path / "again"),
        tmp_path / "b" / "one.tar",
    )
    with OwnProcess(home) as server:
        a, b = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        uploads = a.make_upload(study), b.make_upload(study, seed=1)
        receipt = a.send(uploads[0]).receipt
        b.upload(b.begin(uploads[1].bundle).upload_id, uploads[1].sealed[:100])
        said = json.loads(command(home, "backup", str(file), "--json"))
        assert (said["state"], said["entries"], said["round_key"]) == ("open", 6, True)
        seen = [bytes(node.checkpoint().checkpoint) for node in (a, b)]
        server.kill()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shutil.move(home.root, tmp_path / "lost")

    said = json.loads(command(again, "restore", str(file), "--json"))
    assert said["entries"] == 6
    assert stat.S_IMODE(again.keys.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in again.keys.iterdir())
    with OwnProcess(again) as server:
        held = server.wait_for("held")["message"]
        assert "a, b" in held and held == status(again)["held"]
        assert a.send(uploads[0]).receipt == receipt  # what was acknowledged is there
        assert reason_of(lambda: b.send(uploads[1])) == "restored"
        assert "earlier state" in b.round().detail
        assert "--backup-is-newest" in command(again, "close", code=3)
        show(a, seen[0])
        assert "missing: b" in status(again)["held"]
        assert ledger_kinds(again) == ["study", "round", "state", "enrolled", "enrolled", "accepted"]
        show(b, seen[1])
        server.wait_for("released")
        b.send(uploads[1])
        server.wait_for("published")
        assert a.send(uploads[0]).receipt == receipt
        later = a.checkpoint(6, seen[0])
        assert later.consistency_proof  # of what a had seen before the disaster
    assert ledger_kinds(again).count("accepted") == 2 and not again.key("round.key").exists()
    assert export(again, tmp_path / "run") == "published" and audit_run(tmp_path / "run").ok

    # Of a round that is over there is no key to keep; signed results are kept with it.
    said = json.loads(command(again, "backup", str(tmp_path / "two.tar"), "--json"))
    assert (said["state"], said["round_key"]) == ("published", False)
    third = Home(tmp_path / "third")
    command(third, "restore", str(tmp_path / "two.tar"))
    with InProcess(third):
        assert b.result().entry and b.download(0) == (again.result / "model.safetensors").read_bytes()


def test_an_older_backup_than_nodes_have_seen_is_refused_or_held(tmp_path: Path, study: Study) -> None:
    home, file = make_home(tmp_path / "home", study), tmp_path / "old.tar"
    with OwnProcess(home) as server:
        a, b = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        command(home, "backup", str(file))
        unaware = bytes(b.checkpoint().checkpoint)
        upload = a.make_upload(study)
        a.send(upload)
        seen = bytes(a.checkpoint().checkpoint)  # a ledger with its model in it
        server.kill()
    shutil.move(home.root, tmp_path / "lost")
    (tmp_path / "last-checkpoint").write_bytes(seen)

    said = command(home, "restore", str(file), "--checkpoint", str(tmp_path / "last-checkpoint"), code=1)
    assert "5 ledger entries" in said and "signed 6" in said and "newer backup" in said
    assert not home.root.exists() and not list(tmp_path.glob(".home*"))
    (tmp_path / "last-checkpoint").write_bytes(
        unaware
    )  # proves nothing against the backup, and nothing for it
    command(home, "restore", str(file), "--checkpoint", str(tmp_path / "last-checkpoint"))

    with OwnProcess(home) as server:
        server.wait_for("held")
        show(b, unaware)
        # Without its signature it is a claim, which may be a lie: it is told, and decides nothing.
        assert reason_of(lambda: a.checkpoint(6)) == "restored"
        assert "missing: a" in status(home)["held"]
        assert reason_of(lambda: show(a, seen)) == "restored"
        assert "a has shown" in server.wait_for("held")["message"]
        assert reason_of(lambda: a.send(upload)) == "restored"
        show(b, unaware)
    assert "a has shown a checkpoint" in status(home)["held"]
    with pytest.raises(EpgfnError, match="newer backup"):
        serve(home, Journal(Events(), events=True), threading.Event(), backup_is_newest=True)
    assert "earlier state" in command(home, "abandon", "--yes", code=1)
    assert len(ledger_kinds(home)) == 5


def test_the_operator_may_vouch_for_a_backup(tmp_path: Path, study: Study) -> None:
    home, file = make_home(tmp_path / "home", study), tmp_path / "new.tar"
    command(home, "backup", str(file))
    shutil.move(home.root, tmp_path / "lost")
    command(home, "restore", str(file))
    with InProcess(home):
        invited = FakeNode.invited(home, "a")
        assert reason_of(invited.enroll) == "restored"
    assert status(home)["held"]
    with OwnProcess(home, options=["--backup-is-newest"]):
        FakeNode.enrolled(home, "a")
    assert status(home)["held"] is None


@pytest.mark.parametrize("restored", [True, False])
def test_a_node_that_has_enrolled_since_proves_that_the_state_is_older(
    tmp_path: Path, study: Study, restored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The restored state does not know it; what it shows is signed by the coordinator all the same."""
    home, file = make_home(tmp_path / "home", study), tmp_path / "old.tar"
    with InProcess(home):
        a = FakeNode.enrolled(home, "a")
        unaware = bytes(a.checkpoint().checkpoint)
    command(home, "backup", str(file))
    shutil.copytree(home.root, tmp_path / "snapshot")
    with InProcess(home):
        b = FakeNode.enrolled(home, "b")
        seen = bytes(b.checkpoint().checkpoint)
    shutil.move(home.root, tmp_path / "lost")
    if restored:
        command(home, "restore", str(file))
    else:
        shutil.move(tmp_path / "snapshot", home.root)
    looked = threading.Event()
    monkeypatch.setattr(StreamWatch, "end_stalled", lambda _: looked.set() or 0)
    with InProcess(home):
        assert reason_of(lambda: show(b, unaware)) == "not-enrolled"
        assert reason_of(lambda: show(b, seen)) == ("restored" if restored else "ledger-rolled-back")
        show(a, unaware)
        assert reason_of(FakeNode.invited(home, "b").enroll) == "restored"
        looked.clear()
        assert looked.wait(30), "stalled downloads end in a held round, too"
    assert "a node that is not enrolled in it has shown a checkpoint" in status(home)["held"]
    with pytest.raises(EpgfnError, match="newer backup"):
        serve(home, Journal(Events(), events=True), threading.Event(), backup_is_newest=True)
    assert len(ledger_kinds(home)) == 4


def test_a_home_that_was_put_back_by_other_means_is_found_out(tmp_path: Path, study: Study) -> None:
    """As by a snapshot of the virtual machine: nothing says so but what a node has kept."""
    home = make_home(tmp_path / "home", study)
    with InProcess(home):
        a, b = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
    shutil.copytree(home.root, tmp_path / "snapshot")
    with InProcess(home):
        a.send(a.make_upload(study))
        seen = bytes(a.checkpoint().checkpoint)
    shutil.rmtree(home.root)
    shutil.move(tmp_path / "snapshot", home.root)
    with InProcess(home):
        assert reason_of(lambda: show(a, seen)) == "ledger-rolled-back"
        assert reason_of(lambda: b.send(b.make_upload(study))) == "restored"
    assert "newer backup" in status(home)["held"]


def test_a_model_that_is_withdrawn_while_the_backup_is_written_is_not_missed(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path / "home", study)
    with InProcess(home):
        node = FakeNode.enrolled(home, "a")
        upload = node.make_upload(study)
        node.send(upload)
        bundle = node.make_withdrawal(study, upload.sealed)
        write, tries = backup.write_archive, []

        def interrupted(*arguments: Any) -> int:
            tries.append(1)
            if len(tries) == 1:
                node.withdraw(bundle)
            return write(*arguments)

        monkeypatch.setattr(backup, "write_archive", interrupted)
        made = backup.back_up(home, tmp_path / "b")
    assert len(tries) == 2
    restored = Home(tmp_path / "restored")
    assert backup.restore(tmp_path / "b", restored, [])["entries"] == made["entries"]


def test_what_is_no_whole_backup_is_refused(tmp_path: Path, study: Study) -> None:
    home, file = make_home(tmp_path / "home", study), tmp_path / "one.tar"
    command(home, "backup", str(file))
    assert "exists already" in command(home, "backup", str(file), code=2)
    assert "not empty" in command(home, "restore", str(file), code=2)
    raw, other = file.read_bytes(), Home(tmp_path / "other")
    for number, bad in enumerate(
        (raw[: len(raw) // 2], b"", b"no tar", _changed(file, tmp_path), _evil(tmp_path))
    ):
        path = tmp_path / f"bad-{number}"
        path.write_bytes(bad)
        assert "cannot be restored" in command(other, "restore", str(path), code=1)
    assert "check the path" in command(other, "restore", str(tmp_path / "missing"), code=2)
    (tmp_path / "checkpoint").write_text("no checkpoint")
    said = command(other, "restore", str(file), "--checkpoint", str(tmp_path / "checkpoint"), code=2)
    assert "no checkpoint of this coordinator" in said
    assert not other.root.exists() and not list(tmp_path.glob(".*"))


def _changed(file: Path, folder: Path) -> bytes:
    """The backup with one byte of its state changed."""
    raw = bytearray(file.read_bytes())
    with tarfile.open(file) as archive:
        at = archive.getmember("state.sqlite").offset_data
    raw[at + 4000] ^= 1
    return bytes(raw)


def _evil(folder: Path) -> bytes:
    """One that would write outside of the home."""
    with tarfile.open(folder / "evil", "w") as archive:
        for name in ("../escaped", MANIFEST):
            archive.addfile(tarfile.TarInfo(name))
    return (folder / "evil").read_bytes()

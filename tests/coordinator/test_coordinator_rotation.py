"""`epgfn-coordinator rotate-key`: rounds opened from then on have the new key and say so, those that are there keep the old one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator_client import FakeNode, InProcess, ledger_kinds, make_home, tiny_study
from epgfn.base.errors import EpgfnError, UsageError
from epgfn.run.audit.audit import audit_run
from epgfn.run.audit.conclusion import conclusion
from epgfn_coordinator.backup import back_up, restore
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Home
from epgfn_coordinator.initialise import add
from epgfn_coordinator.invitation import invite
from epgfn_coordinator.keys import Keys
from epgfn_coordinator.protection import change_passphrase
from epgfn_coordinator.signing import load_signing, replaced_keys, rotate, rotation_files, round_key_of
from epgfn_coordinator.status import status
from epgfn_coordinator.store import Store
from parties import on_coordinator

NEW = "battery staple"


def finished(run: Path, **options: str) -> list[str]:
    report = audit_run(run, **options)
    assert report.ok, [finding for finding in report.findings if not finding.ok]
    return [finding.message for finding in report.findings] + [str(line) for line in conclusion(report)]


def test_a_running_round_keeps_its_key_and_the_next_one_has_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "coordinator", study)
    before = load_signing(home).public
    with InProcess(home):
        node = FakeNode.enrolled(home, "a")
        assert "serves from" in on_coordinator("rotate-key", "--home", str(home.root)).stderr
    done = on_coordinator("rotate-key", "--home", str(home.root), "--reason", "a key a year", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    after = load_signing(home).public
    assert (said["old_fingerprint"], said["new_fingerprint"]) == (before.fingerprint, after.fingerprint)
    second = home.further(add(home, study, "second")[0])
    assert (round_key_of(home), round_key_of(second)) == (before, after)
    assert ledger_kinds(home).count("coordinator-rotated") == 0
    assert ledger_kinds(second)[:4] == ["study", "round", "coordinator-rotated", "state"]
    assert status(home)["coordinator_fingerprint"] == before.fingerprint
    with InProcess(home) as server:
        nodes = [node, FakeNode.enrolled(home, "b")]
        for each in nodes:
            each.send(each.make_upload(study))
        with contextlib.closing(Store(second.state)) as store:
            later = json.loads(invite(second, store, "a", renew=True))
        assert later["coordinator_key_pem"].encode() == after.pem, "that of the round that it is for"
        for each in nodes:
            there = each.in_round(second)
            assert list(there.round().rotations) == [rotation_files(home)[0].read_bytes()]
            assert list(each.round().rotations) == []
            there.invitation = later
            there.send(there.make_upload(study))
        server.events.wait_for("published", nth=2)
    runs = [tmp_path / "first", tmp_path / "next"]
    for each, run in zip((home, second), runs, strict=True):
        export(each, run)
    assert not (runs[0] / "rotations").exists()
    finished(runs[0], coordinator_fingerprint=before.fingerprint)
    for fingerprint in (before.fingerprint, after.fingerprint):
        told = "\n".join(finished(runs[1], coordinator_fingerprint=fingerprint))
        assert "a key a year" in told and before.fingerprint in told and said["time"] in told
    report = audit_run(runs[0], coordinator_fingerprint=after.fingerprint)
    assert not report.ok, "a key vouches for its successors alone"

    # Passphrases and backups know of the old key.
    change_passphrase(home, NEW)
    monkeypatch.setenv("EPGFN_KEY_PASSPHRASE", NEW)
    back_up(home, tmp_path / "backup.tar")
    restore(tmp_path / "backup.tar", Home(tmp_path / "restored"), [])
    restored = Home(tmp_path / "restored")
    assert Keys.load(restored).signing.public == before
    assert Keys.load(restored.further("second")).signing.public == after
    # Once its rounds are over it can be deleted: what was published is there as ever, and nothing more is signed.
    replaced_keys(home)[0].unlink()
    with pytest.raises(EpgfnError, match="signing-before-"):
        Keys.load(home).signing  # noqa: B018
    with InProcess(home):
        assert nodes[0].download() and nodes[0].in_round(second).download()


def test_a_round_that_is_not_over_is_not_served_without_its_key(tmp_path: Path) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "coordinator", study)
    rotate(home, "a test")
    replaced_keys(home)[0].unlink()
    with pytest.raises(EpgfnError, match="has been deleted since"), InProcess(home):
        pass
    add(home, study, "second")
    with InProcess(home) as server:  # the next one goes on
        assert [event["round"] for event in server.events.seen if event["phase"] == "round-unavailable"]


ROTATE = """
import sys
from pathlib import Path
from epgfn_coordinator.home import Home
from epgfn_coordinator.signing import rotate
rotate(Home(Path(sys.argv[1])), "a test")
"""


def test_whatever_the_step_at_which_it_is_killed_one_key_works(tmp_path: Path) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "coordinator", study)

    def change(**environment: str) -> int:
        command = [sys.executable, "-c", ROTATE, str(home.root)]
        return subprocess.run(command, env={**os.environ, **environment}, timeout=120).returncode

    log = tmp_path / "steps"
    assert change(EPGFN_FAILPOINT_LOG=str(log)) == 0
    steps = log.read_text().splitlines()
    # What each step does is for tests/base/test_replacing.py: here before and after the moment that counts, amid the moves, and at the end.
    whole = next(
        number for number, step in enumerate(steps) if step.startswith("renamed") and "replacing" in step
    )
    for number in (whole - 1, whole, whole + 3, len(steps) - 1):
        place = steps[: number + 1].count(steps[number])
        known = [load_signing(home).public, round_key_of(home)]
        count = len(rotation_files(home))
        assert change(EPGFN_FAILPOINT=f"kill:{place}:{steps[number]}") != 0
        home.require()  # as every command does
        now = load_signing(home).public
        assert Keys.load(home).signing.public == known[1], "the round that is there goes on"
        assert len(rotation_files(home)) == count + (now != known[0])
        assert len(replaced_keys(home)) == len(rotation_files(home))
        assert (now != known[0]) == (number >= whole)
        if number == whole:
            assert round_key_of(home.further(add(home, study, f"after-{number}")[0])) == now


def test_what_is_no_reason_is_said_so(tmp_path: Path) -> None:
    home = make_home(tmp_path / "coordinator", tiny_study())
    for reason in ("", "two\nlines", "x" * 201):
        with pytest.raises(UsageError, match="a reason is one line"):
            rotate(home, reason)
    assert not rotation_files(home)


def test_a_statement_that_was_taken_away_is_missed(tmp_path: Path) -> None:
    home = make_home(tmp_path / "coordinator", tiny_study())
    for _ in range(2):
        rotate(home, "a test")
    kept = rotation_files(home)[0]
    raw = kept.read_bytes()
    kept.unlink()
    with pytest.raises(EpgfnError, match="nor its successor"):
        Keys.load(home)
    kept.write_bytes(raw)
    assert len(replaced_keys(home)) == 2 and Keys.load(home)

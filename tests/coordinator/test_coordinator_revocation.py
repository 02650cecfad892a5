"""Lost or stolen keys are revoked at once, the node goes on with others, and nothing that was accepted is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from coordinator_client import (
    FakeNode,
    InProcess,
    OwnProcess,
    ledger_kinds,
    make_home,
    reason_of,
    tiny_study,
)
from epgfn.base.errors import NoRoomError, RefusedError
from epgfn.learn import policy
from epgfn.run.audit.audit import AuditReport, audit_run
from epgfn.run.report.run import read_run
from epgfn_coordinator import revocation
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Home
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.status import status
from parties import on_coordinator


def command(home: Home, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return on_coordinator(verb, "--home", str(home.root), *arguments)


def revoke(home: Home, node: str) -> str:
    done = command(home, "revoke", node)
    assert done.returncode == 0, done.stderr
    return done.stdout


def audited(home: Home, out: Path) -> tuple[AuditReport, dict[str, str]]:
    export(home, out)
    report = audit_run(out)
    assert report.ok, report.findings
    return report, {finding.check: finding.message for finding in report.findings}


@pytest.mark.parametrize("step", ["remove", "publish"])
def test_revoked_is_said_although_the_disk_is_full_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Otherwise the operator would be told that the keys still count, and `serve` would end."""
    study = tiny_study()
    home = make_home(tmp_path / "home", study)

    def full(*_: object) -> None:
        raise OSError(28, "no space left") if step == "remove" else NoRoomError("cannot write the ledger")

    with InProcess(home) as server:
        node, other = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        node.upload(node.begin(node.make_upload(study).bundle).upload_id, b"x")
        with monkeypatch.context() as patch:
            if step == "remove":
                patch.setattr(revocation, "remove", full)
            else:
                patch.setattr(PublishedLog, "publish", full)
            assert "refused from now on" in revoke(home, "a")
        assert reason_of(node.round) == "revoked"
        assert other.round().bundle
        assert server.error is None
    assert ledger_kinds(home).count("revoked") == 1
    with InProcess(home):
        assert not list(home.uploads.iterdir())


def test_revoked_with_nothing_sent_the_node_begins_anew(tmp_path: Path) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    with OwnProcess(home) as server:
        old, other = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        upload = old.make_upload(study)
        begun = old.begin(upload.bundle)
        old.upload(begun.upload_id, upload.sealed[:1000])
        said = revoke(home, "a")
        assert "the keys of a are revoked and refused from now on" in said and "token a" in said
        with pytest.raises(
            RefusedError, match=r"were revoked by the coordinator's operator.* a new --home"
        ) as caught:
            old.round()
        assert caught.value.reason == "revoked"
        for call in (old.study, old.checkpoint, old.result, lambda: old.begin(upload.bundle)):
            assert reason_of(call) == "revoked"
        assert reason_of(lambda: old.upload(begun.upload_id, upload.sealed[1000:], 1000)) == "revoked"
        assert not list(home.uploads.iterdir())
        found = status(home)
        assert (found["revoked"], found["enrolled"], found["missing"]) == (["a"], ["b"], ["a", "b"])

        new = FakeNode.enrolled(home, "a")
        assert status(home)["revoked"] == []
        assert reason_of(old.round) == "revoked"
        assert reason_of(lambda: new.begin(upload.bundle)) == "wrong-key"
        new.send(new.make_upload(study))
        other.send(other.make_upload(study, seed=1))
        server.wait_for("published")
        assert reason_of(old.result) == "revoked"
        assert new.result().bundle
    _, said_of = audited(home, tmp_path / "run")
    assert "REVOKED: the key" in said_of["node-keys"] and "enrolled again by entry" in said_of["node-keys"]
    assert (tmp_path / "run/keys/nodes/a.pem").read_bytes() == new.signing.public.pem
    run = read_run(tmp_path / "run")
    assert run.earlier_keys == [("a, revoked", old.signing.public.fingerprint)] and len(run.revocations) == 1


@pytest.mark.parametrize("again", [True, False])
def test_what_was_accepted_under_revoked_keys_stands(tmp_path: Path, again: bool) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        old, other = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        receipt = old.send(old.make_upload(study))
        assert "which was accepted as ledger entry" in revoke(home, "a")
        if again:
            new = FakeNode.enrolled(home, "a")
            second = new.make_upload(study, seed=5)
            with pytest.raises(RefusedError, match="sent under its earlier keys, and stands"):
                new.send(second)
        assert status(home)["accepted"] == ["a"]
        other.send(other.make_upload(study, seed=1))
        server.events.wait_for("published")
        if again:
            assert new.result().bundle
    _, said = audited(home, tmp_path / "run")
    assert "that key was REVOKED later, by ledger entry" in said["upload a"] and "(a, b)" in said["global"]
    assert ("not enrolled again" in said["node-keys"]) is not again
    assert (tmp_path / "run/uploads/a/receipt.tlog-proof").read_bytes() == receipt.receipt


def test_revoked_keys_never_come_back(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    with InProcess(home):
        old = FakeNode.enrolled(home, "a")
        revoke(home, "a")
        assert reason_of(old.enroll) == "invitation-revoked"
        for keys in ({"tls": old.tls}, {"signing": old.signing}, {"signing": old.tls}):
            again = FakeNode.invited(home, "a")
            for name, key in keys.items():
                setattr(again, name, key)
            assert reason_of(again.enroll) == "key-revoked"
        elsewhere = FakeNode.invited(home, "b")
        elsewhere.signing = old.signing
        assert reason_of(elsewhere.enroll) == "key-revoked"


def test_a_model_that_is_being_checked_when_its_keys_are_revoked_is_not_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    begun, go_on = threading.Event(), threading.Event()
    whole = policy.validate_policy

    def slowly(*arguments: Any) -> None:
        begun.set()
        assert go_on.wait(60)
        whole(*arguments)

    monkeypatch.setattr(policy, "validate_policy", slowly)
    with InProcess(home):
        node = FakeNode.enrolled(home, "a")
        upload = node.make_upload(study)
        reasons: list[str] = []
        sending = threading.Thread(target=lambda: reasons.append(reason_of(lambda: node.send(upload))))
        sending.start()
        assert begun.wait(60)
        revoke(home, "a")  # at once, although a model is being checked
        go_on.set()
        sending.join()
        assert reasons == ["revoked"]
        assert "accepted" not in ledger_kinds(home)


@pytest.mark.parametrize(
    ("step", "happened"),
    [
        ("epgfn_coordinator.revocation:RevokedEntry", False),
        ("epgfn_coordinator.streams:StreamWatch.end_of", True),
    ],
)
def test_killed_while_it_revokes_nothing_is_half_done(tmp_path: Path, step: str, happened: bool) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    with OwnProcess(home, die_before=step) as server:
        node = FakeNode.enrolled(home, "a")
        asking = subprocess.Popen(
            [sys.executable, "-m", "epgfn_coordinator", "revoke", "a", "--home", str(home.root)],
            stderr=subprocess.DEVNULL,
        )
        server.wait_for_death()
        asking.kill()
        asking.wait()
    assert ("revoked" in ledger_kinds(home)) is happened
    with InProcess(home):
        assert status(home)["revoked"] == (["a"] if happened else [])
        if happened:
            assert reason_of(node.round) == "revoked"
        else:
            node.round()


def test_nobody_needs_to_serve_for_it_and_mistakes_are_told(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    with InProcess(home):
        FakeNode.enrolled(home, "a")
        for node, word in (("nobody", "not on the roster"), ("b", "revoke-invitation b")):
            wrong = command(home, "revoke", node)
            assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1) and word in wrong.stderr
    done = command(home, "revoke", "a", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["node"] == "a", done.stderr
    again = command(home, "revoke", "a")
    assert again.returncode == 2 and "revoked already" in again.stderr
    assert ledger_kinds(home)[-1] == "revoked"


def test_refusals_under_stolen_keys_are_not_counted_against_the_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from epgfn_coordinator import refusals

    monkeypatch.setattr(refusals, "MAX_RECORDED", 2)
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    with InProcess(home):
        thief = FakeNode.enrolled(home, "a")
        for junk in (b"1", b"2"):
            reason_of(lambda junk=junk: thief.begin(junk))  # type: ignore[misc]
        assert reason_of(lambda: thief.begin(b"3")) == "too-many-refusals"
        revoke(home, "a")
        node = FakeNode.enrolled(home, "a")
        node.send(node.make_upload(study))


def test_what_a_thief_has_sent_is_not_counted_against_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from epgfn_coordinator import quota

    monkeypatch.setattr(quota, "TIMES", 1)
    plain = make_home(tmp_path / "plain", tiny_study())
    with InProcess(plain):
        size = len(FakeNode.enrolled(plain, "a").make_upload(tiny_study()).sealed)
    study = tiny_study(limit=size + 500)
    home = make_home(tmp_path / "home", study)
    with InProcess(home):
        thief = FakeNode.enrolled(home, "a")
        upload = thief.make_upload(study)
        thief.upload(thief.begin(upload.bundle).upload_id, upload.sealed[:1000])
        again = thief.make_upload(study, seed=1)
        begun = thief.begin(again.bundle)
        assert reason_of(lambda: thief.upload(begun.upload_id, again.sealed)) == "too-much-data"
        revoke(home, "a")
        node = FakeNode.enrolled(home, "a")
        node.send(node.make_upload(study))

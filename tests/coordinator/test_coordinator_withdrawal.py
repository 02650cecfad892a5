"""A node takes its model back by its signed word, before aggregation: it is not aggregated, and everybody can check why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

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
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import sha256_hex
from epgfn.ledger.entries import AcceptedEntry, WithdrawnByNodeEntry, parse
from epgfn.run.audit.audit import audit_run
from epgfn.run.report.run import read_run
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.statement import parse_statement
from epgfn_coordinator import withdrawal
from epgfn_coordinator.clock import spelled
from epgfn_coordinator.export import export
from epgfn_coordinator.keys import Keys
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.status import status
from epgfn_coordinator.store import Store


def test_a_withdrawn_model_is_not_aggregated_and_another_may_take_its_place(tmp_path: Path) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        node, other = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        assert node.accepted().entry == b""
        first = node.make_upload(study)
        assert node.send(first).entry == node.accepted().entry
        bundle = node.make_withdrawal(study, first.sealed)
        answer = node.withdraw(bundle)
        said = parse(answer.entry)
        assert isinstance(said, WithdrawnByNodeEntry) and said.bundle_sha256 == sha256_hex(bundle)
        assert node.withdraw(bundle).entry == answer.entry  # a reply that was lost
        assert ledger_kinds(home).count("withdrawn-by-node") == 1
        assert node.accepted().entry == b""
        assert not home.artifact(sha256_hex(first.sealed)).exists()
        assert status(home)["withdrawn"] == status(home)["missing"][:1] == ["a"]
        assert reason_of(lambda: node.send(first)) == "withdrawn"

        other.send(other.make_upload(study, seed=1))  # and the round stays open: one is missing
        assert status(home)["state"] == "open"
        second = node.make_upload(study, seed=2)
        node.send(second)
        server.events.wait_for("published")
        assert status(home)["withdrawn"] == []
        assert node.result().withdrawal == answer.entry
        assert reason_of(lambda: node.withdraw(node.make_withdrawal(study, second.sealed))) == "too-late"
    export(home, tmp_path / "run")
    report = audit_run(tmp_path / "run")
    assert report.ok, report.findings
    found = {finding.check: finding.message for finding in report.findings}
    assert "a has signed that its upload" in found["withdrawal a"] and "(a, b)" in found["global"]
    assert len(read_run(tmp_path / "run").taken_back) == 1


def test_withdrawn_for_good_the_node_is_absent(tmp_path: Path) -> None:
    study = tiny_study(roster='["a", "b", "c"]', quorum=2)
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        nodes = {name: FakeNode.enrolled(home, name) for name in "abc"}
        uploads = {name: nodes[name].make_upload(study, seed=ord(name)) for name in "abc"}
        nodes["a"].send(uploads["a"])
        nodes["a"].withdraw(nodes["a"].make_withdrawal(study, uploads["a"].sealed))
        for name in "bc":
            nodes[name].send(uploads[name])
        assert status(home)["state"] == "open"
        store = Store(home.state)
        store.write("INSERT INTO requests (deadline) VALUES (NULL)")
        store.close()
        server.events.wait_for("published")
    export(home, tmp_path / "run")
    report = audit_run(tmp_path / "run")
    assert report.ok, report.findings
    assert not (tmp_path / "run/uploads/a").exists()
    found = {finding.check: finding.message for finding in report.findings}
    assert "WITHDRAWN" in found["withdrawal a"] and "(b, c)" in found["global"]


def test_only_the_node_itself_and_only_for_this_round(tmp_path: Path) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    with InProcess(home):
        node, other = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        upload = node.make_upload(study)
        node.send(upload)
        good = node.make_withdrawal(study, upload.sealed)
        said = parse_statement(verify_bundle(upload.bundle, node.signing.public)).predicate["checkpoint"]
        early = node.make_withdrawal(study, upload.sealed, checkpoint=said)
        assert reason_of(lambda: node.withdraw(early)) == "malformed"  # an audit would not take it
        assert reason_of(lambda: other.withdraw(good)) == "wrong-node"
        theirs = other.make_withdrawal(study, upload.sealed)
        assert reason_of(lambda: other.withdraw(theirs)) == "not-accepted"
        for changes, reason in (
            ({"node_id": "b"}, "wrong-node"),
            ({"sender_fingerprint": "0" * 64}, "wrong-node"),
            ({"round_id": "other"}, "wrong-round"),
            ({"study_digest": "0" * 64}, "wrong-round"),
            ({"checkpoint": {"origin": "x", "size": 1, "root": "A" * 43 + "="}}, "ledger-fork"),
        ):
            bundle = node.make_withdrawal(study, upload.sealed, **changes)
            assert reason_of(lambda bundle=bundle: node.withdraw(bundle)) == reason, changes  # type: ignore[misc]
        assert reason_of(lambda: node.withdraw(upload.bundle)) == "malformed"
        assert reason_of(lambda: node.withdraw(b"x" * (1 << 17))) == "malformed"
        assert node.accepted().entry


def test_with_new_keys_a_node_withdraws_what_was_sent_under_stolen_ones(tmp_path: Path) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        thief, other = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        stolen = thief.make_upload(study)
        thief.send(stolen)
        by_old_key = thief.make_withdrawal(study, stolen.sealed)
        store = Store(home.state)
        store.write("INSERT INTO revocation_requests (node_id) VALUES ('a')")
        store.close()
        server.events.wait_for("revoked")
        node = FakeNode.enrolled(home, "a")
        said = parse(node.accepted().entry)
        assert isinstance(said, AcceptedEntry) and said.sealed_sha256 == sha256_hex(stolen.sealed)
        assert reason_of(lambda: thief.withdraw(by_old_key)) == "revoked"
        assert reason_of(lambda: node.withdraw(by_old_key)) == "wrong-key"
        node.withdraw(node.make_withdrawal(study, stolen.sealed))
        node.send(node.make_upload(study, seed=1))
        other.send(other.make_upload(study, seed=2))
        server.events.wait_for("published")
    export(home, tmp_path / "run")
    report = audit_run(tmp_path / "run")
    assert report.ok, report.findings


def test_a_waiting_round_lets_a_node_withdraw(tmp_path: Path) -> None:
    deadline = spelled(datetime.now(UTC) + timedelta(seconds=4))
    study = tiny_study(deadline=f"deadline = {deadline}")
    home = make_home(tmp_path / "home", study)
    with InProcess(home) as server:
        node = FakeNode.enrolled(home, "a")
        upload = node.make_upload(study)
        node.send(upload)
        server.events.wait_for("waiting")
        node.withdraw(node.make_withdrawal(study, upload.sealed))
        assert status(home)["withdrawn"] == ["a"]


def test_a_receipt_that_comes_late_is_not_kept_as_that_of_the_next_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    store = Store(home.state)
    store.write(
        "INSERT INTO artifacts (node_id, upload_id, bundle, bundle_sha256, sealed_sha256, sealed_size, model_size, position) "
        "VALUES ('a', '', x'', '', '', 1, 1, 2)"
    )
    log = PublishedLog(home, store, Keys.load(home))

    def receipt(position: int) -> bytes:
        store.write("UPDATE artifacts SET position = 4")  # taken back, and another one accepted
        return b"of entry %d" % position

    monkeypatch.setattr(log, "receipt", receipt)
    log.fill_receipts()
    assert [row["receipt"] for row in store.rows("SELECT receipt FROM artifacts")] == [None]
    store.close()


def test_one_node_cannot_fill_the_ledger_with_withdrawals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdrawal, "MAX_WITHDRAWALS", 1)
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    with InProcess(home):
        node = FakeNode.enrolled(home, "a")
        for seed, reason in ((0, ""), (1, "too-many-withdrawals")):
            upload = node.make_upload(study, seed=seed)
            node.send(upload)
            bundle = node.make_withdrawal(study, upload.sealed)
            if reason:
                assert reason_of(lambda bundle=bundle: node.withdraw(bundle)) == reason  # type: ignore[misc]
            else:
                node.withdraw(bundle)


@pytest.mark.parametrize(
    ("step", "happened"),
    [
        ("epgfn_coordinator.withdrawal:WithdrawnByNodeEntry", False),
        ("epgfn_coordinator.withdrawal:Withdrawal._proved", True),
    ],
)
def test_killed_while_it_takes_a_model_back_nothing_is_half_done(
    tmp_path: Path, step: str, happened: bool
) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    with OwnProcess(home, die_before=step) as server:
        node = FakeNode.enrolled(home, "a")
        upload = node.make_upload(study)
        node.send(upload)
        bundle = node.make_withdrawal(study, upload.sealed)
        with pytest.raises((EpgfnError, RefusedError)):
            node.withdraw(bundle)
        server.wait_for_death()
    assert ("withdrawn-by-node" in ledger_kinds(home)) is happened
    if happened:  # the sealed file may have outlived the kill; the next start removes it
        home.artifact(sha256_hex(upload.sealed)).write_bytes(upload.sealed)
    with OwnProcess(home) as server:
        node.invitation = FakeNode.invited(home, "b").invitation  # the port of now
        assert bool(node.accepted().entry) is not happened
        assert home.artifact(sha256_hex(upload.sealed)).exists() is not happened
        node.withdraw(bundle)
    assert ledger_kinds(home).count("withdrawn-by-node") == 1

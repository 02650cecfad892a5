"""Several rounds in one home: one server, one authority, one port; and nothing of one round is another's."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coordinator_client import FakeNode, InProcess, OwnProcess, ledger_kinds, make_home, reason_of, tiny_study
from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.run.audit.audit import audit_run
from epgfn.sealing.pki import make_csr
from epgfn.study import Study
from epgfn.v1 import certificate_pb2, certificate_pb2_grpc
from epgfn_coordinator import identity, initialise, main_loop, publication, refusals
from epgfn_coordinator.backup import back_up, restore
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Home
from epgfn_coordinator.initialise import add
from epgfn_coordinator.keys import ROUND_KEY
from epgfn_coordinator.metrics import Standing, _Collected
from epgfn_coordinator.round import Round
from epgfn_coordinator.rounds import find, name_for
from epgfn_coordinator.services import certificate
from epgfn_coordinator.status import overview, status
from epgfn_coordinator.store import Store
from parties import on_coordinator


def other_study(**changes: Any) -> Study:
    """Of other nodes but one."""
    study = tiny_study(roster='["b", "c"]', **changes)
    return Study.from_bytes(study.raw.replace(b'"tiny"', b'"The Other, 2nd"'))


@pytest.fixture
def three(tmp_path: Path) -> tuple[Home, Home, Home]:
    """The first round of one study, one of another, and the second of the first; nobody is enrolled."""
    home = make_home(tmp_path / "home", tiny_study())
    assert add(home, other_study()) == ("the-other-2nd", True)
    assert add(home, tiny_study(), "again") == ("again", True)
    return home, home.further("the-other-2nd"), home.further("again")


def until(true: Any, timeout: float = 60.0) -> None:
    end = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_three_rounds_over_one_port_with_a_kill_in_between_and_each_passes_its_audit(
    three: tuple[Home, Home, Home], tmp_path: Path
) -> None:
    first, other, again = three
    study, second_study = tiny_study(), other_study()
    with OwnProcess(first, die_before="epgfn_coordinator.publication:sign_statement") as server:
        a, b = FakeNode.enrolled(first, "a"), FakeNode.enrolled(first, "b")
        c = FakeNode.enrolled(other, "c")
        # Whoever is enrolled in one round is in every round whose roster names them, and in no other.
        assert [each.name for each in a.rounds()] == ["tiny", "again"]
        assert [each.name for each in b.rounds()] == ["tiny", "again", "the-other-2nd"]
        assert [each.name for each in c.rounds()] == ["the-other-2nd"]
        assert a.study().study == a.in_round(again).study().study == study.raw
        assert c.study().study == b.in_round(other).study().study == second_study.raw
        receipt = a.in_round(again).send(a.in_round(again).make_upload(study)).receipt
        a.send(a.make_upload(study))
        b.send(
            b.make_upload(study, seed=1)
        )  # and the first round is complete, and dies where its model is signed
        server.wait_for_death()
    with OwnProcess(first) as server:
        for node in (a, b, c):  # the port may be another
            node.invitation["address"] = server.serving["address"]
        assert server.wait_for("published")["round"] == "tiny"
        # What was acknowledged in another round is there, and that round goes on.
        again_a = a.in_round(again)
        assert again_a.commit(again_a.begin(_bundle(again, "a")).upload_id).receipt == receipt
        b.in_round(again).send(b.in_round(again).make_upload(study, seed=2))
        assert server.wait_for("published")["round"] == "again"
        c.send(c.make_upload(second_study))
        b.in_round(other).send(b.in_round(other).make_upload(second_study, seed=3))
        assert server.wait_for("published")["round"] == "the-other-2nd"
        models = {a.download(), again_a.download(), c.download()}
        assert len(models) == 3
    for each in three:
        report = audit_run(_exported(each, tmp_path / "runs" / each.root.name))
        assert report.ok, report.findings
        assert status(each)["state"] == "published" and not each.key(ROUND_KEY).exists()
        assert ledger_kinds(each).count("enrolled") == ledger_kinds(each).count("accepted") == 2
    assert status(first)["ledger_vkey"] != status(again)["ledger_vkey"]
    assert status(first)["coordinator_fingerprint"] == status(again)["coordinator_fingerprint"]


def test_what_was_signed_for_one_round_is_refused_in_another_with_its_reason(
    three: tuple[Home, Home, Home],
) -> None:
    first, other, again = three
    with InProcess(first):
        b = FakeNode.enrolled(first, "b")
        until(lambda: status(other)["enrolled"] == ["b"])
        upload = b.make_upload(tiny_study())
        assert reason_of(lambda: b.in_round(again).begin(upload.bundle)) == "wrong-round"
        assert reason_of(lambda: b.in_round(other).begin(upload.bundle)) == "wrong-study"
        b.send(upload)
        withdrawal = b.make_withdrawal(tiny_study(), upload.sealed)
        assert reason_of(lambda: b.in_round(again).withdraw(withdrawal)) == "wrong-round"
        # A ledger's checkpoint and an upload's name mean nothing in another round.
        checkpoint = b.checkpoint().checkpoint
        assert b.in_round(again).checkpoint(0, checkpoint).checkpoint != checkpoint
        assert status(again)["held"] is None
        name = b.begin(upload.bundle).upload_id
        assert reason_of(lambda: b.in_round(again).upload(name, upload.sealed)) == "unknown-upload"
        assert reason_of(lambda: b.in_round(again).status(name)) == "unknown-upload"
        assert reason_of(lambda: b.in_round(again).commit(name)) == "unknown-upload"
        assert b.in_round(again).accepted().entry == b""
        b.withdraw(withdrawal)
    assert ledger_kinds(again).count("refused") == ledger_kinds(other).count("refused") == 1
    assert "accepted" not in ledger_kinds(again) + ledger_kinds(other)


def test_a_node_reads_and_writes_nothing_of_a_round_whose_roster_does_not_name_it(
    three: tuple[Home, Home, Home],
) -> None:
    first, other, _ = three
    with InProcess(first):
        a = FakeNode.enrolled(first, "a")
        outside = a.in_round(other)
        upload = a.make_upload(tiny_study())
        for call in (
            outside.study,
            outside.round,
            outside.checkpoint,
            outside.accepted,
            outside.result,
            outside.download,
            lambda: outside.begin(upload.bundle),
            lambda: outside.upload("0" * 32, upload.sealed),
            lambda: outside.status("0" * 32),
            lambda: outside.commit("0" * 32),
            lambda: outside.withdraw(upload.bundle),
        ):
            assert reason_of(call) == "not-enrolled"
        nowhere = a.in_round(first)
        nowhere.round_id = "0" * 32
        assert reason_of(nowhere.study) == reason_of(lambda: nowhere.upload("0", b"0")) == "unknown-round"
        stranger = FakeNode.invited(first, "b")
        stranger.certificate, stranger.tls = a.certificate, a.tls
        assert stranger.rounds()  # the certificate says who calls, whatever it calls itself
    assert ledger_kinds(other) == ["study", "round", "state"]


def test_keys_are_the_same_in_all_rounds_and_revoked_in_all(three: tuple[Home, Home, Home]) -> None:
    first, other, again = three
    with InProcess(first):
        b = FakeNode.enrolled(other, "b")
        until(lambda: status(first)["enrolled"] == status(again)["enrolled"] == ["b"])
        assert b.in_round(first).study().study == tiny_study().raw
        done = on_coordinator("token", "b", "--home", str(first.root), "--study", "tiny")
        assert done.returncode == 2 and "enrolled already" in done.stderr
        # Another key for a name that is known, and a known key for another name.
        thief = FakeNode("a", FakeNode.invited(again, "a").invitation, b.tls, b.signing)
        assert reason_of(thief.enroll) == "key-in-use"
        done = on_coordinator("revoke", "b", "--home", str(first.root), "--json")
        assert done.returncode == 0, done.stderr
        assert all(
            name in json.loads(done.stdout)["detail"] for name in ("tiny:", "again:", "the-other-2nd:")
        )
        for home in three:
            assert reason_of(b.in_round(home).study) == "revoked"
            assert ledger_kinds(home).count("revoked") == 1
        fresh = FakeNode.enrolled(again, "b")
        until(lambda: status(other)["enrolled"] == ["b"])
        assert fresh.in_round(other).study().study == other_study().raw
        assert reason_of(b.study) == "revoked"


def test_a_key_that_one_round_could_not_revoke_opens_nothing_and_is_revoked_there_later(
    three: tuple[Home, Home, Home], tmp_path: Path
) -> None:
    first, other, again = three
    with InProcess(first):
        b = FakeNode.enrolled(first, "b")
        until(lambda: status(again)["enrolled"] == status(other)["enrolled"] == ["b"])
    # As a kill in the middle of `revoke` leaves it: revoked in one round only.
    with Store(again.state)._db as db:  # type: ignore[attr-defined]
        row = db.execute("SELECT * FROM nodes WHERE node_id = 'b'").fetchone()
        db.execute("INSERT INTO revocations VALUES (99, ?, ?, ?, ?)", tuple(row)[:4])
        db.execute("DELETE FROM nodes WHERE node_id = 'b'")
    with InProcess(first):
        assert reason_of(b.in_round(other).study) == reason_of(b.study) == "revoked"
        until(lambda: status(first)["revoked"] == status(other)["revoked"] == ["b"])
    assert ledger_kinds(first).count("revoked") == ledger_kinds(other).count("revoked") == 1


def test_a_round_is_added_while_it_serves_and_one_begun_before_a_kill_is_no_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    with InProcess(home) as server:
        a = FakeNode.enrolled(home, "a")
        with monkeypatch.context() as broken:
            broken.setattr(initialise.os, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                add(home, tiny_study(), "next")
        (home.rounds / ".next.left").mkdir()
        assert [each["name"] for each in overview(home)] == ["tiny"]
        assert add(home, tiny_study(), "next") == ("next", True)
        assert add(home, tiny_study(), "next") == ("next", False)
        assert sorted(path.name for path in home.rounds.iterdir()) == ["next"]
        server.events.wait_for("round-added")
        second = a.in_round(home.further("next"))
        second.send(second.make_upload(tiny_study()))
    assert ledger_kinds(home.further("next"))[-1] == "accepted"


def test_names_of_rounds(three: tuple[Home, Home, Home], tmp_path: Path) -> None:
    first, other, _ = three
    assert name_for("Sachs et al. (2005)") == "sachs-et-al-2005" and name_for("…") == "first"
    for name, said in (
        (None, "--study NAME, one of: tiny, again, the-other-2nd"),
        ("nothing", "no round called 'nothing'"),
    ):
        with pytest.raises(UsageError, match=said):
            find(first, name)
    assert find(first, "tiny") == first and find(first, "the-other-2nd") == other
    with pytest.raises(UsageError, match="add --name tiny-2"):
        add(first, tiny_study())
    with pytest.raises(UsageError, match=r"holds a round called tiny of another study; add --name tiny-2"):
        add(first, tiny_study(steps=3))
    for taken in ("tiny", "again"):
        with pytest.raises(UsageError, match="another study"):
            add(first, tiny_study(steps=3), taken)
    with pytest.raises(UsageError, match="no name of a round"):
        add(first, tiny_study(), "../up")
    alone = make_home(tmp_path / "alone", tiny_study())
    assert find(alone, None) == alone == find(alone, "tiny")
    for verb in ("status", "close", "invitations", "token a", "revoke-invitation a", "export --out x"):
        done = on_coordinator(*verb.split(), "--home", str(first.root))
        assert done.returncode == 2 and "one of: tiny, again, the-other-2nd" in done.stderr
    listed = json.loads(on_coordinator("rounds", "--home", str(first.root), "--json").stdout)
    assert [(each["name"], each["state"], each["trouble"]) for each in listed] == [
        ("tiny", "open", None),
        ("again", "open", None),
        ("the-other-2nd", "open", None),
    ]


def test_what_fails_in_one_round_stops_that_one_alone(
    three: tuple[Home, Home, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other, again = three
    real = publication.open_artifacts

    def fails(home: Home, *rest: Any) -> Any:
        if home == first:
            raise EpgfnError("the disk has lost a model")
        return real(home, *rest)

    monkeypatch.setattr(publication, "open_artifacts", fails)
    monkeypatch.setattr(refusals, "MAX_RECORDED", 1)
    with InProcess(first) as server:
        a, b = FakeNode.enrolled(first, "a"), FakeNode.enrolled(first, "b")
        until(lambda: status(again)["enrolled"] == ["a", "b"])
        # A node that has used up what it may do in one round goes on in another.
        bad = a.make_upload(tiny_study(), model_size=1)
        assert reason_of(lambda: a.in_round(again).begin(bad.bundle))
        assert (
            reason_of(lambda: a.in_round(again).begin(a.make_upload(tiny_study()).bundle))
            == "too-many-refusals"
        )
        for seed, node in enumerate((a, b)):
            node.send(node.make_upload(tiny_study(), seed=seed))
        stopped = server.events.wait_for("round-stopped")
        assert stopped["round"] == "tiny" and "lost a model" in stopped["message"]
        assert "lost a model" in status(first)["trouble"]
        b2, c = b.in_round(other), FakeNode.enrolled(other, "c")
        for seed, node in enumerate((b2, c)):
            node.send(node.make_upload(other_study(), seed=seed))
        assert server.events.wait_for("published")["round"] == "the-other-2nd"
        assert reason_of(a.result) == "not-published"
        told = on_coordinator("close", "--home", str(first.root), "--study", "tiny")
        assert "lost a model" in told.stderr and "epgfn-coordinator retry" in told.stderr
        monkeypatch.setattr(publication, "open_artifacts", real)
        nothing = on_coordinator("retry", "--home", str(first.root), "--study", "again")
        assert nothing.returncode == 1 and "nothing has stopped" in nothing.stderr
        assert on_coordinator("retry", "--home", str(first.root), "--study", "tiny").returncode == 0
        assert server.events.wait_for("published", nth=2)["round"] == "tiny"
        assert status(first)["trouble"] is None


def test_whoever_is_no_node_of_a_round_is_told_so_only_so_often(
    three: tuple[Home, Home, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other, _ = three
    monkeypatch.setattr(identity, "AT_ONCE", 10.0)
    monkeypatch.setattr(identity, "PER_SECOND", 0.001)
    with InProcess(first):
        c = FakeNode.enrolled(other, "c")
        stranger = c.in_round(first)
        reasons = [reason_of(stranger.checkpoint) for _ in range(12)]
        assert reasons == ["not-enrolled"] * 10 + ["too-many-calls"] * 2
        c.checkpoint()  # which is nothing to the round that it is a node of


def test_whoever_enrols_when_another_round_is_over_is_entered_there_and_it_still_passes_its_audit(
    tmp_path: Path,
) -> None:
    home = make_home(tmp_path / "home", tiny_study(quorum=1, close_when="quorum"))
    assert add(home, other_study()) == ("the-other-2nd", True)
    with InProcess(home) as server:
        a = FakeNode.enrolled(home, "a")
        a.send(a.make_upload(tiny_study(quorum=1, close_when="quorum")))
        server.events.wait_for("published")
        b = FakeNode.enrolled(home.further("the-other-2nd"), "b")
        until(lambda: status(home)["enrolled"] == ["a", "b"])
        assert b.in_round(home).result().bundle == a.result().bundle
    export(home, tmp_path / "run")
    report = audit_run(tmp_path / "run")
    assert report.ok, report.findings


def test_a_round_that_cannot_be_opened_does_not_keep_the_others_from_being_served(
    three: tuple[Home, Home, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other, again = three
    with InProcess(first):
        b = FakeNode.enrolled(first, "b")
        until(lambda: status(other)["enrolled"] == ["b"])
    monkeypatch.setattr(main_loop, "TAKE_UP_AGAIN", 1.0)
    (again.root / "study.toml").write_bytes(b"nothing")
    with InProcess(first) as server:
        assert server.events.wait_for("round-unavailable")["round"] == "again"
        assert b.in_round(other).study().study == other_study().raw
        assert reason_of(b.in_round(again).study) == "round-unavailable"
        assert [each["name"] for each in overview(first) if each["trouble"]] == ["again"]
        (again.root / "study.toml").write_bytes(tiny_study().raw)
        assert server.events.wait_for("round-added")["round"] == "again"
        assert b.in_round(again).study().study == tiny_study().raw
        assert [event["phase"] for event in server.events.seen].count("round-unavailable") == 1
    first.study.write_bytes(b"nothing")  # and the first, which is asked for where none is named
    with InProcess(first):
        assert reason_of(b.study) == "round-unavailable"
        assert b.in_round(other).study().study == other_study().raw
        # Keys that are stolen can be revoked all the same, and the round that is away is told when it is back.
        assert on_coordinator("revoke", "b", "--home", str(first.root)).returncode == 0
        assert reason_of(b.in_round(other).study) == "revoked"
        first.study.write_bytes(tiny_study().raw)
        until(lambda: status(first)["revoked"] == ["b"])
        assert reason_of(b.study) == "revoked"


def test_a_backup_holds_all_rounds_and_each_is_held_until_its_nodes_have_shown_what_they_saw(
    three: tuple[Home, Home, Home], tmp_path: Path
) -> None:
    first, _, again = three
    with InProcess(first):
        a = FakeNode.enrolled(first, "a")
        until(lambda: status(again)["enrolled"] == ["a"])
        a.in_round(again).send(a.in_round(again).make_upload(tiny_study()))
        made = back_up(first, tmp_path / "backup.tar")
        assert made["rounds"] == ["tiny", "again", "the-other-2nd"] and made["round_key"]
        seen = tmp_path / "seen"
        seen.write_bytes(a.in_round(again).checkpoint().checkpoint)
        FakeNode.enrolled(first, "b")  # after the backup, in two rounds
        until(lambda: status(again)["enrolled"] == ["a", "b"])
        newer = tmp_path / "newer"
        newer.write_bytes(a.in_round(again).checkpoint().checkpoint)
    with pytest.raises(EpgfnError, match="does not contain"):
        restore(tmp_path / "backup.tar", Home(tmp_path / "older"), [newer])
    assert not (tmp_path / "older").exists()
    restored = Home(tmp_path / "restored")
    restore(tmp_path / "backup.tar", restored, [seen])
    assert [each["name"] for each in overview(restored)] == ["tiny", "again", "the-other-2nd"]
    assert all("restored from a backup" in each["trouble"] for each in overview(restored))
    assert (restored.further("again").artifacts / status_sealed(again)).is_file()
    shutil.rmtree(first.root)
    with InProcess(restored):
        a.invitation["address"] = status(restored)["address"]
        upload = a.make_upload(tiny_study())
        assert reason_of(lambda: a.begin(upload.bundle)) == "restored"
    again_restored = restored.further("again")
    assert ledger_kinds(again_restored).count("accepted") == 1


def test_metrics_tell_the_rounds_apart(three: tuple[Home, Home, Home]) -> None:
    stores = [Store(each.state) for each in three]
    try:
        told = _Collected(
            three[0], lambda: [Standing(str(n), tiny_study(), store) for n, store in enumerate(stores)]
        )
        samples = [sample for metric in told.collect() for sample in metric.samples]
    finally:
        for store in stores:
            store.close()
    open_ones = [s for s in samples if s.name == "epgfn_round_state" and s.labels["state"] == "open"]
    assert [(s.labels["round"], s.value) for s in open_ones] == [("0", 1.0), ("1", 1.0), ("2", 1.0)]


def _reason(call: Any) -> str:
    try:
        call()
    except RefusedError as error:
        return error.reason
    return ""


def status_sealed(home: Home) -> str:
    store = Store(home.state)
    try:
        return str(store.rows("SELECT sealed_sha256 FROM artifacts")[0]["sealed_sha256"])
    finally:
        store.close()


def _bundle(home: Home, node: str) -> bytes:
    store = Store(home.state)
    try:
        return bytes(store.rows("SELECT bundle FROM artifacts WHERE node_id = ?", node)[0]["bundle"])
    finally:
        store.close()


def _exported(home: Home, out: Path) -> Path:
    export(home, out)
    return out


def test_an_error_of_ours_in_one_round_is_no_others(
    three: tuple[Home, Home, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other, _ = three
    whole = Round.tick

    def broken(current: Round, **options: Any) -> None:
        if current._store._path == first.state:
            raise ZeroDivisionError
        whole(current, **options)

    monkeypatch.setattr(Round, "tick", broken)
    with InProcess(first) as server:
        assert "ZeroDivisionError" in server.events.wait_for("round-stopped")["message"]
        nodes = [FakeNode.enrolled(other, "b"), FakeNode.enrolled(other, "c")]
        for seed, node in enumerate(nodes):
            node.send(node.make_upload(other_study(), seed=seed))
        server.events.wait_for("published")


def test_enrolments_in_several_rounds_at_once_do_not_wait_for_each_other_for_ever(
    three: tuple[Home, Home, Home],
) -> None:
    first, other, again = three
    with InProcess(first), ThreadPoolExecutor(4) as pool:
        invited = [FakeNode.invited(home, node) for home, node in ((first, "a"), (other, "c"), (again, "b"))]
        same = FakeNode(
            "b", FakeNode.invited(other, "b").invitation
        )  # two homes of one node, of which one is first
        told = list(pool.map(lambda node: _reason(node.enroll), [*invited, same]))
        assert told[:2] == ["", ""] and sorted(told[2:])[0] == "" and len(set(told[2:])) == 2
        until(lambda: status(first)["enrolled"] == ["a", "b"])


def test_certificates_are_one_for_all_rounds(
    three: tuple[Home, Home, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other, again = three
    monkeypatch.setattr(certificate, "SAME_WITHIN", timedelta())

    def kept(home: Home) -> bytes:
        store = Store(home.state)
        try:
            row = store.row("SELECT certificate FROM nodes WHERE node_id = 'b'")
            return b"" if row is None else bytes(row["certificate"])
        finally:
            store.close()

    with InProcess(first):
        b = FakeNode.enrolled(other, "b")
        until(lambda: kept(first) == kept(again) == kept(other) == b.certificate)
        request = certificate_pb2.RenewRequest(csr_pem=make_csr(b.tls, "b"))
        renewed = b._call(certificate_pb2_grpc.CertificateServiceStub, "Renew", request).certificate_pem
        assert renewed != b.certificate
        until(lambda: {kept(home) for home in three} <= {renewed, b.certificate})
        until(lambda: len({kept(home) for home in three}) == 1)
        for command in (["health"], ["renew", "--tls-name", "posterior.example.org"]):
            done = on_coordinator(*command, "--home", str(first.root), "--json")
            assert done.returncode == 0, done.stderr
        assert "posterior.example.org" in json.loads(done.stdout)["names"]
        assert "node b" in json.loads(done.stdout)["certificates"]

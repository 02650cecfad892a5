"""The node against a real coordinator process over real mTLS: consent before anything leaves, and receipts that prove it."""

from __future__ import annotations

import contextlib
import json
import resource
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from epgfn.base.console import JsonReporter
from epgfn.ledger.checkpoint import Checkpoint, open_checkpoint
from epgfn.ledger.note import NoteSigner, NoteVerifier
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.sealing.pki import CertificateAuthority, make_csr
from epgfn.sealing.statement import UploadPredicate, parse_statement, predicate_of
from epgfn.study import Study
from epgfn.v1 import artifact_pb2
from epgfn_coordinator.continuity import why_held
from epgfn_coordinator.store import CONTINUITY_FACT, Store
from epgfn_node.enroll import Connection
from epgfn_node.home import NodeHome
from epgfn_node.settings import NodeSettings
from parties import REFUSED, WAITING, WRONG_USE, CoordinatorProcess, Node

NODES = ["north", "south", "east", "west"]


@pytest.fixture(scope="module")
def study(small_study: Study) -> Study:
    return small_study.with_changes({"roster": NODES, "aggregation": {"close_when": "all"}})


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Iterator[CoordinatorProcess]:
    folder = tmp_path_factory.mktemp("coordinator")
    (folder / "study.toml").write_bytes(study.raw)
    with CoordinatorProcess(folder / "home", folder / "study.toml") as process:
        yield process


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("records") / "records.csv"
    rows = np.random.default_rng(0).normal(size=(40, 3))
    np.savetxt(path, rows, delimiter=",", header="a,b,c", comments="", fmt="%.9f")
    return path


@pytest.fixture(scope="module")
def north(
    coordinator: CoordinatorProcess, study: Study, records: Path, tmp_path_factory: pytest.TempPathFactory
) -> Node:
    """Enrolled and trained, nothing approved."""
    return Node(tmp_path_factory.mktemp("north") / "home").join(coordinator, "north").train(records, study)


@pytest.fixture(scope="module")
def south(coordinator: CoordinatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Enrolled; nobody has accepted the study."""
    return Node(tmp_path_factory.mktemp("south") / "home").join(coordinator, "south")


def test_enrolling_says_what_to_read_and_accept(south: Node, study: Study) -> None:
    said = south.ok("enroll")  # again: the token is spent already, and nothing changes
    assert f"--accept-study {study.digest}" in said
    assert str(south.home / "study.toml") in said
    assert (south.home / "study.toml").read_bytes() == study.raw


def test_a_study_that_nobody_accepted_is_not_trained_for(south: Node, study: Study, records: Path) -> None:
    sentence = south.fails(WAITING, "train", "--data", str(records))
    assert f"--accept-study {study.digest}" in sentence
    assert "digest" in south.fails(REFUSED, "train", "--data", str(records), "--accept-study", "0" * 64)
    assert not (south.home / "accepted-study").exists()
    assert not (south.home / "local").exists()


def _text(row: list[str]) -> None:
    row[1] = "7123.4567x"


def _nan(row: list[str]) -> None:
    row[1] = "NaN"


def _short(row: list[str]) -> None:
    del row[2]


def _long(row: list[str]) -> None:
    row.append("7123.4567")


@pytest.mark.parametrize("damage", [_text, _nan, _short, _long])
def test_bad_records_are_one_sentence_without_a_value(
    south: Node, study: Study, records: Path, tmp_path: Path, damage: Callable[[list[str]], None]
) -> None:
    lines = [line.split(",") for line in records.read_text().splitlines()]
    damage(lines[5])
    _refused_records(south, study, tmp_path, "\n".join(",".join(row) for row in lines))


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n3,4\n", "a,b,c,7123.4567\n1,2,3,4\n", "a,b,c\n7123.4567,2,3\n", "a,b,c\n" + "7123.4567,2,3\n" * 9]
)  # fmt: skip
def test_records_that_do_not_fit_the_study_are_one_sentence(
    south: Node, study: Study, tmp_path: Path, text: str
) -> None:
    _refused_records(south, study, tmp_path, text)


def _refused_records(node: Node, study: Study, tmp_path: Path, text: str) -> None:
    file = tmp_path / "damaged.csv"
    file.write_text(text)
    done = node.command("train", "--data", str(file), "--accept-study", study.digest)
    assert done.returncode in (REFUSED, WRONG_USE)
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("epgfn-node: ")
    assert "unexpected" not in last
    assert "7123" not in done.stdout + done.stderr.replace("column '7123.4567'", "")
    assert not (node.home / "local").exists()


def test_nothing_leaves_unless_it_is_approved(north: Node) -> None:
    assert "epgfn-node approve" in north.fails(WAITING, "submit")
    text = north.ok("inspect")
    assert "Nothing has left this machine" in text
    assert "whoever can read the policy can read the subposterior" in text
    # Without a privacy mode nobody may say that the number of rows stays here.
    assert "number of rows" not in text and "can compute much of its covariance matrix" in text
    assert not (north.home / "outbox").exists()


def test_a_full_disk_leaves_nothing_half_written(north: Node, study: Study, records: Path) -> None:
    before = north.files()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        sentence = north.fails(REFUSED, "train", "--data", str(records), "--seed", "5")
        assert "free some space" in sentence
        assert "free some space" in north.fails(REFUSED, "approve")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert north.files() == before


def test_the_same_seed_gives_the_same_model(north: Node, records: Path) -> None:
    model = north.home / "local" / "model.safetensors"
    before = model.read_bytes()
    north.ok("train", "--data", str(records))
    assert model.read_bytes() == before


def test_approval_is_of_one_model_only(north: Node, study: Study, records: Path) -> None:
    facts = json.loads(north.ok("inspect", "--json"))
    assert "not the one you named" in north.fails(REFUSED, "approve", "--model", "0" * 64)
    north.ok("approve", "--model", facts["model_sha256"])
    approved = json.loads(north.ok("inspect", "--json"))
    assert approved["status"] == "approved"
    # The same again keeps the bytes that were sealed: sealing is randomised, and only one artifact may ever be sent.
    north.ok("approve")
    assert json.loads(north.ok("inspect", "--json"))["sealed_sha256"] == approved["sealed_sha256"]
    north.ok("train", "--data", str(records), "--seed", "99")
    assert "epgfn-node approve" in north.fails(WAITING, "submit")
    assert json.loads(north.ok("inspect", "--json"))["status"] == "trained"


@pytest.mark.parametrize(
    "file", ["local/model.safetensors", "outbox/model.sealed", "outbox/upload.sigstore.json", "outbox/approved"]
)  # fmt: skip
def test_a_byte_changed_after_approval_is_not_sent(north: Node, file: str) -> None:
    north.ok("approve")
    path = north.home / file
    good = path.read_bytes()
    mode = path.stat().st_mode
    path.write_bytes(good[:-9] + bytes([good[-9] ^ 1]) + good[-8:])
    path.chmod(mode)
    north.fails(REFUSED, "submit")
    path.write_bytes(good)
    assert not (north.home / "receipts").exists()


def test_the_statement_says_nothing_about_the_records(north: Node) -> None:
    north.ok("approve")
    key = VerifyKey.from_pem((north.home / "keys" / "signing.pem").read_bytes())
    statement = parse_statement(
        verify_bundle((north.home / "outbox" / "upload.sigstore.json").read_bytes(), key)
    )
    assert set(statement.predicate) == {
        "study_digest", "round_id", "node_id", "sender_fingerprint", "round_key_id", "suite", "payload_type",
        "sealed_size", "model_size", "privacy", "software", "checkpoint",
    }  # fmt: skip
    assert predicate_of(statement, UploadPredicate).privacy == {"mode": "none"}


def test_a_model_and_its_history_are_for_their_owner_only(north: Node) -> None:
    for name in ("model.safetensors", "history.json"):
        assert (north.home / "local" / name).stat().st_mode & 0o777 == 0o600


def test_a_key_that_others_can_read_sends_nothing(north: Node) -> None:
    key = north.home / "keys" / "signing.key"
    key.chmod(0o640)
    assert "chmod 600" in north.fails(REFUSED, "submit")
    key.chmod(0o600)


def test_a_wrong_token(coordinator: CoordinatorProcess, tmp_path: Path) -> None:
    node = Node(tmp_path / "home")
    node.ok("init")
    wrong = coordinator.invite("east", tmp_path / "invitation.json", token="not-the-token")
    sentence = node.fails(REFUSED, "enroll", "--invite", str(wrong))
    assert "token" in sentence
    assert "not-the-token" not in sentence
    assert not (node.home / "keys" / "tls.pem").exists()
    assert not (node.home / "study.toml").exists()


def test_a_token_that_was_spent_by_another(coordinator: CoordinatorProcess, tmp_path: Path) -> None:
    first, second = Node(tmp_path / "first"), Node(tmp_path / "second")
    first.join(coordinator, "west")
    second.ok("init")
    invitation = str(tmp_path / "first.invitation.json")
    assert "already used" in second.fails(REFUSED, "enroll", "--invite", invitation)


def test_a_coordinator_with_another_certificate(coordinator: CoordinatorProcess, tmp_path: Path) -> None:
    node = Node(tmp_path / "home")
    node.ok("init")
    other = CertificateAuthority.create().certificate_pem.decode()
    invitation = coordinator.invite("east", tmp_path / "invitation.json", ca_pem=other)
    assert "not the coordinator of the invitation" in node.fails(
        REFUSED, "enroll", "--invite", str(invitation)
    )


def test_an_invitation_to_another_study(coordinator: CoordinatorProcess, tmp_path: Path) -> None:
    node = Node(tmp_path / "home")
    node.ok("init")
    wrong = coordinator.invite("east", tmp_path / "invitation.json", study_digest="0" * 64)
    assert "another study" in node.fails(REFUSED, "enroll", "--invite", str(wrong))
    assert not (node.home / "study.toml").exists()


def test_the_certificate_of_another_node(north: Node, south: Node) -> None:
    """Its holder is another node to everybody, so the signed statement does not fit and is refused."""
    saved = {name: (north.home / "keys" / name).read_bytes() for name in ("tls.key", "tls.pem")}
    north.ok("approve")
    (north.home / "keys" / "tls.pem").write_bytes((south.home / "keys" / "tls.pem").read_bytes())
    assert "certificate" in north.fails(REFUSED, "submit")
    (north.home / "keys" / "tls.key").write_bytes((south.home / "keys" / "tls.key").read_bytes())
    north.fails(REFUSED, "submit")
    for name, value in saved.items():
        (north.home / "keys" / name).write_bytes(value)
    assert not (north.home / "receipts").exists()


def test_a_certificate_of_another_authority(north: Node) -> None:
    certificate = north.home / "keys" / "tls.pem"
    good = certificate.read_bytes()
    key = SigningKey.load(north.home / "keys" / "tls.key")
    north.ok("approve")
    certificate.write_bytes(CertificateAuthority.create().issue_node(make_csr(key, "north"), "north"))
    done = north.command("submit")
    certificate.write_bytes(good)
    assert done.returncode == REFUSED
    assert "not issued by the coordinator's authority" in done.stderr
    assert not (north.home / "receipts").exists()


def test_a_study_changed_on_disk_is_noticed(north: Node) -> None:
    path = north.home / "study.toml"
    good = path.read_bytes()
    path.write_bytes(good.replace(b"steps = 12", b"steps = 13"))
    assert "another study" in north.fails(REFUSED, "approve")
    path.write_bytes(good)


def test_a_rewritten_ledger_is_refused_loudly(coordinator: CoordinatorProcess, north: Node) -> None:
    north.ok("approve")
    kept = north.home / "last-checkpoint"
    good = kept.read_bytes()
    signer = NoteSigner.load(coordinator.home / "keys" / "ledger.key")
    seen = open_checkpoint(
        good, NoteVerifier.from_vkey((north.home / "trust" / "ledger.vkey").read_text().strip())
    )
    kept.write_bytes(Checkpoint(seen.origin, seen.size, b"\x01" * 32).sign(signer))
    assert "HAS BEEN REWRITTEN" in north.fails(REFUSED, "submit")
    kept.write_bytes(Checkpoint(seen.origin, 1000, b"\x01" * 32).sign(signer))
    assert "HAS BEEN REWRITTEN" in north.fails(REFUSED, "submit")
    kept.write_bytes(good)
    assert list((north.home / "fork-evidence").iterdir())
    assert not (north.home / "receipts").exists()
    with contextlib.closing(Store(coordinator.home / "state.sqlite")) as store:
        # Signed with its own key: the coordinator, too, takes its ledger for an older one, and the other tests need it.
        assert "north has shown" in why_held(store, ["north"])
        store.write("DELETE FROM facts WHERE name = ?", CONTINUITY_FACT)


@pytest.mark.parametrize("damage", [{"offset": 7}, {"crc32": 7}], ids=["late-piece", "damaged-piece"])
def test_a_piece_that_does_not_fit_is_sent_again(north: Node, damage: dict[str, int]) -> None:
    north.ok("approve")
    home = NodeHome(north.home)
    bundle, report = home.upload_bundle.read_bytes(), JsonReporter("north")
    piece = {"offset": 0, "data": b"x", "crc32": zlib.crc32(b"x"), **damage}
    with Connection.load(home, NodeSettings.load(home.settings)).open(report) as coordinator:
        begin = coordinator.call(coordinator.artifact.Begin, artifact_pb2.BeginRequest(bundle=bundle))
        wrong = artifact_pb2.UploadRequest(upload_id=begin.upload_id, **piece)
        attempts = iter([lambda: coordinator.artifact.Upload(iter([wrong])), lambda: "sent"])
        assert coordinator.persist(lambda: next(attempts)()) == "sent"


def test_a_coordinator_that_fails_after_it_accepted_costs_no_receipt(
    coordinator: CoordinatorProcess, north: Node, records: Path
) -> None:
    north.ok("approve")
    size = int((coordinator.home / "ledger" / "checkpoint").read_bytes().split(b"\n")[1])
    in_the_way = coordinator.home / "ledger" / "tile" / "entries" / "000.p" / str(size + 1)
    in_the_way.mkdir()  # the entry is committed and cannot be published
    assert "its log says why" in north.fails(REFUSED, "submit")
    assert "may have arrived" in north.fails(REFUSED, "train", "--data", str(records))
    in_the_way.rmdir()
    north.ok("submit")
    assert (north.home / "receipts" / "receipt.tlog-proof").exists()


def test_sending_twice_gives_the_same_receipt(north: Node, records: Path) -> None:
    north.ok("approve")
    north.ok("submit")
    receipts = {path.name: path.read_bytes() for path in (north.home / "receipts").iterdir()}
    north.ok("submit")
    # The reply was lost: the entry is the same, and so is its place; the log may have grown.
    for path in (north.home / "receipts").iterdir():
        path.unlink()
    north.ok("submit")
    again = {path.name: path.read_bytes() for path in (north.home / "receipts").iterdir()}
    assert again["entry.json"] == receipts["entry.json"]
    assert again["receipt.tlog-proof"].splitlines()[:2] == receipts["receipt.tlog-proof"].splitlines()[:2]
    assert "accepted already" in north.fails(REFUSED, "train", "--data", str(records))
    assert json.loads(north.ok("inspect", "--json"))["status"] == "accepted"


def test_there_is_no_global_model_yet(north: Node) -> None:
    assert "--wait" in north.fails(WAITING, "fetch")
    assert not (north.home / "global").exists()

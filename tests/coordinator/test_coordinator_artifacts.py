"""What a node may send, what is refused and why, and that a receipt is for ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from coordinator_client import (
    FakeNode,
    InProcess,
    ledger_kinds,
    make_home,
    random_tensors,
    reason_of,
    root_of,
    tiny_study,
)
from epgfn.ledger.note import NoteVerifier
from epgfn.ledger.proof import verify_proof
from epgfn.study import Study
from epgfn_coordinator.home import Home

LIMIT = 1 << 20


@pytest.fixture(scope="module")
def study() -> Study:
    return tiny_study(limit=LIMIT, quorum=2)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Iterator[Home]:
    home = make_home(tmp_path_factory.mktemp("coordinator") / "home", study)
    with InProcess(home):
        yield home


@pytest.fixture(scope="module")
def good(home: Home) -> FakeNode:
    return FakeNode.enrolled(home, "a")


@pytest.fixture(scope="module")
def bad(home: Home) -> FakeNode:
    """A node that never gets anything accepted, so the round stays open."""
    return FakeNode.enrolled(home, "b")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"node_id": "a"}, "wrong-node"),
        ({"study_digest": "0" * 64}, "wrong-study"),
        ({"round_id": "another"}, "wrong-round"),
        ({"round_key_id": "0" * 64}, "wrong-round-key"),
        ({"suite": "ML-KEM-768+X25519"}, "wrong-suite"),
        ({"sender_fingerprint": "0" * 64}, "wrong-key"),
        ({"payload_type": "text/plain"}, "wrong-payload"),
        ({"sealed_size": LIMIT + 1}, "too-large"),
        ({"model_size": 1}, "malformed"),
        ({"privacy": {"mode": "statistic"}}, "wrong-privacy"),
        ({"checkpoint": {"origin": "another", "size": 0, "root": root_of()}}, "ledger-fork"),
    ],
)
def test_every_binding_is_checked_before_a_byte_is_taken(
    home: Home, study: Study, bad: FakeNode, changes: dict[str, object], reason: str
) -> None:
    upload = bad.make_upload(study, **changes)
    assert reason_of(lambda: bad.begin(upload.bundle)) == reason
    assert not list(home.uploads.iterdir())


def test_a_checkpoint_of_another_history_is_a_fork(study: Study, bad: FakeNode) -> None:
    origin = bad.checkpoint().checkpoint.decode().split("\n")[0]
    forged = bad.make_upload(study, checkpoint={"origin": origin, "size": 2, "root": root_of()})
    assert reason_of(lambda: bad.begin(forged.bundle)) == "ledger-fork"


def test_nobody_sends_in_the_name_of_another(home: Home, study: Study, good: FakeNode, bad: FakeNode) -> None:
    stolen = good.make_upload(study)
    assert reason_of(lambda: bad.begin(stolen.bundle)) == "wrong-node"
    before = ledger_kinds(home)
    assert reason_of(lambda: bad.begin(stolen.bundle)) == "wrong-node"
    assert "refused" in before
    assert ledger_kinds(home) == before  # trying again does not make the ledger grow


def test_a_changed_statement_is_refused(study: Study, bad: FakeNode) -> None:
    bundle = bad.make_upload(study).bundle
    assert reason_of(lambda: bad.begin(bundle[:-1])) == "malformed"
    assert reason_of(lambda: bad.begin(b"")) == "malformed"


def test_pieces_must_fit_and_damage_on_the_way_is_noticed(study: Study, bad: FakeNode) -> None:
    upload = bad.make_upload(study)
    name = bad.begin(upload.bundle).upload_id
    assert reason_of(lambda: bad.upload(name, upload.sealed, offset=5)) == "bad-offset"
    assert reason_of(lambda: bad.upload(name, upload.sealed, crc_error=1)) == "bad-crc"
    assert reason_of(lambda: bad.upload(name, upload.sealed + b"more")) == "too-large"
    assert reason_of(lambda: bad.upload("another", upload.sealed)) == "unknown-upload"


def test_tampered_bytes_are_refused_and_may_be_sent_again(home: Home, study: Study, bad: FakeNode) -> None:
    upload = bad.make_upload(study)
    name = bad.begin(upload.bundle).upload_id
    bad.upload(name, bytes([upload.sealed[0] ^ 1]) + upload.sealed[1:])
    assert reason_of(lambda: bad.commit(name)) == "digest-mismatch"
    assert bad.begin(upload.bundle).offset == 0
    assert not list(home.artifacts.iterdir())


def test_what_is_no_policy_of_the_study_is_refused(study: Study, bad: FakeNode) -> None:
    tensors = random_tensors(study)
    name = next(iter(tensors))
    loud = {**tensors, name: 1e30 * tensors[name]}
    another = {**tensors, "extra": torch.zeros(1)}
    for wrong in (loud, another):
        upload = bad.make_upload(study, tensors=wrong)
        reason = reason_of(lambda upload=upload: bad.send(upload))
        assert reason_of(lambda upload=upload: bad.send(upload)) == reason  # for good, without looking again
    junk = bad.make_upload(study, plaintext=b"no model at all")
    assert reason_of(lambda: bad.send(junk)) != "digest-mismatch"


def test_an_interrupted_upload_goes_on_where_it_stopped(home: Home, study: Study, good: FakeNode) -> None:
    upload = good.make_upload(study)
    name = good.begin(upload.bundle).upload_id
    half = len(upload.sealed) // 2
    assert good.upload(name, upload.sealed[:half]).offset == half
    assert reason_of(lambda: good.commit(name)) == "incomplete"
    begun = good.begin(upload.bundle)
    assert (begun.upload_id, begun.offset, begun.accepted) == (name, half, False)
    good.upload(name, upload.sealed[half:], half)
    first = good.commit(name)
    vkey = NoteVerifier.from_vkey(good.invitation["ledger_vkey"])
    index, checkpoint = verify_proof(first.receipt, first.entry, vkey)
    assert index < checkpoint.size

    # From here on the same artifact always gets the same receipt, another one never any.
    assert good.status(name).accepted
    assert good.begin(upload.bundle).accepted
    assert reason_of(lambda: good.send(good.make_upload(study, seed=1))) == "already-accepted"
    assert good.commit(name) == first
    assert ledger_kinds(home).count("accepted") == 1
    assert reason_of(lambda: good.begin(b"junk")) == "malformed"

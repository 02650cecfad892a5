"""Another signing key of a node is taken in all rounds, at once or in the end: only what the enrolled key has signed, and each once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator_client import FakeNode, InProcess, ledger_kinds, make_home, reason_of, tiny_study
from epgfn.base.errors import RefusedError
from epgfn.ledger.entries import RotatedEntry, parse
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.rotation import sign_rotation
from epgfn.study import Study
from epgfn.v1 import certificate_pb2, certificate_pb2_grpc
from epgfn_coordinator.initialise import add
from epgfn_coordinator.known_keys import signing_keys
from epgfn_coordinator.people import Member
from epgfn_coordinator.store import CONTINUITY_FACT, Store
from epgfn_coordinator.succession import replace_key, share
from parties import on_coordinator

TIME = "2030-01-31T12:00:00Z"


def step(node: str, old: SigningKey, new: SigningKey) -> bytes:
    return sign_rotation(f"node/{node}", old, new, TIME, "a test")


def tell(node: FakeNode, *statements: bytes) -> None:
    request = certificate_pb2.RotateKeyRequest(statements=statements)
    node._call(certificate_pb2_grpc.CertificateServiceStub, "RotateKey", request)


@pytest.fixture(scope="module")
def study() -> Study:
    return tiny_study()


def test_over_the_wire(tmp_path: Path, study: Study) -> None:
    home = make_home(tmp_path / "home", study)
    second = home.further(add(home, study, "second")[0])
    with InProcess(home):
        a, b = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        old, new, stranger = a.signing, SigningKey.generate(), SigningKey.generate()
        before = a.make_upload(study)
        begun = a.begin(before.bundle)
        tell(a)  # nothing is asked for
        for statements, reason in (
            ([step("a", stranger, new)], "wrong-key"),  # the enrolled key has not signed
            ([step("b", old, new)], "wrong-party"),
            ([step("a", old, b.signing)], "key-in-use"),
            ([step("a", old, a.tls)], "key-in-use"),
            ([step("a", old, new), step("a", stranger, old)], "broken-chain"),
            ([b"no statement"], "malformed"),
        ):
            assert reason_of(lambda statements=statements: tell(a, *statements)) == reason
        assert reason_of(lambda: tell(b, step("a", old, new))) == "wrong-party"
        statement = step("a", old, new)
        tell(a, statement)
        tell(a, statement)  # a repetition does nothing
        # What was half sent under the old key goes, and what it signs counts no more.
        assert reason_of(lambda: a.begin(before.bundle)) == "key-replaced"
        assert reason_of(lambda: a.status(begun.upload_id)) != ""
        assert reason_of(lambda: tell(a, step("a", old, stranger))) == "rotation-fork"
        assert reason_of(lambda: tell(a, statement, step("a", new, old))) == "rotation-back"
        a.signing = new
        a.send(a.make_upload(study))
        for each in (home, second):
            assert ledger_kinds(each).count("rotated") == 1
        # The key that was replaced never comes back, either.
        assert on_coordinator("revoke", "a", "--home", str(home.root)).returncode == 0
        assert reason_of(lambda: tell(a, statement, step("a", new, stranger))) == "revoked"
        again = FakeNode.invited(home, "a")
        again.signing = old
        assert reason_of(again.enroll) == "key-revoked"
        again.signing = SigningKey.generate()
        again.enroll()


@pytest.fixture
def rounds(tmp_path: Path, study: Study) -> Iterator[tuple[list[Member], SigningKey]]:
    """Two rounds in which node a is enrolled with the same key, nobody serving."""
    home = make_home(tmp_path / "home", study)
    homes = [home, home.further(add(home, study, "second")[0])]
    with contextlib.ExitStack() as opened:
        members = [
            Member(opened.enter_context(contextlib.closing(Store(each.state))), frozenset(study.roster))
            for each in homes
        ]
        with InProcess(home):
            node = FakeNode.enrolled(home, "a")
        yield members, node.signing


def current(member: Member) -> str:
    row = member.store.row("SELECT signing_fingerprint FROM nodes WHERE node_id = 'a'")
    assert row is not None
    return str(row["signing_fingerprint"])


def entered(member: Member) -> list[str]:
    found = [parse(raw) for raw in member.store.entries()]
    return [entry.fingerprint for entry in found if isinstance(entry, RotatedEntry)]


def test_a_round_that_missed_changes_is_told_later(rounds: tuple[list[Member], SigningKey]) -> None:
    members, old = rounds
    keys = [old, SigningKey.generate(), SigningKey.generate()]
    statements = [step("a", keys[0], keys[1]), step("a", keys[1], keys[2])]
    replace_key(members[:1], "a", statements)  # as if it was killed in between
    assert current(members[0]) == keys[2].public.fingerprint and current(members[1]) == old.public.fingerprint
    assert share(members) == ["a"] and share(members) == []
    assert current(members[1]) == keys[2].public.fingerprint
    assert entered(members[0]) == entered(members[1]) == [key.public.fingerprint for key in keys[1:]]
    assert signing_keys(members[1].store, "a") == [key.public for key in reversed(keys)]
    assert replace_key(members, "a", statements) == []


def test_where_a_ledger_is_held_nothing_changes_anywhere(rounds: tuple[list[Member], SigningKey]) -> None:
    members, old = rounds
    members[1].store.set_fact(CONTINUITY_FACT, b"{}")
    statement = step("a", old, SigningKey.generate())
    with pytest.raises(RefusedError) as error:
        replace_key(members, "a", [statement])
    assert error.value.reason == "restored" and not entered(members[0])
    members[1].store.write("DELETE FROM facts WHERE name = ?", CONTINUITY_FACT)
    assert len(replace_key(members, "a", [statement])) == 1


def test_nobody_fills_a_ledger_with_changes(
    rounds: tuple[list[Member], SigningKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    members, old = rounds
    monkeypatch.setattr("epgfn_coordinator.succession.MOST", 3)
    for _ in range(3):
        new = SigningKey.generate()
        assert len(replace_key(members, "a", [step("a", old, new)])) == 1
        old = new
    with pytest.raises(RefusedError) as error:
        replace_key(members, "a", [step("a", old, SigningKey.generate())])
    assert error.value.reason == "too-many" and len(entered(members[0])) == 3


def test_a_restored_round_catches_up_over_all_changes(rounds: tuple[list[Member], SigningKey]) -> None:
    """A state of before the first change is told of both at once."""
    members, old = rounds
    middle, new = SigningKey.generate(), SigningKey.generate()
    statements = [step("a", old, middle), step("a", middle, new)]
    replace_key(members[:1], "a", statements[:1])
    assert len(replace_key(members, "a", statements)) == 2
    assert {current(member) for member in members} == {new.public.fingerprint}


def test_revoked_keys_change_into_none(rounds: tuple[list[Member], SigningKey]) -> None:
    members, old = rounds
    for member in members:
        member.store.write(
            "INSERT INTO revocations SELECT 99, node_id, tls_fingerprint, signing_fingerprint, signing_key FROM nodes"
        )
        member.store.write("DELETE FROM nodes")
    assert replace_key(members, "a", [step("a", old, SigningKey.generate())]) == []
    assert not entered(members[0])

"""Only an invited node gets a certificate, once, and a lost reply costs nothing."""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Iterator

import pytest

from coordinator_client import FakeNode, InProcess, ledger_kinds, make_home, reason_of, tiny_study
from epgfn.base.errors import UsageError
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.pki import node_id_from_cert
from epgfn_coordinator.home import Home
from epgfn_coordinator.status import status


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = make_home(tmp_path_factory.mktemp("coordinator") / "home", tiny_study())
    with InProcess(home):
        yield home


@pytest.fixture(scope="module")
def node(home: Home) -> FakeNode:
    return FakeNode.enrolled(home, "a")


def test_the_certificate_names_the_node(node: FakeNode) -> None:
    assert node_id_from_cert(node.certificate) == "a"
    assert node.study().study == tiny_study().raw


def test_asking_again_with_the_same_keys_gives_the_same_certificate(home: Home, node: FakeNode) -> None:
    before = ledger_kinds(home)
    assert node.enroll() == node.enroll() == node.certificate
    assert ledger_kinds(home) == before


def test_a_spent_token_is_worth_nothing_with_other_keys(node: FakeNode) -> None:
    thief = FakeNode("a", node.invitation)
    assert reason_of(thief.enroll) == "token-spent"
    half = FakeNode("a", node.invitation, tls=node.tls)
    assert reason_of(half.enroll) == "token-spent"


def test_a_wrong_token_is_refused_and_logged_but_never_quoted(
    home: Home, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = FakeNode.invited(home, "b")
    monkeypatch.setattr(logging.getLogger("epgfn.coordinator"), "propagate", True)
    assert reason_of(lambda: stranger.enroll("a-guess")) == "bad-token"
    assert reason_of(lambda: stranger.enroll("")) == "bad-token"
    assert "bad-token" in caplog.text
    assert "a-guess" not in caplog.text


def test_a_new_invitation_takes_the_place_of_an_unused_one(home: Home) -> None:
    old, new = FakeNode.invited(home, "b"), FakeNode.invited(home, "b")
    assert reason_of(old.enroll) == "invitation-replaced"
    assert old.invitation["token"] != new.invitation["token"]


def test_the_signing_key_must_be_held_and_belong_to_one_node(home: Home, node: FakeNode) -> None:
    borrowed = FakeNode.invited(home, "b")
    borrowed.signing = node.signing
    assert reason_of(borrowed.enroll) == "key-in-use"

    class Pretender(SigningKey):
        def sign(self, data: bytes) -> bytes:
            return SigningKey.generate().sign(data)

    pretending = FakeNode.invited(home, "b")
    pretending.signing = Pretender.generate()
    assert reason_of(pretending.enroll) == "bad-signature"


def test_who_is_enrolled_gets_no_second_invitation(home: Home, node: FakeNode) -> None:
    with pytest.raises(UsageError, match="enrolled already"):
        FakeNode.invited(home, "a")
    with pytest.raises(UsageError, match="roster"):
        FakeNode.invited(home, "c")


def test_without_an_enrolled_certificate_nothing_is_told(home: Home, node: FakeNode) -> None:
    outsider = FakeNode("a", node.invitation)
    outsider.certificate = node.certificate  # with a key that is not the certificate's
    with pytest.raises(Exception, match="broke off"):
        outsider.study()


def test_the_ledger_and_status_name_who_enrolled(home: Home, node: FakeNode) -> None:
    assert "enrolled" in ledger_kinds(home)
    found = status(home)
    assert found["enrolled"] == ["a"]
    assert found["serving"]
    assert json.dumps(found)


def test_no_token_is_kept_and_no_key_is_open_to_others(home: Home, node: FakeNode) -> None:
    for path in home.root.rglob("*"):
        if path.is_file():
            assert node.invitation["token"].encode() not in path.read_bytes()
        if path.suffix == ".key":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

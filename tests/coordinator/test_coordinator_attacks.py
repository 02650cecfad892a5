"""What one malicious party can do to the others, tried: forge the log, hold every thread, keep others from enrolling."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from coordinator_client import (
    FakeNode,
    InProcess,
    ledger_kinds,
    make_home,
    reason_of,
    refused_as_error,
    tiny_study,
)
from epgfn import rpc
from epgfn.base.canonical import canonical_json
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.sealing.bundle import sign_statement
from epgfn.v1 import artifact_pb2_grpc, enrollment_pb2, enrollment_pb2_grpc
from epgfn_coordinator import grpc_servers as server
from epgfn_coordinator import refusals
from epgfn_coordinator.home import Home

MANY = 40  # more than the threads of either port


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = make_home(tmp_path_factory.mktemp("coordinator") / "home", tiny_study())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "ENROLLMENT_CONNECTION", 2.0)
        with InProcess(home):
            yield home


@pytest.fixture(scope="module")
def node(home: Home) -> FakeNode:
    node = FakeNode.invited(home, "a")
    assert any(_enrolled(node) for _ in range(20))  # a connection that is slow to begin is closed soon here
    return node


@pytest.mark.parametrize("field", ["x\n2030-01-01 INFO accepted: all is well \x1b[2J", "x" * 20_000])
def test_a_statement_cannot_write_into_the_log(
    node: FakeNode, field: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = json.loads(node.make_upload(tiny_study()).bundle)
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    statement["predicate"][field] = 1
    forged = sign_statement(canonical_json(statement), node.signing)
    log = logging.getLogger("epgfn.coordinator")
    monkeypatch.setattr(log, "propagate", True)
    monkeypatch.setattr(log, "filters", [])  # how many lines a node has caused before is nothing to this one
    with pytest.raises(RefusedError) as refused:
        node.begin(forged)
    assert refused.value.reason == "malformed"
    assert "refused" in caplog.text
    for said in (caplog.text, str(refused.value)):
        assert field not in said and "all is well" not in said and "\x1b" not in said


def test_a_node_that_was_refused_too_often_is_not_looked_at_again(
    home: Home, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = node.begin(node.make_upload(tiny_study()).bundle)
    monkeypatch.setattr(refusals, "MAX_RECORDED", ledger_kinds(home).count("refused") + 3)
    reasons = [reason_of(lambda i=i: node.begin(b"junk" * i)) for i in range(5)]
    assert reasons == ["malformed"] * 3 + ["too-many-refusals"] * 2
    size = len(ledger_kinds(home))
    assert reason_of(lambda: node.begin(node.make_upload(tiny_study()).bundle)) == "too-many-refusals"
    assert reason_of(lambda: node.commit(begun.upload_id)) == "too-many-refusals"
    assert len(ledger_kinds(home)) == size


def test_a_node_cannot_hold_every_thread_with_uploads(home: Home, node: FakeNode) -> None:
    silent = threading.Event()
    credentials = rpc.channel_credentials(
        node.invitation["ca_pem"].encode(), node.tls.private_pem(), node.certificate
    )
    with grpc.secure_channel(node.invitation["address"], credentials) as channel:
        upload = artifact_pb2_grpc.ArtifactServiceStub(channel).Upload
        calls = [upload.future(iter(silent.wait, True)) for _ in range(MANY)]
        assert node.study().study == tiny_study().raw
        limit = time.monotonic() + 300
        while sum(call.done() for call in calls) < MANY - 1:
            assert time.monotonic() < limit
            time.sleep(0.01)
        # Ended by a newer one, or more at once than a connection may have.
        ended = {call.code() for call in calls if call.done()}
        assert ended <= {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
        silent.set()


def _answer(call: Callable[[], Any]) -> str:
    """The reason with which the coordinator refuses `call`, made again where its connection was closed for its age."""
    for _ in range(600):
        try:
            call()
        except RefusedError as error:
            return error.reason
        except EpgfnError:
            time.sleep(0.1)  # a channel waits a second or more before it connects again
    raise AssertionError("it was not refused")


def _enrolled(node: FakeNode) -> bool:
    with contextlib.suppress(EpgfnError):
        return bool(node.enroll())
    return False


def test_guesses_do_not_keep_others_from_enrolling_nor_fill_the_log(
    home: Home, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("epgfn.coordinator"), "propagate", True)
    other = FakeNode.invited(home, "b")
    address = other.invitation["enroll_address"]
    with grpc.secure_channel(
        address, rpc.channel_credentials(other.invitation["ca_pem"].encode())
    ) as channel:
        enroll = enrollment_pb2_grpc.EnrollmentServiceStub(channel).Enroll
        guess = enrollment_pb2.EnrollRequest(token="a-guess")
        for _ in range(MANY):
            assert (
                _answer(lambda: refused_as_error(lambda: enroll(guess, timeout=60), address)) == "bad-token"
            )
    assert 1 <= caplog.text.count("bad-token") < MANY / 2


def test_calls_that_say_nothing_do_not_keep_others_from_enrolling(home: Home) -> None:
    other, silent = FakeNode.invited(home, "b"), threading.Event()
    credentials = rpc.channel_credentials(other.invitation["ca_pem"].encode())
    with grpc.secure_channel(other.invitation["enroll_address"], credentials) as channel:
        enroll = channel.stream_unary("/epgfn.v1.EnrollmentService/Enroll")
        calls = [enroll.future(iter(silent.wait, True)) for _ in range(MANY)]
        assert any(_enrolled(other) for _ in range(20))  # a node tries again too
        for call in calls:
            call.cancel()
        silent.set()

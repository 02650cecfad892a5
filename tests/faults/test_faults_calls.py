"""Every call of the contract with whatever its messages can hold: an answer or a reason, never trouble of the coordinator's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from epgfn.base.errors import RefusedError
from epgfn.study import Study
from epgfn.v1 import artifact_pb2, certificate_pb2, enrollment_pb2, ledger_pb2, result_pb2, study_pb2
from epgfn_coordinator.initialise import add

SERVICES = [
    service
    for module in (study_pb2, artifact_pb2, result_pb2, ledger_pb2, enrollment_pb2, certificate_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
]
METHODS = {method.full_name: method for service in SERVICES for method in service.methods}
VALUES: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_STRING: st.text(max_size=80),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1) | st.integers(0, 5),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1) | st.integers(0, 5),
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeNode]:
    home = make_home(tmp_path_factory.mktemp("coordinator") / "home", tiny_study())
    with InProcess(home):
        yield FakeNode.enrolled(home, "a")


def messages(method: Any, known: list[bytes]) -> st.SearchStrategy[Any]:
    """Any request of a method; bytes and texts may be some that mean something."""
    kind = message_factory.GetMessageClass(method.input_type)
    fields = {}
    for field in method.input_type.fields:
        if field.type == FieldDescriptor.TYPE_BYTES:
            values: st.SearchStrategy[Any] = st.binary(max_size=200) | st.sampled_from(known)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            values = VALUES[field.cpp_type] | st.sampled_from([each.hex()[:32] for each in known])
        else:
            values = VALUES[field.cpp_type]
        fields[field.name] = st.lists(values, max_size=3) if field.is_repeated else values
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: kind(**given))


def call(node: FakeNode, method: Any, requests: list[Any]) -> None:
    """Make the call, and read the answer to its end."""
    enrolling = "Enrollment" in method.full_name
    address = node.invitation["enroll_address" if enrolling else "address"]
    own = () if enrolling else (node.tls.private_pem(), node.certificate)
    credentials = rpc.channel_credentials(node.invitation["ca_pem"].encode(), *own)
    streams_in, streams_out = (
        method.full_name.endswith("Upload"),
        method.full_name.endswith(("Download", "DownloadFiles")),
    )
    answer = message_factory.GetMessageClass(method.output_type)
    with grpc.secure_channel(address, credentials) as channel:
        make = (
            channel.stream_unary
            if streams_in
            else channel.unary_stream
            if streams_out
            else channel.unary_unary
        )
        path = f"/{method.containing_service.full_name}/{method.name}"
        made = make(path, type(requests[0]).SerializeToString, answer.FromString)
        given: Any = iter(requests) if streams_in else requests[0]
        refused_as_error(
            lambda: list(made(given, timeout=30)) if streams_out else made(given, timeout=30), address
        )


@pytest.mark.parametrize("name", METHODS)
def test_whatever_a_message_holds_gets_an_answer_or_a_reason(node: FakeNode, name: str) -> None:
    upload = node.make_upload(tiny_study())
    known = [upload.bundle, bytes(node.checkpoint().checkpoint), node.certificate, b"{}", b""]

    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    @given(st.lists(messages(METHODS[name], known), min_size=1, max_size=3))
    def whatever(requests: list[Any]) -> None:
        try:
            call(node, METHODS[name], requests)
        except RefusedError as error:
            assert error.reason not in ("internal", ""), error

    whatever()
    assert node.round().bundle and reason_of(lambda: node.status("nothing")) == "unknown-upload"


ABOUT_A_ROUND = [name for name, method in METHODS.items() if "round_id" in method.input_type.fields_by_name]


def test_through_no_call_does_a_node_get_at_a_round_whose_roster_does_not_name_it(tmp_path: Path) -> None:
    """Calls are taken from the contract, so one that is new is tried, too. The other round is over, and has a result to be had."""
    other = Study.from_bytes(tiny_study(roster='["b", "c"]').raw.replace(b'"tiny"', b'"other"'))
    home = make_home(tmp_path / "home", tiny_study())
    add(home, other)
    over = home.further("other")
    with InProcess(home) as server:
        a = FakeNode.enrolled(home, "a")
        inside = [FakeNode.enrolled(over, node) for node in ("b", "c")]
        uploads = [node.make_upload(other, seed=seed) for seed, node in enumerate(inside)]
        for node, upload in zip(inside, uploads, strict=True):
            node.send(upload)
        server.events.wait_for("published")
        assert inside[0].download()
        before = ledger_kinds(over)
        theirs = {
            "round_id": inside[0].round_id,
            "bundle": uploads[0].bundle,
            "upload_id": inside[0].begin(uploads[0].bundle).upload_id,
        }
        for name in ABOUT_A_ROUND:
            kind = message_factory.GetMessageClass(METHODS[name].input_type)
            known = {field.name for field in kind.DESCRIPTOR.fields}
            request = kind(**{field: value for field, value in theirs.items() if field in known})
            assert (
                reason_of(lambda name=name, request=request: call(a, METHODS[name], [request]))
                == "not-enrolled"
            ), name
            request.round_id = "0" * 32
            assert (
                reason_of(lambda name=name, request=request: call(a, METHODS[name], [request]))
                == "unknown-round"
            ), name
        assert ledger_kinds(over) == before
    assert len(ABOUT_A_ROUND) >= 11

"""Why a call comes to nothing, each cause made by a real server that really has it."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator_client import FakeNode, InProcess, make_home, tiny_study
from epgfn.base.addresses import parse_address
from epgfn.rpc import diagnosis
from epgfn.rpc.diagnosis import STEPS, Diagnosis, Target, diagnose
from epgfn.rpc.hello import Hello, Identity
from epgfn.sealing import pki
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.pki import CertificateAuthority, make_csr
from networks import (
    ConnectProxy,
    Dropping,
    HangingUp,
    Plaintext,
    Silent,
    TlsServer,
    closed_address,
    grpc_server,
)
from proxy import RecordingProxy

pytestmark = pytest.mark.usefixtures("no_proxy_of_this_machine")

NAMED = "posterior.example.org:8443"


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeNode]:
    """An enrolled node whose coordinator serves."""
    home = make_home(tmp_path_factory.mktemp("diagnosis") / "home", tiny_study())
    with InProcess(home):
        yield FakeNode.enrolled(home, "a")


@pytest.fixture
def identity(node: FakeNode) -> Identity:
    return Identity(node.tls.private_pem(), node.certificate)


def enrolling(node: FakeNode, address: str) -> Target:
    return Target(parse_address(address), node.invitation["ca_pem"].encode())


def enrolled(node: FakeNode, address: str) -> Target:
    return Target(
        parse_address(address),
        node.invitation["ca_pem"].encode(),
        Identity(node.tls.private_pem(), node.certificate),
    )


def cause(target: Target, patience: float = 2.0) -> str:
    """The cause, whose sentence names the address; the steps before it passed and those after it were not made."""
    found = diagnose(target, patience)
    assert [step.name for step in found.steps] == list(STEPS)
    if found.error is None:
        assert all(step.passed for step in found.steps)
        return ""
    assert str(target.address) in str(found.error)
    failed = next(place for place, step in enumerate(found.steps) if step.passed is False)
    assert found.steps[failed].said == str(found.error)
    assert all(step.passed for step in found.steps[:failed])
    assert all(step.passed is None for step in found.steps[failed + 1 :])
    return found.error.cause


def sentence(found: Diagnosis) -> str:
    return str(found.error)


def test_nothing_is_wrong(node: FakeNode) -> None:
    assert cause(enrolled(node, node.invitation["address"])) == ""
    assert cause(enrolling(node, node.invitation["enroll_address"])) == ""


def test_the_other_of_the_two_ports(node: FakeNode) -> None:
    for target, word in (
        (enrolled(node, node.invitation["enroll_address"]), "port for enrolling"),
        (enrolling(node, node.invitation["address"]), "port for nodes that have a certificate"),
    ):
        assert cause(target) == "wrong-port"
        assert word in sentence(diagnose(target))


def test_a_closed_port(node: FakeNode) -> None:
    assert cause(enrolling(node, closed_address())) == "port-closed"


def test_an_unknown_host(node: FakeNode) -> None:
    assert cause(enrolling(node, "no-such-host.invalid:8443"), 10.0) == "unknown-host"


def test_packets_that_are_dropped(node: FakeNode) -> None:
    with Dropping() as firewall:
        assert cause(enrolling(node, firewall.address), 0.5) == "timeout"


def test_who_takes_connections_and_says_nothing(node: FakeNode) -> None:
    with Silent() as server:
        assert cause(enrolling(node, server.address), 0.5) == "silent"


def test_who_hangs_up(node: FakeNode) -> None:
    with HangingUp() as server:
        assert cause(enrolling(node, server.address)) == "closed"


def test_a_server_without_tls(node: FakeNode) -> None:
    with Plaintext() as server:
        assert cause(enrolling(node, server.address)) == "plaintext"


def test_a_strangers_authority(node: FakeNode, authority: CertificateAuthority) -> None:
    key = SigningKey.generate()
    pem = authority.issue_server(key, ["localhost"], ["127.0.0.1"])
    with grpc_server(key.private_pem(), pem, None) as address:
        target = enrolling(node, address)
        assert cause(target) == "stranger"
        assert "'epgfn certificate authority'" in sentence(diagnose(target))


def test_a_name_that_is_not_in_the_certificate(node: FakeNode) -> None:
    with RecordingProxy(node.invitation["address"], "127.0.0.2") as other:
        target = enrolled(node, other.address)
        assert cause(target) == "wrong-name"
        assert "not for the name 127.0.0.2, but for localhost" in sentence(diagnose(target))


@pytest.mark.parametrize(("begins", "ends", "word"), [(-2, -1, "expired"), (1, 2, "not-yet")])
def test_a_certificate_out_of_its_time_is_told_with_both_times(
    authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch, begins: int, ends: int, word: str
) -> None:
    monkeypatch.setattr(pki, "_CLOCK_SKEW", dt.timedelta(days=-begins))
    monkeypatch.setattr(pki, "_LEAF_LIFETIME", dt.timedelta(days=ends))
    key = SigningKey.generate()
    pem = authority.issue_server(key, ["localhost"], ["127.0.0.1"])
    with grpc_server(key.private_pem(), pem, None) as address:
        target = Target(parse_address(address), authority.certificate_pem)
        assert cause(target) == word
        now = dt.datetime.now(dt.UTC)
        limit = now + dt.timedelta(days=begins if word == "not-yet" else ends)
        assert f"{limit:%Y-%m-%d}" in sentence(diagnose(target))
        assert f"this machine's clock says {now:%Y-%m-%d}" in sentence(diagnose(target))


def test_a_certificate_of_the_node_that_the_coordinator_does_not_take(
    node: FakeNode, authority: CertificateAuthority
) -> None:
    key = SigningKey.generate()
    other = Identity(key.private_pem(), authority.issue_node(make_csr(key, "a"), "a"))
    target = enrolled(node, node.invitation["address"])
    refused = Target(target.address, target.ca_pem, other)
    assert cause(refused) == "certificate-refused"
    assert "have its operator check the coordinator's clock" in sentence(diagnose(refused))


@pytest.mark.parametrize("protocols", [("http/1.1",), ()])
def test_a_network_that_opens_tls_and_speaks_http1_gets_a_clear_no(
    node: FakeNode, authority: CertificateAuthority, tmp_path: Path, protocols: tuple[str, ...]
) -> None:
    key = SigningKey.generate()
    (tmp_path / "key.pem").write_bytes(key.private_pem())
    (tmp_path / "server.pem").write_bytes(authority.issue_server(key, [NAMED.split(":")[0]]))
    with TlsServer(tmp_path / "server.pem", tmp_path / "key.pem", protocols) as inspecting:
        target = enrolling(node, inspecting.address)
        assert cause(target) == "no-http2"
        assert "no: " in sentence(diagnose(target))
        assert "opens TLS to look into it" in sentence(diagnose(target))


def test_through_a_proxy(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    for login in ("", "ada:pass word@1%"):
        with ConnectProxy(login, instead_of={NAMED: node.invitation["address"]}) as proxy:
            quoted = "ada:pass%20word%401%25@" if login else ""
            monkeypatch.setenv("https_proxy", f"http://{quoted}{proxy.address}")
            # All the way, but for the name, which only a coordinator of that name would have in its certificate.
            target = enrolled(node, NAMED)
            assert cause(target) == "wrong-name"
            assert proxy.tunnels[0] == NAMED
            assert not any(word in str(diagnose(target)) for word in ("pass word", "pass%20word"))
            if login:
                monkeypatch.setenv("https_proxy", f"http://ada:wrong@{proxy.address}")
                assert cause(target) == "proxy-refuses"
                assert "does not accept the user and password" in sentence(diagnose(target))
                assert "wrong@" not in str(diagnose(target))
                monkeypatch.setenv("https_proxy", f"http://{proxy.address}")
                assert "wants a user and a password (407)" in sentence(diagnose(target))


@pytest.mark.parametrize(
    ("status", "word"),
    [("403 Forbidden", "proxy-refuses"), ("405 No", "proxy-refuses"), ("502 Bad Gateway", "proxy-failed")],
)
def test_a_proxy_that_opens_no_tunnel(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch, status: str, word: str
) -> None:
    with ConnectProxy(answers_with=status) as proxy:
        monkeypatch.setenv("https_proxy", f"http://{proxy.address}")
        assert cause(enrolling(node, NAMED)) == word
        assert status[:3] in sentence(diagnose(enrolling(node, NAMED)))


def test_a_proxy_that_is_not_there_or_none(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    target = enrolling(node, NAMED)
    monkeypatch.setenv("http_proxy", f"http://{closed_address()}")
    assert cause(target) == "proxy-dead"
    assert "from http_proxy" in sentence(diagnose(target))
    monkeypatch.setenv("http_proxy", "http://no-such-proxy.invalid:3128")
    assert cause(target, 10.0) == "unknown-proxy"
    with HangingUp() as server:
        monkeypatch.setenv("http_proxy", f"http://{server.address}")
        assert cause(target) == "proxy-dead"
    with Dropping() as firewall:
        monkeypatch.setenv("http_proxy", f"http://{firewall.address}")
        assert cause(target, 0.5) == "proxy-dead"
    monkeypatch.setenv("http_proxy", "socks5://ada:secret@127.0.0.1:1080")
    found = diagnose(target)
    assert found.error is not None and found.error.cause == "bad-proxy"
    assert "http_proxy" in sentence(found)
    assert "secret" not in sentence(found)


def test_loopback_and_who_is_exempt_go_through_no_proxy(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"http://{closed_address()}")
    assert cause(enrolled(node, node.invitation["address"])) == ""
    monkeypatch.setenv("no_proxy", "other.test, .invalid")
    assert cause(enrolling(node, "no-such-host.invalid:8443"), 10.0) == "unknown-host"


def test_a_certificate_that_cannot_be_read_is_a_strangers(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        diagnosis, "say_hello", lambda *_: Hello("", "TLSv1.3", "h2", b"no certificate", True)
    )
    target = enrolling(node, node.invitation["enroll_address"])
    assert cause(target) == "stranger"
    assert "cannot be read" in sentence(diagnose(target))


def test_the_node_shows_its_certificate_where_nothing_can_be_written(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refused)
    assert cause(enrolled(node, node.invitation["address"])) == ""


def test_what_is_on_this_machine_is_asked_directly(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://{closed_address()}")
    target = enrolling(node, "no-such-host.invalid:8443")
    assert cause(target) == "proxy-dead"
    assert cause(replace(target, direct=True), 10.0) == "unknown-host"


def test_the_node_shows_its_certificate_on_systems_without_files_in_memory(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    assert cause(enrolled(node, node.invitation["address"])) == ""

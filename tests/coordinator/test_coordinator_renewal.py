"""Certificates are renewed before they end, by themselves, by hand and with new names, and nobody who is enrolled notices."""

from __future__ import annotations

import datetime as dt
import json
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509

from coordinator_client import (
    FakeNode,
    InProcess,
    OwnProcess,
    make_home,
    reason_of,
    refused_as_error,
    tiny_study,
)
from epgfn.base.addresses import parse_address
from epgfn.rpc import channel_credentials
from epgfn.rpc.certificates import names_of as names_in
from epgfn.sealing import pki
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.pki import CertificateAuthority, ends_at, make_csr, same_authority
from epgfn.v1 import certificate_pb2, certificate_pb2_grpc
from epgfn_coordinator import certificates
from epgfn_coordinator.health import require_healthy
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.invitation import invite
from epgfn_coordinator.status import status
from epgfn_coordinator.store import Store
from networks import grpc_server

NOW = dt.datetime.now(dt.UTC)
YEAR = dt.timedelta(days=365)


def command(home: Home, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "epgfn_coordinator", verb, "--home", str(home.root), *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def shown(address: str) -> x509.Certificate:
    """The certificate that is shown there."""
    at = parse_address(address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((at.host, at.port), timeout=30) as raw,
        context.wrap_socket(raw) as connection,
    ):
        der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def renewed(node: FakeNode, key: SigningKey | None = None) -> Any:
    """The answer to Renew."""
    csr = make_csr(key or node.tls, node.node_id)
    return node._call(
        certificate_pb2_grpc.CertificateServiceStub, "Renew", certificate_pb2.RenewRequest(csr_pem=csr)
    )


def again(home: Home, node: FakeNode, **options: Any) -> FakeNode:
    """The same node with an invitation for renewal."""
    store = Store(home.state)
    try:
        invitation = json.loads(invite(home, store, node.node_id, renew=True, **options))
    finally:
        store.close()
    return FakeNode(node.node_id, invitation, node.tls, node.signing)


def test_renewed_by_hand_for_a_new_name_while_it_serves(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    with OwnProcess(home):
        node = FakeNode.enrolled(home, "a")
        addresses = node.invitation["address"], node.invitation["enroll_address"]
        before = shown(addresses[0])
        done = command(home, "renew", "--tls-name", "posterior.example.org", "--tls-name", "fd00::5")
        assert done.returncode == 0 and "posterior.example.org" in done.stdout, done.stderr
        for address in addresses:
            after = shown(address)
            assert {"posterior.example.org", "fd00::5", "localhost"} <= set(names_in(after))
            assert after.serial_number != before.serial_number and after.public_key() == before.public_key()
        assert node.study().study
        require_healthy(home)
        plain = command(home, "renew", "--json")
        assert "posterior.example.org" in json.loads(plain.stdout)["names"]  # names stay
        wrong = command(home, "renew", "--tls-name", "https://x")
        assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1) and "TLS name" in wrong.stderr
    assert Config.load(home.config).tls_names == ("posterior.example.org", "fd00::5")


def test_while_it_serves_it_renews_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "LOOK_EVERY", 0.2)
    home = make_home(tmp_path / "home", tiny_study())
    with InProcess(home) as server:
        node = FakeNode.enrolled(home, "a")
        with monkeypatch.context() as short:
            short.setattr(certificates, "LOOK_EVERY", 1e9)
            time.sleep(0.5)
            short.setattr(pki, "_LEAF_LIFETIME", dt.timedelta(days=29))
            certificates.reissue(home, CertificateAuthority.load(home.keys), Config.load(home.config))
            first = shown(node.invitation["address"])
            assert first.not_valid_after_utc < NOW + dt.timedelta(days=30)
        assert "the old one ends" in server.events.wait_for("certificate")["message"]
        assert shown(node.invitation["address"]).not_valid_after_utc > NOW + 0.9 * YEAR
        assert node.study().study


def test_a_node_renews_over_the_certificate_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    with InProcess(home):
        with monkeypatch.context() as short:
            short.setattr(pki, "_LEAF_LIFETIME", dt.timedelta(days=20))
            node, other = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        found = status(home)["warnings"]
        assert [sentence.split(" ends")[0] for sentence in found] == [
            "the certificate of node a",
            "the certificate of node b",
        ]
        assert "by epgfn-node renew" in found[0]
        assert json.loads(command(home, "health", "--json").stdout)["warnings"] == found
        assert reason_of(lambda: renewed(node, SigningKey.generate())) == "other-key"
        assert reason_of(lambda: renewed(node, other.tls)) == "other-key"
        with monkeypatch.context() as later:  # what was issued just now is given again
            later.setattr("epgfn_coordinator.services.certificate.SAME_WITHIN", dt.timedelta())
            answer = renewed(node)
        assert ends_at(answer.certificate_pem) > NOW + 0.9 * YEAR
        assert answer.ca_pem == home.ca.read_bytes()
        assert renewed(node).certificate_pem == answer.certificate_pem  # a reply that was lost
        assert len(status(home)["warnings"]) == 1
        node.certificate = answer.certificate_pem
        assert node.study().study


def test_after_its_end_a_fresh_token_renews_it_for_the_same_keys_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    with InProcess(home):
        with monkeypatch.context() as short:
            short.setattr(pki, "_LEAF_LIFETIME", dt.timedelta(seconds=1))
            node = FakeNode.enrolled(home, "a")
        time.sleep(2.1)
        assert "token a --renew" in status(home)["warnings"][0]
        with pytest.raises(Exception, match="broke off"):
            node.study()
        assert "add --renew" in command(home, "token", "a").stderr
        assert "nothing to renew" in command(home, "token", "b", "--renew").stderr

        fresh = again(home, node)
        thief = FakeNode("a", fresh.invitation)
        assert reason_of(thief.enroll) == "token-spent"
        assert ends_at(fresh.enroll()) > NOW + 0.9 * YEAR
        kept = fresh.certificate
        assert fresh.enroll() == kept
        assert fresh.study().study
        assert reason_of(node.enroll) == "invitation-replaced"
        assert status(home)["warnings"] == []

        expired = again(home, node, days=1e-6)
        time.sleep(0.2)
        assert reason_of(expired.enroll) == "invitation-expired"
        assert command(home, "revoke-invitation", "a").returncode == 0


def test_the_authority_is_renewed_long_before_it_ends_and_old_trust_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as short:
        short.setattr(pki, "_CA_LIFETIME", dt.timedelta(days=390))
        home = make_home(tmp_path / "home", tiny_study())
    old = home.ca.read_bytes()
    with InProcess(home) as server:
        assert "authority" in server.events.wait_for("certificate")["message"]
        new = home.ca.read_bytes()
        assert same_authority(old, new) and ends_at(new) > NOW + 9 * YEAR
        trusting = FakeNode.invited(home, "a")
        trusting.invitation["ca_pem"] = old.decode()
        trusting.enroll()
        assert trusting.study().study
        assert renewed(trusting).ca_pem == new
        assert FakeNode.enrolled(home, "b").study().study
        require_healthy(home)


def test_no_certificate_outlives_the_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as short:
        short.setattr(pki, "_CA_LIFETIME", dt.timedelta(days=100))
        authority = CertificateAuthority.create()
    leaf = authority.issue_node(make_csr(SigningKey.generate(), "a"), "a")
    assert ends_at(leaf) == authority.ends
    before = authority.certificate_pem
    authority.renew()
    assert same_authority(before, authority.certificate_pem) and authority.ends > NOW + 9 * YEAR
    for pem in (before, authority.certificate_pem):
        x509.load_pem_x509_certificate(leaf).verify_directly_issued_by(x509.load_pem_x509_certificate(pem))
    assert not same_authority(before, CertificateAuthority.create().certificate_pem)


def test_a_coordinator_of_before_says_no_and_no_more() -> None:
    """What a node gets that asks one without this service."""
    authority, key = CertificateAuthority.create(), SigningKey.generate()
    pem = authority.issue_server(key, ["localhost"], ["127.0.0.1"])
    with (
        grpc_server(key.private_pem(), pem, None) as address,
        grpc.secure_channel(address, channel_credentials(authority.certificate_pem)) as channel,
        pytest.raises(Exception, match="unimplemented"),
    ):
        stub = certificate_pb2_grpc.CertificateServiceStub(channel)  # type: ignore[no-untyped-call]
        refused_as_error(lambda: stub.Renew(certificate_pb2.RenewRequest(), timeout=30), "x:1")


def test_there_must_be_a_coordinator(tmp_path: Path) -> None:
    assert command(Home(tmp_path / "none"), "renew").returncode == 2

"""What `epgfn-node` says when the network is in the way, and proxies that it goes through, with a real coordinator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from epgfn.rpc import diagnosis
from epgfn.rpc.proxies import EXEMPTING, VARIABLES
from epgfn.sealing.pki import CertificateAuthority
from epgfn.study import Study
from epgfn_node import client
from epgfn_node.client import Coordinator
from networks import ConnectProxy, Dropping, Plaintext, closed_address
from parties import REFUSED, CoordinatorProcess, Node
from proxy import RecordingProxy

NAMED = "localhost.epgfn.test"


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *EXEMPTING):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def coordinator(small_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    folder = tmp_path_factory.mktemp("network")
    study = small_study.with_changes({"roster": ["north", "south", "east", "west"]})
    (folder / "study.toml").write_bytes(study.raw)
    with CoordinatorProcess(folder / "home", folder / "study.toml", "--tls-name", NAMED) as serving:
        yield serving


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path / "home")
    node.ok("init")
    return node


def enrol_at(node: Node, coordinator: CoordinatorProcess, address: str, **changes: str) -> str:
    """What enrolling at `address` is told, which is a failure."""
    invitation = node.home.with_suffix(".invitation.json")
    coordinator.invite("east", invitation, enroll_address=address, **changes)
    sentence = node.fails(REFUSED, "enroll", "--invite", str(invitation))
    assert address in sentence
    return sentence


def test_each_cause_has_its_own_sentence(
    coordinator: CoordinatorProcess, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "the port is closed" in enrol_at(node, coordinator, closed_address())
    assert "is unknown here" in enrol_at(node, coordinator, "no-such-host.invalid:8443")
    assert "port for nodes that have a certificate" in enrol_at(node, coordinator, coordinator.address)
    with Plaintext() as server:
        assert "speaks no TLS" in enrol_at(node, coordinator, server.address)
    other = CertificateAuthority.create().certificate_pem.decode()
    stranger = Node(node.home.with_name("stranger"))
    stranger.ok("init")
    assert "not the coordinator of the invitation" in enrol_at(
        stranger, coordinator, coordinator.enroll_address, ca_pem=other
    )
    with RecordingProxy(coordinator.enroll_address, "127.0.0.2") as elsewhere:
        assert "not for the name 127.0.0.2" in enrol_at(node, coordinator, elsewhere.address)


def test_a_firewall_that_drops_packets(
    coordinator: CoordinatorProcess, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_OPTIONS", [("grpc.min_reconnect_backoff_ms", 1000)])
    monkeypatch.setattr(client, "diagnose", lambda target: diagnosis.diagnose(target, 1.0))
    with Dropping() as firewall:
        assert "as when a firewall drops the packets" in enrol_at(node, coordinator, firewall.address)


def test_an_enrolled_node_at_the_port_for_enrolling(coordinator: CoordinatorProcess, tmp_path: Path) -> None:
    node = Node(tmp_path / "west").join(coordinator, "west")
    node.set(address=coordinator.enroll_address)
    sentence = node.fails(REFUSED, "fetch")
    assert f"at {coordinator.enroll_address} is the coordinator's port for enrolling" in sentence


def test_what_cannot_pass_is_told_at_once(
    coordinator: CoordinatorProcess, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: Coordinator, seconds: float) -> None:
        raise AssertionError("it waits")

    monkeypatch.setattr(Coordinator, "tell_waiting", never)
    node.set(connect_wait=600.0)
    invitation = node.home.with_suffix(".invitation.json")
    coordinator.invite("east", invitation, enroll_address=coordinator.address)
    assert "port for nodes" in node.fails(REFUSED, "run", "--invite", str(invitation))


def test_nothing_of_grpc_is_on_the_screen(coordinator: CoordinatorProcess, tmp_path: Path) -> None:
    node = Node(tmp_path / "home", processes=True)
    node.ok("init")
    with RecordingProxy(coordinator.enroll_address, "127.0.0.2") as elsewhere:
        enrol_at(node, coordinator, elsewhere.address)
        invitation = str(node.home.with_suffix(".invitation.json"))
        said = node.command("enroll", "--invite", invitation).stderr
    assert all("epgfn-node: " in line or " asking " in line for line in said.splitlines()), said


@pytest.mark.parametrize("login", ["", "ada:a b@1%"])
def test_enrolling_through_a_proxy(coordinator: CoordinatorProcess, tmp_path: Path, login: str) -> None:
    leads = {
        f"{NAMED}:{address.rpartition(':')[2]}": address
        for address in (coordinator.address, coordinator.enroll_address)
    }
    main, enrolling = leads
    with ConnectProxy(login, instead_of=leads) as proxy:
        quoted = "ada:a%20b%401%25@" if login else ""
        environment = {"https_proxy": f"http://{quoted}{proxy.address}"}
        node = Node(tmp_path / "home")
        name = "north" if login else "south"
        invitation = coordinator.invite(name, tmp_path / "i.json", enroll_address=enrolling, address=main)
        node.ok("init")
        if login:
            wrong = {"https_proxy": f"http://ada:no@{proxy.address}"}
            sentence = node.fails(REFUSED, "enroll", "--invite", str(invitation), **wrong)
            assert "does not accept the user and password" in sentence
            assert "ada" not in sentence
        node.ok("enroll", "--invite", str(invitation), **environment)
        assert set(proxy.tunnels) == {main, enrolling}
        count = len(proxy.tunnels)
        assert "is unknown here" in node.fails(REFUSED, "fetch", no_proxy=f"x, {NAMED}", **environment)
        assert len(proxy.tunnels) == count
    dead = node.fails(REFUSED, "fetch", **environment)
    assert f"the proxy {proxy.address} (from https_proxy) does not answer" in dead
    with ConnectProxy(answers_with="403 Forbidden") as refusing:
        said = node.fails(REFUSED, "fetch", https_proxy=refusing.address)
        assert f"does not let this machine connect to {main} (403)" in said


def test_loopback_goes_through_no_proxy(coordinator: CoordinatorProcess, tmp_path: Path) -> None:
    node = Node(tmp_path / "home", processes=True)
    node.ok("init")
    invitation = coordinator.invite("east", tmp_path / "invitation.json")
    dead = f"http://{closed_address()}"
    node.ok("enroll", "--invite", str(invitation), http_proxy=dead, https_proxy=dead, grpc_proxy=dead)

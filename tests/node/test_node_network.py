"""What `epgfn-node` says when the network is in the way, and proxies that it goes through, with a real coordinator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from epgfn.rpc import diagnosis
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.pki import CertificateAuthority, make_csr
from epgfn.study import Study
from epgfn_node import client
from epgfn_node.client import Coordinator
from networks import ConnectProxy, Dropping, Plaintext, closed_address
from parties import REFUSED, WRONG_USE, CoordinatorProcess, Node
from proxy import RecordingProxy

pytestmark = pytest.mark.usefixtures("no_proxy_of_this_machine")

NAMED = "localhost.epgfn.test"


@pytest.fixture(scope="module")
def coordinator(small_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    folder = tmp_path_factory.mktemp("network")
    study = small_study.with_changes(
        {"roster": ["north", "south", "east", "west", "centre", "coast", "island"]}
    )
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


@pytest.mark.usefixtures("fresh_processes")  # what a library says as it is loaded counts
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
    invitation = coordinator.invite("island", tmp_path / "invitation.json")
    dead = f"http://{closed_address()}"
    node.ok("enroll", "--invite", str(invitation), http_proxy=dead, https_proxy=dead, grpc_proxy=dead)


def steps_of(done: CompletedProcess[str]) -> list[dict[str, bool | None]]:
    """Of each port, which step passed."""
    return [{step["name"]: step["passed"] for step in port["steps"]} for port in json.loads(done.stdout)]


def test_the_doctor_goes_the_way_before_and_after_enrolling(
    coordinator: CoordinatorProcess, tmp_path: Path
) -> None:
    node = Node(tmp_path / "home")
    assert "epgfn-node init" in node.fails(WRONG_USE, "doctor")
    node.ok("init")
    assert "--invite" in node.fails(WRONG_USE, "doctor")
    invitation = str(coordinator.invite("centre", tmp_path / "invitation.json"))
    said = node.ok("doctor", "--invite", invitation)
    assert f"{coordinator.enroll_address}, for enrolling" in said
    assert f"{coordinator.address}, for nodes" in said
    assert "which this node gets by enrolling" in said
    node.ok("enroll", "--invite", invitation)
    before = node.files()
    done = node.command("doctor", "--json")
    assert done.returncode == 0
    assert steps_of(done) == [dict.fromkeys(diagnosis.STEPS, True)]
    said = node.ok("doctor")
    assert "the round is open" in said
    assert f"this machine's clock says {datetime.now(UTC):%Y-%m-%d}" in said
    assert node.files() == before

    node.set(address=closed_address())
    done = node.command("doctor", "--json")
    assert done.returncode == REFUSED
    assert json.loads(done.stdout)[0]["cause"] == "port-closed"
    passed = steps_of(done)[0]
    assert [passed[name] for name in diagnosis.STEPS] == [True, True, False, None, None, None, None]
    assert "ends at connect" in node.fails(REFUSED, "doctor")
    node.set(address=coordinator.enroll_address)
    assert json.loads(node.command("doctor", "--json").stdout)[0]["cause"] == "wrong-port"


def test_the_doctor_goes_through_the_proxy(coordinator: CoordinatorProcess, tmp_path: Path) -> None:
    node = Node(tmp_path / "home")
    node.ok("init")
    ports = [address.rpartition(":")[2] for address in (coordinator.enroll_address, coordinator.address)]
    enrolling, main = (f"{NAMED}:{port}" for port in ports)
    invitation = str(coordinator.invite("coast", tmp_path / "i.json", enroll_address=enrolling, address=main))
    leads = {enrolling: coordinator.enroll_address, main: coordinator.address}
    with ConnectProxy("ada:secret", instead_of=leads) as proxy:
        right = f"http://ada:secret@{proxy.address}"
        said = node.ok("doctor", "--invite", invitation, https_proxy=right)
        assert f"through the proxy {proxy.address} (from https_proxy)" in said
        assert "secret" not in said
        done = node.command("doctor", "--invite", invitation, https_proxy=f"http://{proxy.address}")
        assert done.returncode == REFUSED
        assert "wants a user and a password (407)" in done.stdout


def test_the_doctor_says_what_a_refused_node_is_told(coordinator: CoordinatorProcess, tmp_path: Path) -> None:
    node = Node(tmp_path / "home").join(coordinator, "coast")
    authority = CertificateAuthority.load(coordinator.home / "keys")
    key = SigningKey.load(node.home / "keys" / "tls.key")
    other = authority.issue_node(make_csr(key, "nobody"), "nobody")
    (node.home / "keys" / "tls.pem").write_bytes(other)
    done = node.command("doctor", "--json")
    assert done.returncode == REFUSED
    assert json.loads(done.stdout)[0]["cause"] == "not-enrolled"
    assert steps_of(done)[0]["answer"] is False


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("https://posterior.example.org:8443", "write posterior.example.org:8443"),
        ("posterior.example.org", "no port"),
        ("posterior.example.org.:8443", "dot at the end"),
        ("::1", "[::1]:8443"),
        ("0.0.0.0:8443", "nobody can connect"),
    ],
)
def test_what_is_no_address_is_refused_before_the_token_is_spent(
    coordinator: CoordinatorProcess, node: Node, address: str, word: str
) -> None:
    invitation = node.home.with_suffix(".invitation.json")
    coordinator.invite("east", invitation, address=address)
    sentence = node.fails(WRONG_USE, "enroll", "--invite", str(invitation))
    assert word in sentence
    assert "address in the invitation" in sentence
    node.set(address=address)
    sentence = node.fails(WRONG_USE, "enroll", "--invite", str(invitation))
    assert f"address in {node.home / 'node.toml'}: " in sentence
    node.set(address=coordinator.address, enroll_address=address)
    assert word in node.fails(WRONG_USE, "enroll", "--invite", str(invitation))
    assert not (node.home / "keys" / "tls.pem").exists()

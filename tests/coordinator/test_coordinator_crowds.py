"""Crowds at the ports: an honest node gets in and sends its model, and `serve` goes on, with few descriptors and with none."""

from __future__ import annotations

import resource
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest

from coordinator_client import FakeNode, InProcess, OwnProcess, ledger_kinds, make_home, tiny_study
from crowds import (
    a_round_in_a_crowd,
    calling_without_pause,
    client_hello,
    crowd,
    guess_tokens,
    open_files,
    persistently,
)
from epgfn.base.addresses import parse_address
from epgfn.rpc.hello import HTTP2, Identity
from epgfn_coordinator import grpc_servers as server
from epgfn_coordinator import identity
from epgfn_coordinator.refusals import MAX_RECORDED

LIMIT = 300  # descriptors of the process


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", ["connected", "hello", "trickle"])
def test_a_round_goes_on_while_idle_connections_crowd_both_ports(tmp_path: Path, stop_at: str) -> None:
    most, seen, _ = a_round_in_a_crowd(tmp_path, size=400, limit=LIMIT, stop_at=stop_at)
    assert seen >= 800
    assert most < LIMIT - 50, "descriptors are left for the disk"


def test_serving_goes_on_where_no_descriptor_is_left_at_all(tmp_path: Path) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    with OwnProcess(home) as serving:
        node, other = FakeNode.enrolled(home, "a"), FakeNode.enrolled(home, "b")
        upload = node.make_upload(study)
        other.send(other.make_upload(study, seed=1))
        pid = serving.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        with crowd([node.invitation["address"]], 20, "hello"):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_files(pid), before[1]))
            sending = threading.Thread(target=persistently, args=(lambda: node.send(upload),))
            sending.start()
            time.sleep(2)
            assert serving.process.poll() is None
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            sending.join()
        serving.wait_for("published")
    assert ledger_kinds(home).count("accepted") == 2


def test_a_node_enrols_while_tokens_are_guessed(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home", tiny_study())
    with InProcess(home):
        assert guess_tokens(home, 400)[1] < 60
    assert ledger_kinds(home).count("enrolled") == 1


def test_a_refused_node_that_calls_without_pause_does_not_keep_others_from_sending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "AT_ONCE", MAX_RECORDED + 50.0)
    study = tiny_study(quorum=1, close_when="all")
    home = make_home(tmp_path / "home", study)
    with InProcess(home):
        bad = FakeNode.enrolled(home, "a")
        with calling_without_pause(bad) as told:
            good = FakeNode.invited(home, "b")
            persistently(good.enroll)
            upload = good.make_upload(study)
            persistently(lambda: good.send(upload))
            while "too-many-calls" not in told:
                time.sleep(0.01)
        assert set(told) == {"too-many-refusals", "too-many-calls"}
    kinds = ledger_kinds(home)
    assert (kinds.count("refused"), kinds.count("accepted")) == (MAX_RECORDED, 1)


def test_a_handshake_that_does_not_end_and_a_connection_without_calls_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HANDSHAKE", 1.0)
    monkeypatch.setattr(server, "UNUSED", 1.0)
    home = make_home(tmp_path / "home", tiny_study())
    with InProcess(home):
        node = FakeNode.enrolled(home, "a")
        at = parse_address(node.invitation["address"])
        with socket.create_connection((at.host, at.port), timeout=10) as begun:
            begun.sendall(client_hello())
            assert _seconds_open(begun) < 8
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=node.invitation["ca_pem"])
        context.set_alpn_protocols([HTTP2])
        Identity(node.tls.private_pem(), node.certificate).load_into(context)
        with (
            socket.create_connection((at.host, at.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname=at.host) as idle,
        ):
            idle.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
            assert _seconds_open(idle) < 8
        assert node.study().study, "whoever calls is served"


def _seconds_open(connection: socket.socket) -> float:
    """How long the other end keeps it open."""
    begun = time.monotonic()
    try:
        while connection.recv(1 << 16):
            pass
    except (ConnectionError, ssl.SSLError):
        pass
    return time.monotonic() - begun

"""The gate alone: every byte passes in order, and who says nothing, or too little, or comes too often has to go."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from epgfn.base.addresses import Address
from epgfn_coordinator.gate import Gate, Patience
from epgfn_coordinator.guests import Bounds
from epgfn_coordinator.listening import Inner, listen

SOON = 20.0  # seconds that anything may take here


class Echo:
    """Says what it hears, behind a gate, and keeps the names of those that it heard."""

    def __init__(self, path: str) -> None:
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(path)
        self._server.listen(64)
        self.peers: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self._server.accept()
                self.peers.append(peer.decode("ascii").strip("\0") if isinstance(peer, bytes) else peer)
                threading.Thread(target=self._say, args=(connection,), daemon=True).start()

    @staticmethod
    def _say(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    def close(self) -> None:
        self._server.close()


@contextlib.contextmanager
def gate(bounds: Bounds = Bounds(100, 100), **patience: float) -> Iterator[tuple[Gate, Echo, int]]:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/echo"
        echo = Echo(path)
        sockets, address = listen(Address("127.0.0.1", 0))
        found = Gate("test", sockets, path, bounds, Patience(**patience))
        found.start()
        try:
            yield found, echo, address.port
        finally:
            found.close()
            echo.close()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=SOON)


def answers(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"x")
        return connection.recv(1) == b"x"
    except OSError:
        return False


def is_ended(connection: socket.socket) -> bool:
    """Whether the other end ends it, soon."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def is_refused(port: int) -> bool:
    """Whether a new connection is ended, soon or before this end knows that it has one."""
    try:
        return is_ended(connected(port))
    except ConnectionError:
        return True


def test_every_byte_passes_in_order_however_slow_the_reader() -> None:
    data = os.urandom(5_000_001)
    with gate() as (_, _, port), connected(port) as connection:
        threading.Thread(target=connection.sendall, args=(data,), daemon=True).start()
        got = bytearray()
        while len(got) < len(data):
            if len(got) < 50_000:
                time.sleep(0.01)  # until everything in between is full
            got += connection.recv(10_000)
        assert bytes(got) == data


def test_the_silent_are_ended_each_in_its_time_and_the_talking_are_not() -> None:
    with gate(hello=0.5, stranger=100, idle=2) as (found, _, port):
        silent, talking, quiet = (connected(port) for _ in range(3))
        assert answers(talking) and answers(quiet)
        begun = time.monotonic()
        assert is_ended(silent) and time.monotonic() - begun < 2
        while found.count > 1:
            assert answers(talking)
            assert time.monotonic() - begun < SOON
            time.sleep(0.1)
        assert time.monotonic() - begun > 1.9 and is_ended(quiet) and answers(talking)


def test_a_stranger_is_ended_and_a_node_is_not() -> None:
    with gate(stranger=1) as (found, echo, port):
        stranger, node = connected(port), connected(port)
        assert answers(stranger) and answers(node)
        found.recognise(f"unix-abstract:{echo.peers[1]}", "a")
        assert is_ended(stranger) and answers(node) and found.count == 1


def test_the_newest_connections_of_a_node_are_kept() -> None:
    with gate(Bounds(100, 100, per_node=2)) as (found, echo, port):
        held = [connected(port) for _ in range(3)]
        for number, each in enumerate(held):
            assert answers(each)
            found.recognise(f"unix:{echo.peers[number]}", "a")
        assert is_ended(held[0]) and answers(held[1]) and answers(held[2])


def test_where_it_is_full_the_oldest_stranger_makes_room_but_no_node() -> None:
    with gate(Bounds(2, 2)) as (found, echo, port):
        node, old = connected(port), connected(port)
        assert answers(node)
        found.recognise(echo.peers[0], "a")
        assert answers(old)
        new = connected(port)
        assert answers(new) and is_ended(old) and answers(node)
        found.recognise(echo.peers[-1], "b")
        assert answers(new)
        assert is_refused(port), "nobody is left to make room"
        assert answers(node) and answers(new) and found.count == 2


def test_without_descriptors_it_waits_and_goes_on_when_there_are_some() -> None:
    with gate() as (found, _, port):
        first, second = connected(port), socket.socket()
        second.settimeout(SOON)
        assert answers(first)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            second.connect(("127.0.0.1", port))
            assert is_ended(first), "a stranger goes, in case that helps"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert answers(second) and found.count == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "", "0.0.0.0"])
def test_where_it_listens(host: str) -> None:
    sockets, address = listen(Address(host, 0))
    try:
        assert address.host == host and address.port
        connected(address.port).close()
        with pytest.raises(Exception, match="cannot listen on"):
            listen(address)
    finally:
        for each in sockets:
            each.close()


def test_sockets_between_gate_and_grpc_are_nobody_elses_and_have_short_names(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100) / ("y" * 100)
    deep.mkdir(parents=True)
    inner = Inner(deep)
    for _ in range(2):
        path = inner.path("main")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
        assert os.stat(os.path.dirname(path) + "/.").st_mode & 0o077 == 0
        inner.move()
    folder = os.path.dirname(inner.path("main"))
    inner.close()
    assert not os.path.exists(folder)

"""A bad network between two real processes: slow, in slices, and with accidents after so many bytes. And a node's own client on it."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from coordinator_client import FakeNode, Upload
from epgfn.base.addresses import parse_address
from epgfn.base.console import JsonReporter, Reporter
from epgfn.base.files import write_atomic
from epgfn.rpc.diagnosis import Target
from epgfn.rpc.hello import Identity
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.statement import UploadPredicate, parse_statement, predicate_of
from epgfn_node.client import Coordinator
from epgfn_node.home import NodeHome
from epgfn_node.outbox import Package
from epgfn_node.submit import _Transfer
from proxy import split

CUT, RESET, HALF_CLOSE, STALL = "cut", "reset", "half-close", "stall"
KINDS: Final = (CUT, RESET, HALF_CLOSE)
"""Accidents that both ends notice at once; a stall takes as long as gRPC's keepalive."""
LOOK = 0.05  # seconds
AT_ONCE = struct.pack("ii", 1, 0)  # closed with a reset, and nothing that is on its way arrives


@dataclass
class Manners:
    """How the line treats what passes: seconds of delay, bytes a second (0: any), the most bytes in one piece (0: any)."""

    latency: float = 0.0
    rate: int = 0
    slices: int = 0


@dataclass
class _Pair:
    """One connection through the line. `silent`: open, and nothing passes."""

    client: socket.socket
    server: socket.socket
    broken: bool = False
    silent: bool = False
    deaf: bool = False
    ends: list[threading.Thread] = field(default_factory=list)


class BadLine:
    """Listens on a free port of loopback and passes everything on to `target` ("host:port"). Use as a context manager.

    `accidents` happen one after the other, each once so many more bytes have come from clients; `happened` counts them.
    """

    def __init__(self, target: str, manners: Manners | None = None) -> None:
        self.target, self.manners = target, manners or Manners()
        self.happened: dict[str, int] = {}
        self._accidents: list[tuple[str, int]] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(LOOK)
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._pairs: list[_Pair] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def address(self) -> str:
        """Where clients connect to."""
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    @property
    def left(self) -> int:
        """How many accidents are yet to happen."""
        return len(self._accidents)

    def plan(self, *accidents: tuple[str, int]) -> None:
        """These happen next: what, and after how many bytes."""
        with self._lock:
            self._accidents += accidents

    def forget(self) -> None:
        """No more accidents."""
        with self._lock:
            self._accidents.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
        self._server.close()
        for pair in self._pairs:
            for end in pair.ends:
                end.join(10)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            try:
                server = socket.create_connection(split(self.target), timeout=5)
            except OSError:
                client.close()
                continue
            pair = _Pair(client, server)
            for each in (client, server):
                each.settimeout(LOOK)
            self._pairs.append(pair)
            for from_client in (True, False):
                end = threading.Thread(target=self._pass_on, args=(pair, from_client), daemon=True)
                pair.ends.append(end)
                end.start()

    def _pass_on(self, pair: _Pair, from_client: bool) -> None:
        source, sink = (pair.client, pair.server) if from_client else (pair.server, pair.client)
        while not (pair.broken or self._closed.is_set()):
            if pair.silent:
                time.sleep(LOOK)
                continue
            try:
                data = source.recv(1 << 16)
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    break
                passing, what = self._accident(data) if from_client else (data, "")
                if not pair.deaf:
                    self._send(pair, sink, passing)
            except TimeoutError:
                continue
            except OSError:
                pair.broken = True
                break
            self._happen(pair, what)
        else:
            # Whoever notices last lets go of the socket, and only then the other end hears of it.
            pair.broken = True
        for each in (source, sink) if pair.broken else ():
            with contextlib.suppress(OSError):
                each.close()

    def _send(self, pair: _Pair, sink: socket.socket, data: bytes) -> None:
        size = self.manners.slices or len(data)
        time.sleep(self.manners.latency)
        for start in range(0, len(data), max(size, 1)):
            left = memoryview(data)[start : start + size]
            while left and not (pair.broken or self._closed.is_set()):
                with contextlib.suppress(TimeoutError):
                    left = left[sink.send(left) :]
            if self.manners.rate:
                time.sleep(size / self.manners.rate)

    def _accident(self, data: bytes) -> tuple[bytes, str]:
        """What still passes, and what happens then."""
        with self._lock:
            if not self._accidents:
                return data, ""
            what, after = self._accidents[0]
            if len(data) < after:
                self._accidents[0] = (what, after - len(data))
                return data, ""
            del self._accidents[0]
            self.happened[what] = self.happened.get(what, 0) + 1
            return data[:after], what

    def _happen(self, pair: _Pair, what: str) -> None:
        with contextlib.suppress(OSError):
            if what == CUT:
                pair.broken = True
            elif what == RESET:
                for each in (pair.client, pair.server):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                pair.broken = True
            elif (
                what == HALF_CLOSE
            ):  # the coordinator hears that no more will come; the node does not hear that
                pair.deaf = True
                pair.server.shutdown(socket.SHUT_WR)
            elif what == STALL:
                pair.silent = True


def transfer(node: FakeNode, upload: Upload, line: BadLine, folder: Path, patience: float = 60.0) -> str:
    """Bring an upload over the line with the node's own client, as `epgfn-node submit` does; its name there."""
    with contextlib.redirect_stdout(None):
        return bring(node, upload, line.address, folder, patience, JsonReporter("a"))


def bring(
    node: FakeNode, upload: Upload, address: str, folder: Path, patience: float, report: Reporter
) -> str:
    """The same to any address."""
    home = NodeHome(folder)
    write_atomic(home.sealed, upload.sealed)
    predicate = predicate_of(
        parse_statement(verify_bundle(upload.bundle, node.signing.public)), UploadPredicate
    )
    identity = Identity(node.tls.private_pem(), node.certificate)
    target = Target(parse_address(address), node.invitation["ca_pem"].encode(), identity)
    package = Package(upload.bundle, predicate, "", "")
    with Coordinator(target, report, patience) as coordinator:
        moving = _Transfer(home, package, coordinator, report)
        coordinator.persist(moving.run, progress=lambda: moving.kept)
    return moving.upload_id


def at_random(
    chance: random.Random, size: int, count: int, kinds: tuple[str, ...] = KINDS
) -> list[tuple[str, int]]:
    """So many accidents, after random numbers of bytes that come to about `size` in all."""
    return [(chance.choice(kinds), chance.randint(1, max(2 * size // count, 1))) for _ in range(count)]

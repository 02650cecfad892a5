"""A TCP proxy that records every byte and cuts connections on demand: the bad network between two real processes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


def split(address: str) -> tuple[str, int]:
    """Host and port of "host:port"."""
    host, _, port = address.rpartition(":")
    return host, int(port)


class RecordingProxy:
    """Listens on a free port of `host` and passes everything on to `target` ("host:port"). Use as a context manager.

    `cut_after(n)` cuts every connection once n more bytes have come from clients, one time.
    """

    def __init__(self, target: str, host: str = "127.0.0.1") -> None:
        self.target, self._host = split(target), host
        self._server = socket.create_server((host, 0))
        self._lock = threading.Lock()
        self._recorded: list[
            bytearray
        ] = []  # one a connection and direction, so that no marker is torn apart
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._left: int | None = None
        self._before_cut: Callable[[], object] = lambda: None
        self.was_cut = threading.Event()

    @property
    def address(self) -> str:
        """Where clients connect to."""
        return f"{self._host}:{self._server.getsockname()[1]}"

    def recorded(self) -> bytes:
        """Every byte that passed: one connection and direction after the other, each in order."""
        with self._lock:
            return b"\0".join(bytes(stream) for stream in self._recorded)

    def retarget(self, target: str) -> None:
        """New connections go to `target`."""
        self.target = split(target)

    def cut_after(self, count: int, before: Callable[[], object] = lambda: None) -> None:
        """Cut all connections once `count` more bytes have come from clients; the bytes beyond are lost.

        `before` is called in between: the bytes have passed, the connections still stand.
        """
        with self._lock:
            self._left, self._before_cut = count, before
            self.was_cut.clear()

    def cut(self) -> None:
        """Cut all connections now."""
        with self._lock:
            sockets, self._left = list(self._sockets), None
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.was_cut.set()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing alone would leave `accept` blocked.
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()
        for thread in list(self._threads):
            thread.join(10)
        for each in self._sockets:
            each.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            try:
                upstream = socket.create_connection(self.target, timeout=5)
                upstream.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets += [client, upstream]
            self._start(self._pump, client, upstream, True)
            self._start(self._pump, upstream, client, False)

    def _pump(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        record = bytearray()
        with self._lock:
            self._recorded.append(record)
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                passed, cut = self._take(data, from_client, record)
                sink.sendall(passed)
                if cut:
                    try:
                        self._before_cut()
                    finally:
                        self.cut()
                    return
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _take(self, data: bytes, from_client: bool, record: bytearray) -> tuple[bytes, bool]:
        """What may pass, and whether the connections are to be cut then."""
        with self._lock:
            cut = False
            if from_client and self._left is not None:
                cut = len(data) >= self._left
                data = data[: self._left]
                self._left = None if cut else self._left - len(data)
            record += data
            return data, cut

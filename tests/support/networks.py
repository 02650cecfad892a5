"""Networks that work and networks that do not: a proxy, and servers that are not the coordinator. Real sockets, on loopback."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from epgfn import rpc

MAX_HEAD = 1 << 14


class Server:
    """Listens at `address`, a free port of `host`, and hands every connection to `answer`, in a thread. Use as a context manager."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = socket.create_server((host, 0), family=family)
        self.address = f"{f'[{host}]' if ':' in host else host}:{self._server.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.connections = 0

    def answer(self, client: socket.socket) -> None:
        """What this server does with a connection; it is closed afterwards."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in [self._server, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # closing alone would leave `accept` and `recv` blocked
            each.close()
        for thread in self._threads:
            thread.join(10)

    def start(self, work: Callable[..., None], *arguments: object) -> None:
        """Run `work` in a thread of this server."""
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def keep(self, connection: socket.socket) -> socket.socket:
        """`connection`, closed with the server."""
        self._open.append(connection)
        return connection

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            self.start(self._serve, self.keep(client))

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            self.answer(client)


class Silent(Server):
    """Takes connections and never says a word."""

    def answer(self, client: socket.socket) -> None:
        while client.recv(1 << 16):
            pass


class HangingUp(Server):
    """Takes connections, reads the first bytes and closes them."""

    def answer(self, client: socket.socket) -> None:
        client.recv(1 << 16)


class Plaintext(Server):
    """A web server without TLS."""

    def answer(self, client: socket.socket) -> None:
        client.recv(1 << 16)
        client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


class Dropping:
    """An address whose packets are dropped on the way: its queue of connections is full, so that nothing more is answered."""

    def __init__(self) -> None:
        self._server = socket.socket()
        self._server.bind(("127.0.0.1", 0))
        self._server.listen(0)
        self._full: list[socket.socket] = []

    @property
    def address(self) -> str:
        """Where clients try to connect to."""
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Self:
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self._server.getsockname())
            self._full.append(filler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in [*self._full, self._server]:
            each.close()


class TlsServer(Server):
    """Speaks TLS with the certificate given, and HTTP/1.1 unless `protocols` has "h2", in which it says nothing."""

    def __init__(self, certificate: Path, key: Path, protocols: tuple[str, ...] = ("http/1.1",)) -> None:
        super().__init__()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        if protocols:
            self._context.set_alpn_protocols(list(protocols))

    def answer(self, client: socket.socket) -> None:
        with (
            contextlib.suppress(ssl.SSLError),
            self._context.wrap_socket(client, server_side=True) as secured,
        ):
            self.keep(secured)
            while secured.recv(1 << 14):
                if secured.selected_alpn_protocol() != "h2":
                    secured.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                    return


class ConnectProxy(Server):
    """An HTTP proxy that opens tunnels for CONNECT, with a password if `login` ("user:password") is given.

    `answers_with`: it refuses every tunnel with this status line, such as "403 Forbidden". `tunnels` are the addresses asked for.
    `instead_of` maps addresses to where their tunnels really lead.
    """

    def __init__(
        self,
        login: str = "",
        answers_with: str = "",
        host: str = "127.0.0.1",
        instead_of: dict[str, str] | None = None,
    ) -> None:
        super().__init__(host)
        self._login, self._answers_with, self._instead_of = login, answers_with, instead_of or {}
        self.tunnels: list[str] = []
        self.heads: list[str] = []

    def answer(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and len(head) < MAX_HEAD:
            data = client.recv(1 << 12)
            if not data:
                return
            head += data
        lines = head.decode("latin-1").split("\r\n")
        self.heads.append("\n".join(lines))
        method, target, _ = lines[0].split(" ", 2)
        if method != "CONNECT":
            client.sendall(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n")
            return
        self.tunnels.append(target)
        status = self._answers_with or self._wrong_login(lines)
        if status:
            client.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        host, _, port = self._instead_of.get(target, target).rpartition(":")
        try:
            upstream = socket.create_connection((host.strip("[]"), int(port)), timeout=5)
        except OSError:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        upstream.settimeout(None)
        self.keep(upstream)
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self.start(_pump, upstream, client)
        _pump(client, upstream)

    def _wrong_login(self, lines: list[str]) -> str:
        if not self._login:
            return ""
        wanted = "basic " + base64.b64encode(self._login.encode()).decode()
        given = [
            line.partition(":")[2].strip()
            for line in lines
            if line.lower().startswith("proxy-authorization:")
        ]
        right = any(value[:6].lower() + value[6:] == wanted for value in given)
        return "" if right else "407 Proxy Authentication Required"


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def grpc_server(key_pem: bytes, certificate_pem: bytes, ca_pem: bytes | None) -> Iterator[str]:
    """The address of a gRPC server without services, with this certificate; with `ca_pem` it wants one of each client."""
    server = grpc.server(ThreadPoolExecutor(2))
    port = server.add_secure_port("127.0.0.1:0", rpc.server_credentials(key_pem, certificate_pem, ca_pem))
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def closed_address() -> str:
    """An address of loopback at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"

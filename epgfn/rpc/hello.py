"""A TLS hello by hand: what a server at the other end of a connection says of itself before it is trusted."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives import serialization

HTTP2: Final = "h2"
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # and empty settings
_RECORDS: Final = (0x14, 0x15, 0x16)  # how what a TLS server says first may begin
_PIECE: Final = 1 << 14


@dataclass(frozen=True)
class Identity:
    """A client's key and certificate, PEM."""

    key_pem: bytes
    certificate_pem: bytes

    def load_into(self, context: ssl.SSLContext) -> None:
        """Show it in connections of `context`. Python's ssl reads files only: both are in one for a moment, the key encrypted."""
        key = serialization.load_pem_private_key(self.key_pem, password=None)
        password = secrets.token_bytes(32).hex().encode("ascii")
        sealed = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )
        with _file_of(self.certificate_pem + b"\n" + sealed) as path:
            context.load_cert_chain(path, password=password)


@contextlib.contextmanager
def _file_of(data: bytes) -> Iterator[str]:
    """A file with `data` while it is needed: in memory where the system has such files, since there may be no disk to write on."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        with open(os.memfd_create("identity"), "wb", buffering=0) as file:
            file.write(data)
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.NamedTemporaryFile() as named:
        named.write(data)
        named.flush()
        yield named.name


@dataclass(frozen=True)
class Hello:
    """What came of it. `failure` is one of "", "silent", "closed", "plaintext" and "refused" (an alert, or no TLS that we speak).

    `answers`: the server speaks after the handshake, so that it takes our certificate, or needs none.
    """

    failure: str = ""
    version: str = ""
    protocol: str = ""  # by ALPN; empty: none was agreed on
    certificate: bytes = b""  # DER, not verified
    answers: bool = False


def say_hello(connection: socket.socket, host: str, identity: Identity | None, seconds: float) -> Hello:
    """A TLS handshake on `connection`, and the first bytes of HTTP/2, within `seconds`. Nothing that is said is believed.

    Raises:
        OSError: the connection breaks in another way than by being closed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # looked at afterwards, so that what is wrong can be told
    context.set_alpn_protocols([HTTP2, "http/1.1"])
    if identity is not None:
        identity.load_into(context)
    tls = _Tls(connection, context, host, time.monotonic() + seconds)
    try:
        tls.run(tls.session.do_handshake)
    except TimeoutError:
        return Hello("silent")
    except ssl.SSLError:
        if tls.first and tls.first[0] not in _RECORDS:
            return Hello("plaintext")
        return Hello("refused" if tls.first else "closed")
    except ConnectionError:
        return Hello("refused" if tls.first else "closed")
    found = Hello(
        version=tls.session.version() or "",
        protocol=tls.session.selected_alpn_protocol() or "",
        certificate=tls.session.getpeercert(binary_form=True) or b"",
    )
    if found.protocol != HTTP2:
        return found
    try:
        tls.run(lambda: tls.session.write(_PREFACE))
        answer = tls.run(lambda: tls.session.read(_PIECE))
    except TimeoutError:
        return Hello("silent", found.version, found.protocol, found.certificate)
    except (ssl.SSLError, ConnectionError):
        answer = b""
    return Hello("", found.version, found.protocol, found.certificate, bool(answer))


class _Tls:
    """A TLS session over a connection whose bytes we see."""

    def __init__(
        self, connection: socket.socket, context: ssl.SSLContext, host: str, deadline: float
    ) -> None:
        self._connection, self._deadline = connection, deadline
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.first = b""

    def run(self, action: Callable[[], Any]) -> Any:
        """What `action` returns once enough has come and gone.

        Raises:
            TimeoutError: the deadline passed.
            ssl.SSLError: the other side ended it, or does not speak TLS.
        """
        while True:
            try:
                result = action()
            except ssl.SSLWantReadError:
                self._flush()
                self._read()
            except ssl.SSLError:
                self._flush()
                raise
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._connection.settimeout(self._left())
            self._connection.sendall(data)

    def _read(self) -> None:
        self._connection.settimeout(self._left())
        data = self._connection.recv(_PIECE)
        self.first = self.first or data
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

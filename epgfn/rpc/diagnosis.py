"""Why a call came to nothing: resolve, connect, TLS, certificate, authority, answer, each step with a sentence of its own.

Made after a failure and by `epgfn-node doctor`, over connections of its own that ask for nothing and send no data. It goes by what the
sockets and the certificates say, never by words in somebody's error text.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509

from epgfn.base.addresses import Address
from epgfn.base.errors import EpgfnError, UsageError
from epgfn.rpc.certificates import fits, in_words, is_issued, issuer_of, names_of
from epgfn.rpc.hello import HTTP2, Hello, Identity, say_hello
from epgfn.rpc.proxies import Proxy, proxy_for

STEPS: Final = ("proxy", "resolve", "connect", "TLS", "certificate", "authority", "answer")
PATIENCE: Final = 5.0  # seconds for each step
PASSING: Final = (
    "unknown-host",
    "unknown-proxy",
    "port-closed",
    "unreachable",
    "timeout",
    "proxy-dead",
    "proxy-failed",
    "silent",
    "closed",
)
"""Causes that may pass by waiting, as when a coordinator is just being started; all others need somebody to do something."""
MAX_ADDRESSES: Final = 4  # of one name that are tried
_MAX_HEAD: Final = 1 << 14
_ONCE_MORE: Final = 0.5  # seconds before a closed connection is taken for an answer


class NetworkError(EpgfnError):
    """A connection came to nothing. `cause` is a stable word, such as `port-closed`."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause

    @property
    def may_pass(self) -> bool:
        """Whether trying again later can help without anybody doing something."""
        return self.cause in PASSING


@dataclass(frozen=True)
class Target:
    """Whom to reach: the coordinator at `address`, known by its authority `ca_pem`. `for_nodes`, or an `identity`: it is the port for
    enrolled nodes that is meant, otherwise that for enrolling. `direct`: it is on this machine, and no proxy is between."""

    address: Address
    ca_pem: bytes
    identity: Identity | None = None
    for_nodes: bool = False
    direct: bool = False


@dataclass(frozen=True)
class Step:
    """One step of a diagnosis. `passed` is None where it was not reached or not needed."""

    name: str
    passed: bool | None
    said: str


@dataclass(frozen=True)
class Diagnosis:
    """All steps in the order of `STEPS`; `error` is what stops a call, None if nothing does."""

    steps: tuple[Step, ...]
    error: NetworkError | None


def diagnose(target: Target, patience: float = PATIENCE) -> Diagnosis:
    """Go the way of a call to `target`, step by step, until one does not pass. `patience`: seconds for each step."""
    found = _Walk(target, patience)
    error = None
    try:
        found.walk()
    except NetworkError as stopped:
        error = stopped
        found.failed(stopped)
    except UsageError as wrong:
        error = NetworkError("bad-proxy", str(wrong))
        found.failed(error)
    except ValueError:  # a certificate that no parser takes, whose words would not help
        error = NetworkError(
            "stranger",
            f"what answers at {target.address} is not the coordinator of the invitation: its certificate cannot be read; check host "
            "and port with the coordinator's operator",
        )
        found.failed(error)
    return Diagnosis(tuple(found.all_steps()), error)


class _Walk:
    def __init__(self, target: Target, patience: float) -> None:
        self._target, self._patience = target, patience
        self._address = target.address
        self._steps: list[Step] = []
        self._proxy: Proxy | None = None

    def walk(self) -> None:
        """Every step.

        Raises:
            NetworkError: one does not pass.
            UsageError: the proxy is not one.
        """
        self._proxy = None if self._target.direct else proxy_for(self._address)
        self._passed(f"through {self._proxy}" if self._proxy else "none; connected to directly")
        ips = self._resolve(self._proxy.address if self._proxy else self._address)
        self._passed(", ".join(ips))
        started = time.monotonic()
        with self._connected(ips) as connection:
            self._passed(f"in {1000 * (time.monotonic() - started):.0f} ms")
            hello = self._hello(connection, self._target.identity)
        self._require_tls(hello)
        self._passed(f"{hello.version}, HTTP/2")
        certificate = x509.load_der_x509_certificate(hello.certificate)
        self._require_certificate(certificate, is_issued(certificate, self._target.ca_pem))
        self._require_answer(hello, ips)

    def failed(self, error: NetworkError) -> None:
        """The step under way is the one that does not pass."""
        self._steps.append(Step(STEPS[len(self._steps)], False, str(error)))

    def all_steps(self) -> Iterator[Step]:
        """Those that were made, and the names of those that were not."""
        yield from self._steps
        for name in STEPS[len(self._steps) :]:
            yield Step(name, None, "not reached")

    def _passed(self, said: str) -> None:
        self._steps.append(Step(STEPS[len(self._steps)], True, said))

    def _resolve(self, address: Address) -> list[str]:
        """The IP addresses of a host, by the system's resolver, which knows no deadline of its own."""
        answers: list[Any] = []

        def ask() -> None:
            with contextlib.suppress(OSError, UnicodeError):
                answers.extend(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(self._patience)
        ips = list(dict.fromkeys(str(answer[4][0]) for answer in answers))[:MAX_ADDRESSES]
        if ips:
            return ips
        if self._proxy is not None:
            raise NetworkError(
                "unknown-proxy",
                f"the host of {self._proxy} is unknown here, and the coordinator at {self._address} is to be reached through it; "
                f"correct that variable, or name the coordinator's host in no_proxy",
            )
        raise NetworkError(
            "unknown-host",
            f"the host name in {self._address} is unknown here; check its spelling and this machine's name service (DNS), or "
            "ask the coordinator's operator for another name or address",
        )

    @contextlib.contextmanager
    def _connected(self, ips: list[str]) -> Iterator[socket.socket]:
        """A connection to the coordinator, through the proxy where there is one."""
        hop = self._proxy.address if self._proxy else self._address
        failure: OSError | None = None
        connection: socket.socket | None = None
        for ip in ips:
            try:
                connection = socket.create_connection((ip, hop.port), timeout=self._patience)
                break
            except OSError as error:
                # Of several addresses, the one that at least answered says more than a timeout.
                failure = error if failure is None or not isinstance(error, TimeoutError) else failure
        if connection is None:
            raise self._unconnected(failure)
        with connection:
            if self._proxy is not None:
                self._tunnel(connection, self._proxy)
            yield connection

    def _unconnected(self, failure: OSError | None) -> NetworkError:
        why = {
            errno.ECONNREFUSED: "its port is closed",
            errno.ENETUNREACH: "its network cannot be reached from here",
            errno.EHOSTUNREACH: "its host cannot be reached from here",
        }.get(failure.errno or 0 if failure else 0, f"nothing came back within {self._patience:.0f} s")
        if self._proxy is not None:
            return NetworkError(
                "proxy-dead",
                f"{self._proxy} does not answer ({why}), and the coordinator at {self._address} is to be reached through it; "
                f"start or correct the proxy, or name the coordinator's host in no_proxy",
            )
        if failure is not None and failure.errno == errno.ECONNREFUSED:
            return NetworkError(
                "port-closed",
                f"no coordinator answers at {self._address}: the host is there, and the port is closed; check the port and that "
                "epgfn-coordinator serve is running there, then run again",
            )
        if failure is not None and failure.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            return NetworkError(
                "unreachable",
                f"no coordinator answers at {self._address}: {why}; check the address and this machine's network, then run again",
            )
        return NetworkError(
            "timeout",
            f"no coordinator answers at {self._address}: {why}, as when a firewall drops the packets; ask the "
            f"administrators of both networks to let TCP connections to port {self._address.port} through",
        )

    def _tunnel(self, connection: socket.socket, proxy: Proxy) -> None:
        """Have the proxy open a tunnel to the coordinator."""
        lines = [f"CONNECT {self._address} HTTP/1.1", f"Host: {self._address}"]
        if proxy.login:
            lines.append(
                "Proxy-Authorization: Basic " + base64.b64encode(proxy.login.encode("utf-8")).decode("ascii")
            )
        head = b""
        deadline = time.monotonic() + self._patience
        try:
            connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            while b"\r\n\r\n" not in head and len(head) < _MAX_HEAD:
                connection.settimeout(max(deadline - time.monotonic(), 0.01))
                # One byte at a time: what follows the head belongs to TLS.
                piece = connection.recv(1)
                if not piece:
                    break
                head += piece
        except OSError:
            pass
        words = head.split(b"\r\n")[0].decode("ascii", "replace").split(" ", 2)
        status = (
            int(words[1]) if len(words) > 1 and words[0].startswith("HTTP/") and words[1].isdigit() else 0
        )
        if status // 100 == 2:
            return
        if status == 407:
            wants = (
                "does not accept the user and password that it was given"
                if proxy.login
                else "wants a user and a password"
            )
            raise NetworkError(
                "proxy-refuses",
                f"{proxy} {wants} (407) for the coordinator at {self._address}; set {proxy.variable} to "
                "http://user:password@host:port",
            )
        if status == 403:
            raise NetworkError(
                "proxy-refuses",
                f"{proxy} does not let this machine connect to {self._address} (403); ask its administrators to allow CONNECT "
                f"to port {self._address.port} there, or the coordinator's operator for a port that is allowed, such as 443",
            )
        if status in (502, 503, 504):
            raise NetworkError(
                "proxy-failed",
                f"{proxy} cannot reach the coordinator at {self._address} ({status}); check that address and that "
                "epgfn-coordinator serve is running there, then ask the proxy's administrators",
            )
        if status:
            raise NetworkError(
                "proxy-refuses",
                f"{proxy} opens no tunnel to the coordinator at {self._address} (it answers {status}); ask its administrators to "
                "allow CONNECT there",
            )
        raise NetworkError(
            "proxy-dead",
            f"what answers at {proxy} is no HTTP proxy, or hangs up; correct that variable, or name the host of the coordinator "
            f"at {self._address} in no_proxy",
        )

    def _hello(self, connection: socket.socket, identity: Identity | None) -> Hello:
        try:
            return say_hello(connection, self._address.host, identity, self._patience)
        except OSError:
            return Hello("closed")

    def _again(self, ips: list[str], identity: Identity | None) -> Hello:
        """Another hello on a connection of its own."""
        with self._connected(ips) as connection:
            return self._hello(connection, identity)

    def _require_tls(self, hello: Hello) -> None:
        at = self._address
        if hello.failure == "silent":
            raise NetworkError(
                "silent",
                f"what takes connections at {at} does not answer within {self._patience:.0f} s; check that it is the coordinator's "
                "address and ask its operator whether it hangs",
            )
        if hello.failure == "plaintext":
            raise NetworkError(
                "plaintext",
                f"what answers at {at} speaks no TLS, so it is not the coordinator's port; check host and port with the "
                "coordinator's operator",
            )
        if hello.failure == "closed":
            raise NetworkError(
                "closed",
                f"what takes connections at {at} hangs up as soon as TLS begins, as a coordinator that is just stopping, "
                "another program or a firewall does; run again, and if it stays so ask the administrators of both networks",
            )
        if hello.failure:
            raise NetworkError(
                "no-tls",
                f"what answers at {at} and this node find no TLS that both speak, so it is not the coordinator, or something "
                "stands in between; check host and port with the coordinator's operator",
            )
        if hello.protocol != HTTP2:
            raise NetworkError(
                "no-http2",
                f"no: what answers at {at} does not speak HTTP/2, and epgfn needs it; {self._in_between(hello)}",
            )

    def _in_between(self, hello: Hello) -> str:
        certificate = x509.load_der_x509_certificate(hello.certificate)
        if is_issued(certificate, self._target.ca_pem):
            return "the coordinator's operator has something before it that turns HTTP/2 off; ask for another address"
        return (
            f"its certificate is from {issuer_of(certificate)} and not from the coordinator's authority, so it is another server, or "
            f"the network opens TLS to look into it; ask its administrators to let {self._address} pass unopened"
        )

    def _require_certificate(self, certificate: x509.Certificate, is_issued: bool) -> None:
        """Certificate and authority. A stranger's is told as a stranger's, whatever else is wrong with it."""
        at, now = self._address, datetime.now(UTC)
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        names = names_of(certificate)
        said = f"for {', '.join(names)}; good from {in_words(begins)} to {in_words(ends)}, this machine's clock says {in_words(now)}"
        if not is_issued:
            self._passed(said)
            raise NetworkError(
                "stranger",
                f"what answers at {at} is not the coordinator of the invitation: its certificate is from {issuer_of(certificate)} "
                "and not from the authority that this node trusts; check that address and invitation belong together, and ask this "
                f"network's administrators whether they open TLS, which {at} must be exempt from",
            )
        if now < begins:
            raise NetworkError(
                "not-yet",
                f"the certificate of the coordinator at {at} begins {in_words(begins)} by the coordinator's clock, and this machine's "
                f"clock says {in_words(now)}; set the clock that is wrong",
            )
        if now > ends:
            raise NetworkError(
                "expired",
                f"the certificate of the coordinator at {at} ended {in_words(ends)}, and this machine's clock says {in_words(now)}; "
                "set this clock if it is wrong, otherwise ask the coordinator's operator",
            )
        if not fits(at.host, certificate):
            raise NetworkError(
                "wrong-name",
                f"the certificate of the coordinator at {at} is not for the name {at.host}, but for {', '.join(names)}; use one of these "
                "(address and enroll_address in node.toml), or ask the coordinator's operator to have this name in it (--tls-name)",
            )
        self._passed(said)
        self._passed("the one that this node trusts")

    def _require_answer(self, hello: Hello, ips: list[str]) -> None:
        at, identity = self._address, self._target.identity
        if hello.failure:
            self._require_tls(hello)
        if not hello.answers:
            # A coordinator that is stopping hangs up as well, so once more.
            time.sleep(_ONCE_MORE)
            hello = self._again(ips, identity)
            self._require_tls(hello)
        if identity is None and self._target.for_nodes:
            if hello.answers:
                raise self._for_enrolling()
            self._passed("it wants a certificate, which this node gets by enrolling")
            return
        if not hello.answers and identity is None:
            raise NetworkError(
                "wrong-port",
                f"at {at} is the coordinator's port for nodes that have a certificate, and not the one for enrolling; correct "
                "enroll_address, or ask the coordinator's operator for a new invitation",
            )
        if not hello.answers and identity is not None:
            own = x509.load_pem_x509_certificate(identity.certificate_pem)
            raise NetworkError(
                "certificate-refused",
                f"the coordinator at {at} does not accept this node's certificate, good from {in_words(own.not_valid_before_utc)} to "
                f"{in_words(own.not_valid_after_utc)} (this machine's clock says {in_words(datetime.now(UTC))}); "
                "have its operator check the coordinator's clock, and if both are right enrol a new home",
            )
        if identity is not None and self._again(ips, None).answers:
            raise self._for_enrolling()
        self._passed("HTTP/2, and it takes this node's certificate" if identity else "HTTP/2")

    def _for_enrolling(self) -> NetworkError:
        return NetworkError(
            "wrong-port",
            f"at {self._address} is the coordinator's port for enrolling, and not the one for nodes that have a certificate; correct "
            "address in node.toml, or ask the coordinator's operator for the right one",
        )

"""The two gRPC servers: one with mutual TLS for everything, one without client certificates for enrolment only."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from epgfn import rpc
from epgfn.base.addresses import parse_listening
from epgfn.base.errors import EpgfnError
from epgfn.base.files import read_bytes
from epgfn.base.passphrase import key_passphrase
from epgfn.sealing.keys import SigningKey
from epgfn.v1 import (
    artifact_pb2,
    artifact_pb2_grpc,
    certificate_pb2,
    certificate_pb2_grpc,
    enrollment_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
    result_pb2,
    result_pb2_grpc,
    study_pb2,
    study_pb2_grpc,
    sum_pb2,
    sum_pb2_grpc,
)
from epgfn_coordinator.descriptors import connections, raise_limit
from epgfn_coordinator.gate import Gate
from epgfn_coordinator.guests import Bounds
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.keys import TLS_CERTIFICATE, TLS_KEY
from epgfn_coordinator.listening import Inner, listen
from epgfn_coordinator.services.by_round import (
    ArtifactByRound,
    LedgerByRound,
    ResultByRound,
    StudyByRound,
    SumByRound,
)
from epgfn_coordinator.services.certificate import CertificateServicer
from epgfn_coordinator.services.enrollment import Enrollment

# An upload holds a thread for as long as it takes, a call that says nothing too; no node can have as many of them as there are threads.
THREADS = 128  # and one for each node, up to as many again
ENROLLMENT_THREADS = 16
# Enrolling takes a moment and is open to everybody: whoever only holds a connection loses it, and the threads with it.
ENROLLMENT_CONNECTION = 10.0  # seconds, and as many again for calls under way
ENROLLMENT_SHARE = 4  # one in so many connections
HANDSHAKE = 10.0  # seconds
UNUSED = 60.0  # seconds that a connection may be without a call
CALLS = 16  # at once on one connection
MAX_WAITING = 64
GRACE = 5.0  # seconds that calls under way get at the end

SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (study_pb2, "StudyService"),
        (artifact_pb2, "ArtifactService"),
        (result_pb2, "ResultService"),
        (ledger_pb2, "LedgerService"),
        (certificate_pb2, "CertificateService"),
        (sum_pb2, "SumService"),
    )
)


@dataclass(frozen=True)
class Servicers:
    """The services of the port with mutual TLS."""

    study: StudyByRound
    artifact: ArtifactByRound
    result: ResultByRound
    ledger: LedgerByRound
    certificate: CertificateServicer
    sum: SumByRound


class _Shown:
    """What the servers show: certificates are read anew once their files have changed."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._key = SigningKey.load(home.key(TLS_KEY), key_passphrase(home.key(TLS_KEY))).private_pem()
        self._of: tuple[float, ...] = ()
        self._read: tuple[bytes, bytes] = (b"", b"")

    def _now(self) -> tuple[bytes, bytes]:
        """The server's certificate and the authority's."""
        paths = (self._home.key(TLS_CERTIFICATE), self._home.ca)
        try:
            of = tuple(path.stat().st_mtime_ns for path in paths)
            if of != self._of:
                self._read = (read_bytes(paths[0], "certificate"), read_bytes(paths[1], "certificate"))
                self._of = of
        except (OSError, EpgfnError):
            if not self._of:
                raise
            # Being replaced, or no descriptor is left: what was shown before is shown again.
        return self._read

    def to_nodes(self) -> tuple[bytes, bytes, bytes | None]:
        certificate, ca = self._now()
        return self._key, certificate, ca

    def to_strangers(self) -> tuple[bytes, bytes, bytes | None]:
        return self._key, self._now()[0], None


class Listener:
    """Both servers, bound on creation and serving from `start` to `stop`."""

    def __init__(self, home: Home, config: Config, nodes: int) -> None:
        """Bind the two addresses of `config` for a roster of `nodes`.

        Raises:
            EpgfnError: a port is in use or an address is not ours.
        """
        shown = _Shown(home)
        most = connections(raise_limit())
        few = max(1, most // ENROLLMENT_SHARE)
        self._main = _server(THREADS + min(nodes, THREADS), most)
        age = int(ENROLLMENT_CONNECTION * 1000)
        self._enrollment = _server(
            ENROLLMENT_THREADS,
            few,
            ("grpc.max_connection_age_ms", age),
            ("grpc.max_connection_age_grace_ms", age),
        )
        self._health = health.HealthServicer()
        self._inner = Inner(home.shared)
        sockets, self.address = _bind(config.address, config.effective_address)
        self._gates = [
            Gate(
                "main",
                sockets,
                _behind(
                    self._main,
                    rpc.changing_server_credentials(shown.to_nodes, with_clients=True),
                    self._inner,
                    "main",
                ),
                Bounds.of(most - few),
            )
        ]
        sockets, self.enroll_address = _bind(config.enroll_address, config.effective_enroll_address)
        credentials = rpc.changing_server_credentials(shown.to_strangers, with_clients=False)
        self._gates.append(
            Gate(
                "enrolment",
                sockets,
                _behind(self._enrollment, credentials, self._inner, "enrollment"),
                Bounds.of(few),
            )
        )

    def recognise(self, peer: str, node_id: str) -> None:
        """A call has come from this node; `peer` is what gRPC calls the other end of its connection."""
        self._gates[0].recognise(peer, node_id)

    def start(self, desks: Servicers, enrollment: Enrollment) -> None:
        """Answer calls from now on."""
        study_pb2_grpc.add_StudyServiceServicer_to_server(desks.study, self._main)  # type: ignore[no-untyped-call]
        artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(desks.artifact, self._main)  # type: ignore[no-untyped-call]
        result_pb2_grpc.add_ResultServiceServicer_to_server(desks.result, self._main)  # type: ignore[no-untyped-call]
        ledger_pb2_grpc.add_LedgerServiceServicer_to_server(desks.ledger, self._main)  # type: ignore[no-untyped-call]
        certificate_pb2_grpc.add_CertificateServiceServicer_to_server(desks.certificate, self._main)  # type: ignore[no-untyped-call]
        sum_pb2_grpc.add_SumServiceServicer_to_server(desks.sum, self._main)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._main)
        enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(enrollment, self._enrollment)  # type: ignore[no-untyped-call]
        self._main.start()
        self._enrollment.start()
        for gate in self._gates:
            gate.start()
        for name in ("", *SERVICES):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Let calls under way end, then close both ports."""
        self._health.enter_graceful_shutdown()
        for gate in self._gates:
            gate.stop_accepting()
        for ended in [server.stop(GRACE) for server in (self._main, self._enrollment)]:
            ended.wait()
        for gate in self._gates:
            gate.close()
        self._inner.close()


def _server(threads: int, connections: int, *options: tuple[str, int]) -> grpc.Server:
    # Calls that find no thread wait, but not endlessly many: the rest are told to come back.
    bounds = [
        ("grpc.server_handshake_timeout_ms", int(HANDSHAKE * 1000)),
        ("grpc.max_connection_idle_ms", int(UNUSED * 1000)),
        ("grpc.max_concurrent_streams", CALLS),
        ("grpc.max_allowed_incoming_connections", connections),  # should something pass the gate by
    ]
    return grpc.server(
        ThreadPoolExecutor(threads),
        options=[*rpc.SERVER_OPTIONS, *bounds, *options],
        maximum_concurrent_rpcs=threads + MAX_WAITING,
    )


def _bind(address: str, last: str) -> tuple[list[socket.socket], str]:
    """Listen on `address`; where its port is 0, on the port of last time if it is free, so that nodes find us again."""
    wanted = parse_listening(address)
    if wanted.port == 0 and last:
        try:
            sockets, bound = listen(replace(wanted, port=parse_listening(last).port))
            return sockets, str(bound)
        except EpgfnError:
            pass  # somebody else has that port now
    sockets, bound = listen(wanted)
    return sockets, str(bound)


def _behind(server: grpc.Server, credentials: grpc.ServerCredentials, inner: Inner, name: str) -> str:
    """Have `server` listen behind a gate; the path of its socket."""
    path = inner.path(name)
    try:
        bound = server.add_secure_port(f"unix:{path}", credentials)
    except RuntimeError:
        bound = 0
    if bound:
        return path
    if inner.move():
        return _behind(server, credentials, inner, name)
    raise EpgfnError(
        f"cannot listen on {path}, a socket of this machine alone; check its permissions and room"
    )

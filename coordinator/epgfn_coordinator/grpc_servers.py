"""The two gRPC servers: one with mutual TLS for everything, one without client certificates for enrolment only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from epgfn import rpc
from epgfn.base.addresses import Address, parse_listening
from epgfn.base.errors import EpgfnError
from epgfn.base.files import read_bytes
from epgfn.base.passphrase import key_passphrase
from epgfn.sealing.keys import SigningKey
from epgfn.v1 import (
    artifact_pb2,
    artifact_pb2_grpc,
    enrollment_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
    result_pb2,
    result_pb2_grpc,
    study_pb2,
    study_pb2_grpc,
)
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.keys import TLS_CERTIFICATE, TLS_KEY
from epgfn_coordinator.services.artifact import ArtifactServicer
from epgfn_coordinator.services.enrollment import Enrollment
from epgfn_coordinator.services.ledger import LedgerServicer
from epgfn_coordinator.services.result import ResultServicer
from epgfn_coordinator.services.study import StudyServicer

ENROLLMENT_THREADS = 16
# Enrolling takes a moment and is open to everybody: whoever only holds a connection loses it, and the threads with it.
ENROLLMENT_CONNECTION = 10.0  # seconds, and as many again for calls under way
MAX_WAITING = 64
GRACE = 5.0  # seconds that calls under way get at the end

SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (study_pb2, "StudyService"),
        (artifact_pb2, "ArtifactService"),
        (result_pb2, "ResultService"),
        (ledger_pb2, "LedgerService"),
    )
)


@dataclass(frozen=True)
class Servicers:
    """The services of the port with mutual TLS."""

    study: StudyServicer
    artifact: ArtifactServicer
    result: ResultServicer
    ledger: LedgerServicer


class Listener:
    """Both servers, bound on creation and serving from `start` to `stop`."""

    def __init__(self, home: Home, config: Config, nodes: int) -> None:
        """Bind the two addresses of `config` for a roster of `nodes`.

        Raises:
            EpgfnError: a port is in use or an address is not ours.
        """
        key = SigningKey.load(home.key(TLS_KEY), key_passphrase()).private_pem()
        certificate = read_bytes(home.key(TLS_CERTIFICATE), "certificate")
        ca = read_bytes(home.ca, "certificate")
        # An upload holds a thread for as long as it takes; what is left answers short calls.
        self._main = _server(min(8 + nodes, 64))
        age = int(ENROLLMENT_CONNECTION * 1000)
        self._enrollment = _server(
            ENROLLMENT_THREADS,
            ("grpc.max_connection_age_ms", age),
            ("grpc.max_connection_age_grace_ms", age),
        )
        self._health = health.HealthServicer()
        self.address = _bind(
            self._main, rpc.server_credentials(key, certificate, ca), config.address, config.effective_address
        )
        self.enroll_address = _bind(
            self._enrollment,
            rpc.server_credentials(key, certificate, None),
            config.enroll_address,
            config.effective_enroll_address,
        )

    def start(self, desks: Servicers, enrollment: Enrollment) -> None:
        """Answer calls from now on."""
        study_pb2_grpc.add_StudyServiceServicer_to_server(desks.study, self._main)  # type: ignore[no-untyped-call]
        artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(desks.artifact, self._main)  # type: ignore[no-untyped-call]
        result_pb2_grpc.add_ResultServiceServicer_to_server(desks.result, self._main)  # type: ignore[no-untyped-call]
        ledger_pb2_grpc.add_LedgerServiceServicer_to_server(desks.ledger, self._main)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._main)
        enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(enrollment, self._enrollment)  # type: ignore[no-untyped-call]
        self._main.start()
        self._enrollment.start()
        for name in ("", *SERVICES):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def stop(self) -> None:
        """Let calls under way end, then close both ports."""
        self._health.enter_graceful_shutdown()
        for ended in [server.stop(GRACE) for server in (self._main, self._enrollment)]:
            ended.wait()


def _server(threads: int, *options: tuple[str, int]) -> grpc.Server:
    # Calls that find no thread wait, but not endlessly many: the rest are told to come back.
    return grpc.server(
        ThreadPoolExecutor(threads),
        options=[*rpc.SERVER_OPTIONS, *options],
        maximum_concurrent_rpcs=threads + MAX_WAITING,
    )


def _bind(server: grpc.Server, credentials: grpc.ServerCredentials, address: str, last: str) -> str:
    """Listen on `address`; where its port is 0, on the port of last time if it is free, so that nodes find us again."""
    wanted = parse_listening(address)
    if wanted.port == 0 and last:
        try:
            return _listen(server, credentials, replace(wanted, port=parse_listening(last).port))
        except EpgfnError:
            pass  # somebody else has that port now
    return _listen(server, credentials, wanted)


def _listen(server: grpc.Server, credentials: grpc.ServerCredentials, address: Address) -> str:
    everywhere = replace(address, host=address.host or "::")  # no host: all addresses, of both kinds
    try:
        bound = server.add_secure_port(str(everywhere), credentials)
    except RuntimeError:
        bound = 0
    if not bound:
        raise EpgfnError(
            f"cannot listen on {address}: the port is in use or the address is not this machine's; "
            "stop the other program, or set another address in coordinator.toml"
        )
    return str(replace(address, port=bound))

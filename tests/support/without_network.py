"""A round of a coordinator in this process, its handlers called as gRPC calls them but without a network; and its sudden death.

What makes a machine of thousands of calls cheap enough: no ports, no TLS, no threads of gRPC.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2

from coordinator_client import Events, FakeNode
from epgfn import rpc
from epgfn.base import failpoints
from epgfn.base.errors import RefusedError
from epgfn.sealing.pki import make_csr
from epgfn.study import Study
from epgfn.v1 import enrollment_pb2
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.initialise import initialise
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.live_round import LiveRound, Shared
from epgfn_coordinator.people import revoked_in
from epgfn_coordinator.services.enrollment import Enrolling, Enrollment

Answer = TypeVar("Answer")
NOWHERE = Config("127.0.0.1:50001", "127.0.0.1:50002")
"""Where nobody listens."""


class Killed(BaseException):
    """The process is gone, at a step at which it changes something on disk; no handler catches that."""


class Context:
    """What gRPC tells a handler of a call with this client certificate, and what a handler tells gRPC."""

    def __init__(self, certificate: bytes) -> None:
        self._certificate = certificate

    def auth_context(self) -> dict[str, list[bytes]]:
        """Of the TLS connection."""
        return {"x509_pem_cert": [self._certificate]} if self._certificate else {}

    def peer(self) -> str:
        """The other end of the connection."""
        return "ipv4:127.0.0.1:1"

    def is_active(self) -> bool:
        """Whether somebody waits for the answer."""
        return True

    def cancel(self) -> None:
        """Another stream has taken the place of this one."""

    def abort_with_status(self, status: Any) -> NoReturn:
        """The call ends with the reason that a client would read."""
        said = status_pb2.Status.FromString(dict(status.trailing_metadata)["grpc-status-details-bin"])
        info = error_details_pb2.ErrorInfo()
        said.details[0].Unpack(info)
        raise RefusedError(info.reason, said.message)


class LocalCoordinator:
    """`live` is the round as it is served now; `reopened` says how often it was opened."""

    def __init__(self, home: Home, study: Study) -> None:
        self.home, self.study = home, study
        initialise(home, study, NOWHERE)
        self.reopened = 0
        self._open()

    def _open(self) -> None:
        journal = Journal(Events())
        shared = Shared.of(self.home)
        shared.calls.revoked = lambda fingerprint: revoked_in([self.live.member], fingerprint)
        self.live = LiveRound(self.home, journal, shared)
        self.live.begin()
        self.desk = self.live.desk()
        self.enrollment = Enrollment(
            lambda: [Enrolling(self.live.member, self.live.log)],
            shared.keys.authority,
            journal,
            NOWHERE.address,
            lambda: None,
        )
        self.reopened += 1

    def close(self) -> None:
        """No process serves it."""
        self.live.close()

    def restart(self) -> None:
        """A new process finds what the last one left on disk."""
        self.close()
        self._open()

    def killed_at(self, step: int, work: Callable[[], Answer]) -> Answer | None:
        """Do `work`, but die at the `step`th step from now at which something changes on disk, and start again; what it returned, or
        None, as nobody is answered then."""
        try:
            with dying_at(step):
                return work()
        except Killed:
            self.restart()
            return None


@contextmanager
def dying_at(step: int) -> Iterator[None]:
    """`Killed` at that step, and at any after it: the dead do nothing."""
    left, lock = step, threading.Lock()

    def reached(_: str) -> None:
        nonlocal left
        with lock:
            left -= 1
            if left <= 0:
                raise Killed

    failpoints._reached = reached
    try:
        yield
    finally:
        failpoints._reached = None


@dataclass
class LocalNode(FakeNode):
    """A node that calls the handlers themselves."""

    coordinator: LocalCoordinator | None = None

    @classmethod
    def at(cls, coordinator: LocalCoordinator, node_id: str) -> LocalNode:
        """An invited one."""
        node = cls.invited(coordinator.home, node_id)
        assert isinstance(node, LocalNode)
        node.coordinator = coordinator
        return node

    def enroll(self, token: str | None = None) -> bytes:
        """As `FakeNode.enroll`."""
        assert self.coordinator is not None
        csr = make_csr(self.tls, self.node_id)
        request = enrollment_pb2.EnrollRequest(
            token=self.invitation["token"] if token is None else token,
            csr_pem=csr,
            signing_key_pem=self.signing.public.pem,
            signing_key_proof=self.signing.sign(rpc.ENROLLMENT_LABEL + csr),
        )
        answer = self.coordinator.enrollment.Enroll(request, _as_grpc(Context(b"")))
        self.certificate = bytes(answer.certificate_pem)
        return self.certificate

    def _call(self, stub: Any, method: str, request: Any) -> Any:
        assert self.coordinator is not None
        desk = self.coordinator.desk
        servicers = {
            "StudyServiceStub": desk.study,
            "ArtifactServiceStub": desk.artifact,
            "LedgerServiceStub": desk.ledger,
            "ResultServiceStub": desk.result,
        }
        handler = getattr(servicers[stub.__name__], method)
        return handler(request, _as_grpc(Context(self.certificate)))


def _as_grpc(context: Context) -> grpc.ServicerContext:
    made: Any = context
    return made

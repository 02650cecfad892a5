"""The node's end of the wire: one TLS channel, deadlines on every call, patience only where repeating is harmless.

Every call of the contract is idempotent (see proto/), so each may be made again after a lost connection.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, Self

import grpc

from epgfn.base.console import Reporter
from epgfn.base.errors import EpgfnError, RefusedError, one_line
from epgfn.rpc import UNARY_DEADLINE, as_error, channel_credentials, is_transient, open_channel
from epgfn.rpc.diagnosis import NetworkError, Target, diagnose
from epgfn.v1 import (
    artifact_pb2_grpc,
    certificate_pb2_grpc,
    enrollment_pb2_grpc,
    ledger_pb2_grpc,
    result_pb2_grpc,
    study_pb2_grpc,
    sum_pb2_grpc,
)

QUICK_PATIENCE: Final = 2.0  # seconds of trying again when nobody asked to wait
STALL: Final = 60.0  # seconds without a byte before a stream is given up and resumed
LEAST: Final = 16 << 10
"""Bytes in `STALL` seconds that count as getting on: whoever sends a byte a minute keeps nobody for ever."""
MAX_PAUSE: Final = 5.0
REPORT_EVERY: Final = 5.0
LOOK_AGAIN: Final = 10.0
MAX_SENTENCE: Final = 500
# A piece was damaged, or one of a connection that broke arrived late: beginning again tells where to go on.
RESUMABLE: Final = ("bad-crc", "bad-offset")
UNCERTAIN: Final = ("internal", "no-space", "too-many-calls")
"""Refusals that say nothing about what was asked: the coordinator may have failed after it did it, or not have looked at a repetition."""

_OPTIONS: Final = [
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


class Stalled(EpgfnError):
    """A stream made no progress and was given up; what had arrived is kept."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the coordinator at {address} accepted no data for {STALL:.0f} s; run again to go on from there"
        )


class NotOffered(EpgfnError):
    """The coordinator is of an earlier version and does not know the call."""


class Coordinator:
    """A channel to the coordinator that `target` names; with an identity both ends show their certificates. Use as a context manager.

    `patience` is how many seconds a call is tried again while nobody answers; progress goes to `report`. `round_id`: which of the
    coordinator's rounds the calls are about; empty: its first.
    """

    def __init__(self, target: Target, report: Reporter, patience: float = 0.0, round_id: str = "") -> None:
        self.round_id = round_id
        self.target, self.address, self._report = target, str(target.address), report
        self.patience = max(patience, QUICK_PATIENCE)
        self._known: NetworkError | None = None
        self._known_since = 0.0
        own = target.identity
        credentials = channel_credentials(
            target.ca_pem, own.key_pem if own else None, own.certificate_pem if own else None
        )
        self._channel = open_channel(target.address, credentials, _OPTIONS)
        self.enrollment = _stub(enrollment_pb2_grpc.EnrollmentServiceStub, self._channel)
        self.study = _stub(study_pb2_grpc.StudyServiceStub, self._channel)
        self.artifact = _stub(artifact_pb2_grpc.ArtifactServiceStub, self._channel)
        self.ledger = _stub(ledger_pb2_grpc.LedgerServiceStub, self._channel)
        self.certificate = _stub(certificate_pb2_grpc.CertificateServiceStub, self._channel)
        self.sum = _stub(sum_pb2_grpc.SumServiceStub, self._channel)
        self.result = _stub(result_pb2_grpc.ResultServiceStub, self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the channel back."""
        self._channel.close()

    def call(self, method: Callable[..., Any], request: Any) -> Any:
        """The answer to an idempotent unary call.

        Raises:
            RefusedError: the coordinator said no; `reason` and sentence are its own.
            NotOffered: it does not know this call.
            EpgfnError: nobody answered within the patience, or the call failed.
        """
        self.about(request)
        return self.persist(lambda: method(request, timeout=UNARY_DEADLINE))

    def about(self, request: Any) -> Any:
        """The request, which names the round it is about, if requests of its kind do."""
        if self.round_id and "round_id" in request.DESCRIPTOR.fields_by_name:
            request.round_id = self.round_id
        return request

    def persist(self, attempt: Callable[[], Any], progress: Callable[[], Any] = lambda: None) -> Any:
        """Run `attempt` until it succeeds, fails for good, or patience runs out.

        The clock starts again whenever what `progress` returns has changed: a long upload over a bad line is fine as
        long as it gets on.

        Raises:
            RefusedError, EpgfnError: as for `call`.
        """
        waiting = _Waiting(self, progress)
        while True:
            try:
                return attempt()
            except grpc.RpcError as error:
                failure = self._failure(error)
                if not _worth_repeating(error, failure):
                    raise failure from None
            except Stalled as stalled:
                failure = stalled
            if not waiting.pause():
                raise failure from None

    def _failure(self, error: grpc.RpcError) -> EpgfnError:
        call: Any = error
        if call.code() == grpc.StatusCode.CANCELLED:
            return EpgfnError(
                f"the coordinator at {self.address} stopped in the middle of a transfer; run again to go on from there"
            )
        if call.code() == grpc.StatusCode.UNIMPLEMENTED:
            return self._why() or NotOffered(  # so answers the port for enrolling, too
                f"the coordinator at {self.address} is of an earlier version, which does not do that; ask its operator for a newer one"
            )
        failure = as_error(error, self.address)
        if isinstance(failure, RefusedError):
            # Words from the network: nothing in them may steer a terminal.
            return type(failure)(plain(failure.reason), plain(str(failure)))
        return self._why() or failure

    def _why(self) -> NetworkError | None:
        """What keeps this node from reaching the coordinator, if anything does; looked at again every `LOOK_AGAIN` seconds."""
        if self._known is None or time.monotonic() - self._known_since > LOOK_AGAIN:
            self._known, self._known_since = diagnose(self.target).error, time.monotonic()
        return self._known

    def tell_waiting(self, seconds: float, tries: int) -> None:
        """Say that nobody answers yet."""
        tried = f"{tries} {'try' if tries == 1 else 'tries'}"
        said = f"waiting for a connection to {self.address} ({tried}), trying for {seconds:.0f} s more"
        self._report.event("connecting", said, tries=tries)


class _Waiting:
    """How long one operation has been tried without getting on."""

    def __init__(self, coordinator: Coordinator, progress: Callable[[], Any]) -> None:
        self._coordinator, self._progress = coordinator, progress
        self._mark, self._told, self._tries = progress(), 0.0, 0
        self._since: float | None = None

    def pause(self) -> bool:
        """Sleep a little before the next attempt; False if there is to be none."""
        now, mark = time.monotonic(), self._progress()
        if mark != self._mark or self._since is None:
            # Patience begins with the first failure: what went before may have been an hour of good transfer.
            self._mark, self._since, self._tries = mark, now, 0
        left = self._since + self._coordinator.patience - now
        if left <= 0:
            return False
        self._tries += 1
        if self._coordinator.patience > QUICK_PATIENCE and now - self._told > REPORT_EVERY:
            self._told = now
            self._coordinator.tell_waiting(left, self._tries)
        time.sleep(min(0.25 * 2 ** min(self._tries, 6), MAX_PAUSE, left))
        return True


def _stub(kind: Any, channel: grpc.Channel) -> Any:
    """A generated stub; generated code has no types."""
    return kind(channel)


def _worth_repeating(error: grpc.RpcError, failure: EpgfnError) -> bool:
    call: Any = error
    if isinstance(failure, RefusedError):
        return failure.reason in RESUMABLE
    if isinstance(failure, NetworkError) and not failure.may_pass:
        return False
    return is_transient(error) or call.code() == grpc.StatusCode.CANCELLED


def plain(text: str) -> str:
    """`one_line`, cut to a length for people."""
    return one_line(text)[:MAX_SENTENCE]


@contextlib.contextmanager
def stall_guard(call: Any, seconds: float | None = None) -> Iterator[Callable[[], None]]:
    """Cancel the streaming `call` if the function this yields is not called every `seconds`; call it for each `LEAST` bytes."""
    fed, done = threading.Event(), threading.Event()
    most = STALL if seconds is None else seconds

    def watch() -> None:
        while not done.is_set():
            if not fed.wait(most):
                call.cancel()
                return
            fed.clear()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield fed.set
    finally:
        done.set()
        fed.set()
        watcher.join()

"""ArtifactService: takes sealed models, in pieces, and answers with a receipt."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from typing import Any, Final

import grpc

from epgfn.base.errors import EpgfnError
from epgfn.v1 import artifact_pb2, artifact_pb2_grpc
from epgfn_coordinator.counting import RECEIVED
from epgfn_coordinator.identity import Caller, Identity
from epgfn_coordinator.intake import Intake, Piece
from epgfn_coordinator.services.calls import CallError, guarded
from epgfn_coordinator.streams import StreamWatch
from epgfn_coordinator.withdrawal import Withdrawal

RUN: Final = 1 << 20  # bytes of a stream that are kept together
MOST_PIECES: Final = 64  # and in how many pieces they may come
RUN_SECONDS: Final = 1.0  # and in what time, where a line is slow


class ArtifactServicer(artifact_pb2_grpc.ArtifactServiceServicer):
    """Translates between messages, `Intake` and `Withdrawal`."""

    def __init__(
        self, identity: Identity, intake: Intake, withdrawal: Withdrawal, watch: StreamWatch
    ) -> None:
        self._identity, self._intake, self._withdrawal, self._watch = identity, intake, withdrawal, watch

    @guarded
    def Begin(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See artifact.proto."""
        caller = self._identity.caller(context)
        standing = self._intake.begin(caller, request.bundle)
        return artifact_pb2.BeginResponse(
            upload_id=standing.upload_id, offset=standing.offset, accepted=standing.accepted
        )

    @guarded
    def Upload(self, pieces: Iterable[Any], context: grpc.ServicerContext) -> Any:
        """See artifact.proto."""
        caller = self._identity.caller(context)
        run = _Run(self._intake, caller)
        with self._watch.of(context, f"upload {caller.node_id}") as progress:
            try:
                for piece in pieces:
                    data = piece.data
                    run.take(piece.upload_id, piece.offset, data, piece.crc32)
                    if data:  # an empty piece moves nothing
                        progress()
            except Exception:
                with contextlib.suppress(EpgfnError):  # whatever ended it, what has arrived has arrived
                    run.keep()
                raise
            run.keep()
        if (offset := run.kept) is None:
            raise CallError(
                grpc.StatusCode.INVALID_ARGUMENT,
                "empty-upload",
                "the upload held no piece; send at least one",
            )
        return artifact_pb2.UploadResponse(offset=offset)

    @guarded
    def Status(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See artifact.proto."""
        standing = self._intake.standing(self._identity.caller(context), request.upload_id)
        return artifact_pb2.StatusResponse(
            offset=standing.offset, accepted=standing.accepted, checking=standing.checking
        )

    @guarded
    def Commit(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See artifact.proto."""
        caller = self._identity.caller(context)
        receipt, entry = self._intake.commit(caller, request.upload_id)
        return artifact_pb2.CommitResponse(receipt=receipt, entry=entry)

    @guarded
    def GetAccepted(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See artifact.proto."""
        entry, receipt = self._withdrawal.accepted(self._identity.caller(context))
        return artifact_pb2.GetAcceptedResponse(entry=entry, receipt=receipt)

    @guarded
    def Withdraw(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See artifact.proto."""
        caller = self._identity.caller(context)
        entry, receipt = self._withdrawal.withdraw(caller, request.bundle)
        return artifact_pb2.WithdrawResponse(entry=entry, receipt=receipt)


class _Run:
    """Pieces of one stream that follow each other, kept together: what each costs besides its bytes is as much as for a larger one."""

    def __init__(self, intake: Intake, caller: Caller) -> None:
        self._intake, self._caller = intake, caller
        self._pieces: list[Piece] = []
        self._upload_id = ""
        self._begins = self._ends = 0
        self._since = 0.0
        self.kept: int | None = None
        """Bytes that are kept of the upload; None before any piece."""

    def take(self, upload_id: str, offset: int, data: bytes, crc32: int) -> None:
        """One more piece. Raises what `Intake.keep` does."""
        if self._pieces and (upload_id, offset) != (self._upload_id, self._ends):
            self.keep()
        if not self._pieces:
            self._upload_id, self._begins, self._since = upload_id, offset, time.monotonic()
        self._pieces.append((data, crc32))
        self._ends = offset + len(data)
        if (
            self._ends - self._begins >= RUN
            or len(self._pieces) >= MOST_PIECES
            or time.monotonic() - self._since > RUN_SECONDS
        ):
            self.keep()

    def keep(self) -> None:
        """All that has been taken. Raises what `Intake.keep` does."""
        pieces, self._pieces = self._pieces, []
        if pieces:
            self.kept = self._intake.keep(self._caller, self._upload_id, self._begins, pieces)
            RECEIVED.inc(self._ends - self._begins)

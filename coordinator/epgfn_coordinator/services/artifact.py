"""ArtifactService: takes sealed models, in pieces, and answers with a receipt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc

from epgfn.v1 import artifact_pb2, artifact_pb2_grpc
from epgfn_coordinator.counting import RECEIVED
from epgfn_coordinator.identity import Identity
from epgfn_coordinator.intake import Intake
from epgfn_coordinator.services.calls import CallError, guarded
from epgfn_coordinator.streams import StreamWatch
from epgfn_coordinator.withdrawal import Withdrawal


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
        offset = None
        with self._watch.of(context, f"upload {caller.node_id}") as progress:
            for piece in pieces:
                offset = self._intake.keep(caller, piece.upload_id, piece.offset, piece.data, piece.crc32)
                RECEIVED.inc(len(piece.data))
                if piece.data:  # an empty piece moves nothing
                    progress()
        if offset is None:
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

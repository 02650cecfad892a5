"""LedgerService: the newest checkpoint, with proof that nothing older was rewritten."""

from __future__ import annotations

from typing import Any

import grpc

from epgfn.v1 import ledger_pb2, ledger_pb2_grpc
from epgfn_coordinator.continuity import Continuity
from epgfn_coordinator.identity import Identity
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.services.calls import CallError, guarded


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    """Shows the log."""

    def __init__(self, identity: Identity, log: PublishedLog, continuity: Continuity) -> None:
        self._identity, self._log, self._continuity = identity, log, continuity

    @guarded
    def GetCheckpoint(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See ledger.proto."""
        try:
            caller = self._identity.caller(context)
        except CallError as error:
            if error.reason == "not-enrolled":  # here; perhaps it is in a later state than this one
                self._continuity.shown_by_stranger(request.newest_known)
            raise
        self._continuity.shown(caller.node_id, request.known_size, request.newest_known)
        note, proof = self._log.proof_since(request.known_size)
        return ledger_pb2.GetCheckpointResponse(checkpoint=note, consistency_proof=proof)

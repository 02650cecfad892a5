"""LedgerService: the newest checkpoint, with proof that nothing older was rewritten."""

from __future__ import annotations

from typing import Any

import grpc

from epgfn.base.errors import RefusedError
from epgfn.v1 import ledger_pb2, ledger_pb2_grpc
from epgfn_coordinator.identity import Identity
from epgfn_coordinator.journal import LOG
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.services.calls import guarded


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    """Shows the log."""

    def __init__(self, identity: Identity, log: PublishedLog) -> None:
        self._identity, self._log = identity, log

    @guarded
    def GetCheckpoint(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See ledger.proto."""
        caller = self._identity.caller(context)
        if request.known_size > self._log.publish().size:
            LOG.error(
                "ledger: %s has seen a longer ledger than ours; was it restored from a backup?",
                caller.node_id,
            )
            raise RefusedError(
                "ledger-rolled-back",
                "this coordinator's ledger is shorter than the one you have seen: it was rolled back or replaced; "
                "tell its operator and send nothing",
            )
        note, proof = self._log.proof_since(request.known_size)
        return ledger_pb2.GetCheckpointResponse(checkpoint=note, consistency_proof=proof)

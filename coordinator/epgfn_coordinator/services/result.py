"""ResultService: the published global model, to nodes of the study."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc

from epgfn.errors import RefusedError
from epgfn.rpc import PIECE
from epgfn.v1 import result_pb2, result_pb2_grpc
from epgfn_coordinator.aggregate import MODEL
from epgfn_coordinator.home import Home
from epgfn_coordinator.identity import Identity
from epgfn_coordinator.log import PublishedLog
from epgfn_coordinator.publication import published_bundle, published_entry
from epgfn_coordinator.round import Round
from epgfn_coordinator.services.calls import CallError, guarded, guarded_stream
from epgfn_coordinator.store import Store
from epgfn_coordinator.streams import StreamWatch


class ResultDesk(result_pb2_grpc.ResultServiceServicer):
    """Hands out the result once the round is published."""

    def __init__(
        self,
        home: Home,
        store: Store,
        log: PublishedLog,
        identity: Identity,
        current: Round,
        watch: StreamWatch,
    ) -> None:
        self._home, self._store, self._log = home, store, log
        self._identity, self._round, self._watch = identity, current, watch

    @guarded
    def GetResult(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See result.proto."""
        self._identity.caller(context)
        self._require_published()
        position = published_entry(self._store)
        return result_pb2.GetResultResponse(
            bundle=published_bundle(self._store),
            entry=self._store.entry(position),
            receipt=self._log.receipt(position),
            model_size=(self._home.result / MODEL).stat().st_size,
        )

    @guarded_stream
    def Download(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """See result.proto."""
        caller = self._identity.caller(context)
        self._require_published()
        with (
            self._watch.of(context, f"download {caller.node_id}") as progress,
            (self._home.result / MODEL).open("rb") as source,
        ):
            offset = request.offset
            if offset > (self._home.result / MODEL).stat().st_size:
                raise CallError(
                    grpc.StatusCode.OUT_OF_RANGE,
                    "bad-offset",
                    "the model file is shorter than the part you have; fetch it again from the beginning",
                )
            source.seek(offset)
            while data := source.read(PIECE):
                yield result_pb2.DownloadResponse(offset=offset, data=data)
                progress()  # the piece before has been taken
                offset += len(data)

    def _require_published(self) -> None:
        state, detail = self._round.standing()
        if state == "failed":
            raise RefusedError("round-failed", detail)
        if state != "published":
            raise RefusedError("not-published", f"there is no global model yet: {detail}; try again later")

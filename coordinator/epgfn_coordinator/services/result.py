"""ResultService: the published global models, to nodes of the study."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from sqlite3 import Row
from typing import Any

import grpc

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.rpc import PIECE
from epgfn.run.layout import MODEL
from epgfn.v1 import result_pb2, result_pb2_grpc
from epgfn_coordinator import places
from epgfn_coordinator.counting import SENT
from epgfn_coordinator.home import Home
from epgfn_coordinator.identity import Identity
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.round import WITHOUT_RESULT, Round
from epgfn_coordinator.run_files import RunFile, files_for_nodes
from epgfn_coordinator.services.calls import CallError, guarded, guarded_stream
from epgfn_coordinator.store import Store
from epgfn_coordinator.streams import StreamWatch


class ResultServicer(result_pb2_grpc.ResultServiceServicer):
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
        return self.of(self._identity.caller(context).node_id, request.aggregate)

    def of(self, node_id: str, aggregate: int) -> Any:
        """The answer to GetResult, for one node.

        Raises:
            RefusedError: there is no such result.
        """
        self._require_published()
        row = self._made(aggregate)
        excluded = self._store.row("SELECT position FROM exclusions WHERE node_id = ?", node_id)
        withdrawn = self._store.row(
            "SELECT * FROM withdrawals WHERE node_id = ? ORDER BY position DESC", node_id
        )
        return result_pb2.GetResultResponse(
            bundle=bytes(row["bundle"]),
            entry=self._store.entry(row["position"]),
            receipt=self._log.receipt(row["position"]),
            model_size=(self._home.aggregate(row["place"]) / MODEL).stat().st_size,
            aggregates=places.count(self._store),
            exclusion=b"" if excluded is None else self._store.entry(excluded["position"]),
            exclusion_receipt=b"" if excluded is None else self._log.receipt(excluded["position"]),
            withdrawal=b"" if withdrawn is None else self._store.entry(withdrawn["position"]),
            withdrawal_receipt=b"" if withdrawn is None else self._log.receipt(withdrawn["position"]),
            withdrawal_bundle=b"" if withdrawn is None else bytes(withdrawn["bundle"]),
        )

    def model(self, aggregate: int) -> Path:
        """The file of a result that there is."""
        return self._home.aggregate(self._made(aggregate)["place"]) / MODEL

    @guarded_stream
    def Download(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """See result.proto."""
        caller = self._identity.caller(context)
        self._require_published()
        model = self.model(request.aggregate)
        with (
            self._watch.of(context, f"download {caller.node_id}") as progress,
            model.open("rb") as source,
        ):
            offset = request.offset
            if offset > model.stat().st_size:
                raise CallError(
                    grpc.StatusCode.OUT_OF_RANGE,
                    "bad-offset",
                    "the model file is shorter than the part you have; fetch it again from the beginning",
                )
            source.seek(offset)
            while data := source.read(PIECE):
                yield result_pb2.DownloadResponse(offset=offset, data=data)
                SENT.inc(len(data))
                progress()  # the piece before has been taken
                offset += len(data)
        if not request.files_follow:
            self._store.note_fetched(caller.node_id)

    @guarded
    def ListFiles(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See result.proto."""
        caller = self._identity.caller(context)
        self._require_published()
        if request.kept:
            self._store.note_fetched(caller.node_id)
            return result_pb2.ListFilesResponse()
        return self.listing()[0]

    def listing(self) -> tuple[Any, list[RunFile]]:
        """The answer to ListFiles, and the files that it names.

        Raises:
            EpgfnError: one cannot be read.
        """
        answer, found = result_pb2.ListFilesResponse(), list(self._files())
        try:
            for file in found:
                size, digest = file.measured()
                answer.files.add(name=file.name, size=size, sha256=digest)
        except OSError as error:
            raise EpgfnError(f"cannot read {error.filename}: {error.strerror}") from None
        return answer, found

    def packed(self, aggregate: int, most: int) -> bytes | None:
        """All files for a letter that has the model of `aggregate` already: the answer to ListFiles behind its length, and what it names
        but that model, one after the other. None where these are more than `most` bytes.

        Raises:
            EpgfnError: one cannot be read.
        """
        answer, found, size = result_pb2.ListFilesResponse(), [b""], 0
        apart = f"{self._made(aggregate)['place']}/{MODEL}"
        try:
            for file in self._files():
                if file.name == apart:
                    length, digest = file.measured()
                    answer.files.add(name=file.name, size=length, sha256=digest)
                    continue
                with file.open() as source:
                    raw = source.read(most + 1)
                size += len(raw)
                if size > most:
                    return None
                answer.files.add(name=file.name, size=len(raw), sha256=hashlib.sha256(raw).digest())
                found.append(raw)
        except OSError as error:
            raise EpgfnError(f"cannot read {error.filename}: {error.strerror}") from None
        listed = answer.SerializeToString(deterministic=True)
        found[0] = len(listed).to_bytes(8, "big") + listed
        return b"".join(found)

    def _files(self) -> Iterator[RunFile]:
        return files_for_nodes(self._home, self._store, self._log.proof_since(0)[0])

    @guarded_stream
    def DownloadFiles(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """See result.proto."""
        caller = self._identity.caller(context)
        self._require_published()
        files = {file.name: file for file in self._files()}
        with self._watch.of(context, f"files {caller.node_id}") as progress:
            for number, name in enumerate(request.names):
                if name not in files:  # it was of a shorter ledger, or there never was one
                    raise CallError(
                        grpc.StatusCode.NOT_FOUND,
                        "no-such-file",
                        "what was listed is not there any more, since the ledger has grown; fetch again",
                    )
                begin = 0 if number else request.offset
                with files[name].open() as source:
                    if begin > source.seek(0, os.SEEK_END):
                        raise CallError(
                            grpc.StatusCode.OUT_OF_RANGE,
                            "bad-offset",
                            "the file is shorter than the part you have; fetch it again from the beginning",
                        )
                    offset = source.seek(begin)
                    while data := source.read(PIECE):
                        yield result_pb2.DownloadFilesResponse(file=number, offset=offset, data=data)
                        SENT.inc(len(data))
                        progress()
                        offset += len(data)

    def _made(self, number: int) -> Row:
        """The global model with that number; 0 and 1 are the first."""
        row = places.made(self._store, places.later(max(number, 1)))
        if row is None:
            raise CallError(
                grpc.StatusCode.NOT_FOUND,
                "no-such-aggregate",
                f"there is no global model {number} of this round yet, only {places.count(self._store)}; "
                "ask for one of those, or try again later",
            )
        return row

    def _require_published(self) -> None:
        state, detail = self._round.standing()
        if state in WITHOUT_RESULT:
            raise RefusedError("round-failed", detail)
        if state != "published":
            raise RefusedError("not-published", f"there is no global model yet: {detail}; try again later")

"""Each call goes to the round that it names; to the first where it names none, as nodes of before do, who know no other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from epgfn.v1 import (
    artifact_pb2_grpc,
    ledger_pb2_grpc,
    result_pb2_grpc,
    study_pb2,
    study_pb2_grpc,
    sum_pb2_grpc,
)
from epgfn_coordinator.identity import Identity
from epgfn_coordinator.services.artifact import ArtifactServicer
from epgfn_coordinator.services.calls import CallError, guarded
from epgfn_coordinator.services.ledger import LedgerServicer
from epgfn_coordinator.services.masked_sum import SumServicer
from epgfn_coordinator.services.result import ResultServicer
from epgfn_coordinator.services.study import StudyServicer
from epgfn_coordinator.streams import StreamWatch


@dataclass(frozen=True)
class Desk:
    """What answers for one round. `name`: what its operator calls it."""

    name: str
    round_id: str
    identity: Identity
    study: StudyServicer
    artifact: ArtifactServicer
    result: ResultServicer
    ledger: LedgerServicer
    sum: SumServicer


class Desks(Protocol):
    """Those of all rounds that are served now."""

    def all(self) -> list[Desk]:
        """The first round's first, if that can be served."""
        ...

    def first(self) -> Desk | None:
        """That of the coordinator's first round, unless it cannot be served."""
        ...

    def missing(self) -> bool:
        """Whether there are rounds that cannot be served."""
        ...


class ByRound:
    """Finds the desk that a call is for."""

    def __init__(self, desks: Desks, watch: StreamWatch) -> None:
        """`watch`: over streams that have not yet said which round they are for."""
        self._desks, self._watch = desks, watch

    def anyone(self, context: grpc.ServicerContext) -> tuple[str, Desk]:
        """Who calls, and a round in which it is enrolled.

        Raises:
            CallError: as `Identity.caller`; "round-unavailable".
        """
        desks = self._desks.all()
        if not desks:
            raise _unavailable()
        desk = next((each for each in desks if each.identity.knows(context)), desks[0])
        return desk.identity.caller(context).node_id, desk

    @guarded
    def desk(self, round_id: str, context: grpc.ServicerContext) -> Desk:
        """That of the round with this id, of the first where none is named."""
        return self._find(round_id, context)

    @guarded
    def of_stream(self, pieces: Any, context: grpc.ServicerContext) -> tuple[Desk, Iterable[Any]]:
        """The same for a stream of messages, by the first of them; and all of them."""
        node_id, _ = self.anyone(context)
        with self._watch.of(context, f"first piece {node_id}"):
            first = list(itertools.islice(pieces, 1))
        return self._find(first[0].round_id if first else "", context), itertools.chain(first, pieces)

    @guarded
    def listing(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Rounds in which the caller is enrolled."""
        self.anyone(context)
        found = [desk for desk in self._desks.all() if desk.identity.knows(context)]
        return study_pb2.ListRoundsResponse(
            rounds=[desk.study.summary(desk.name, desk.round_id) for desk in found]
        )

    def _find(self, round_id: str, context: grpc.ServicerContext) -> Desk:
        if not round_id:
            first = self._desks.first()
            if first is None:
                raise _unavailable()
            return first
        for desk in self._desks.all():
            if desk.round_id == round_id:
                return desk
        self.anyone(context)  # a stranger is told that, and nothing of rounds
        if self._desks.missing():
            raise _unavailable()
        raise CallError(
            grpc.StatusCode.NOT_FOUND,
            "unknown-round",
            "this coordinator has no such round; ask its operator, who may have restored an older backup or begun anew",
        )


def _unavailable() -> CallError:
    return CallError(
        grpc.StatusCode.UNAVAILABLE,
        "round-unavailable",
        "the coordinator cannot serve this round now, and its log says why; tell its operator, and try again later",
    )


def _to(service: str, method: str) -> Callable[[Any, Any, Any], Any]:
    """A handler that hands the call on; how it ends is for the round's own."""

    def handler(servicer: Any, request: Any, context: grpc.ServicerContext) -> Any:
        desk = servicer.by_round.desk(request.round_id, context)
        return getattr(getattr(desk, service), method)(request, context)

    handler.__doc__ = f"Handed on to the round's {method}."
    return handler


class _Handing:
    def __init__(self, by_round: ByRound) -> None:
        self.by_round = by_round


class StudyByRound(_Handing, study_pb2_grpc.StudyServiceServicer):
    """StudyService of all rounds."""

    GetStudy = _to("study", "GetStudy")
    GetRound = _to("study", "GetRound")

    def ListRounds(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See study.proto."""
        return self.by_round.listing(request, context)


class ArtifactByRound(_Handing, artifact_pb2_grpc.ArtifactServiceServicer):
    """ArtifactService of all rounds."""

    Begin = _to("artifact", "Begin")
    Status = _to("artifact", "Status")
    Commit = _to("artifact", "Commit")
    GetAccepted = _to("artifact", "GetAccepted")
    Withdraw = _to("artifact", "Withdraw")

    def Upload(self, pieces: Any, context: grpc.ServicerContext) -> Any:
        """See artifact.proto."""
        desk, all_of_them = self.by_round.of_stream(pieces, context)
        return desk.artifact.Upload(all_of_them, context)


class ResultByRound(_Handing, result_pb2_grpc.ResultServiceServicer):
    """ResultService of all rounds."""

    GetResult = _to("result", "GetResult")
    Download = _to("result", "Download")
    ListFiles = _to("result", "ListFiles")
    DownloadFiles = _to("result", "DownloadFiles")


class LedgerByRound(_Handing, ledger_pb2_grpc.LedgerServiceServicer):
    """LedgerService of all rounds."""

    GetCheckpoint = _to("ledger", "GetCheckpoint")


class SumByRound(_Handing, sum_pb2_grpc.SumServiceServicer):
    """SumService of all rounds."""

    GetSum = _to("sum", "GetSum")
    GetStatement = _to("sum", "GetStatement")
    Send = _to("sum", "Send")

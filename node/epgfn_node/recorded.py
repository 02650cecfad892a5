"""A reply by letter in the place of a channel: each call is answered with what the coordinator has answered to it on paper, so that what
checks the answers of calls checks these."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final

from epgfn.base.errors import RefusedError, WaitingError
from epgfn.rpc import PIECE, WAITING_REASONS
from epgfn.v1 import artifact_pb2, letter_pb2, result_pb2
from epgfn_node.client import Coordinator, NotOffered, plain

CALLED: Final = "this round"
"""What sentences call the other end, which has no address."""


class Recorded(Coordinator):
    """What a reply holds, as the answers of calls."""

    def __init__(self, reply: letter_pb2.Reply, model: bytes, round_id: str) -> None:
        """`model`: the global model's file, if it came along."""
        self.round_id, self.address, self.patience = round_id, CALLED, 0.0
        self._reply, self._model = reply, model
        for service in ("enrollment", "study", "artifact", "certificate", "ledger", "result"):
            setattr(self, service, _Answers(self))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def answer(self, method: str, request: Any) -> Any:
        """What was answered to this call.

        Raises:
            RefusedError: what the coordinator said no with; or "stale-reply": the reply does not answer this.
        """
        reply = self._reply
        if method == "ListFiles":
            raise NotOffered("the reply holds no files beside the global model")
        found = _ANSWERS[method](reply, request) if method in _ANSWERS else None
        if found is not None:
            return found
        if reply.HasField("refusal"):
            reason, sentence = plain(reply.refusal.reason), plain(reply.refusal.sentence)
            raise (WaitingError if reason in WAITING_REASONS else RefusedError)(reason, sentence)
        raise RefusedError(
            "stale-reply",
            "the reply does not answer what this node asks by now; have the letter written again, and carry that",
        )

    def download(self, request: Any) -> _Pieces:
        """The model's bytes, as `Download` streams them."""
        return _Pieces(self._model, int(request.offset))


class _Answers:
    """One service's stub."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    def __getattr__(self, method: str) -> Any:
        if method == "Download":
            return lambda request, **_: self._recorded.download(request)
        return lambda request, **_: self._recorded.answer(method, request)


class _Pieces:
    """What a streaming call returns."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data, self._offset = data, offset

    def __iter__(self) -> Iterator[result_pb2.DownloadResponse]:
        for start in range(self._offset, len(self._data), PIECE):
            yield result_pb2.DownloadResponse(offset=start, data=self._data[start : start + PIECE])

    def cancel(self) -> None:
        """Nothing is under way."""


def _field(name: str) -> Any:
    return lambda reply, request: getattr(reply, name) if reply.HasField(name) else None


def _checkpoint(reply: letter_pb2.Reply, request: Any) -> Any:
    """For the size that is known by now: that of the letter, of a receipt in the reply, or already the reply's own."""
    for each in reply.ledger:
        if each.known_size == request.known_size:
            return each.newest
    return None


def _begun(reply: letter_pb2.Reply, request: Any) -> Any:
    """What was sent along has arrived, so nothing is left to be uploaded."""
    if not reply.HasField("receipt"):
        return None
    return artifact_pb2.BeginResponse(upload_id="letter", accepted=True)


_ANSWERS: Final = {
    "Enroll": _field("enrolment"),
    "GetStudy": _field("study"),
    "GetRound": _field("round"),
    "GetCheckpoint": _checkpoint,
    "Begin": _begun,
    "Commit": _field("receipt"),
    "Withdraw": _field("withdrawal"),
    "GetResult": _field("result"),
    "RotateKey": _field("rotation"),
}

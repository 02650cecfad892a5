"""A reply by letter in the place of a channel: each call is answered with what the coordinator has answered to it on paper, so that what
checks the answers of calls checks these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final

from google.protobuf.message import DecodeError

from epgfn.base.errors import RefusedError, WaitingError
from epgfn.rpc import PIECE, WAITING_REASONS
from epgfn.v1 import artifact_pb2, letter_pb2, result_pb2
from epgfn_node.client import Coordinator, NotOffered, plain

CALLED: Final = "this round"
"""What sentences call the other end, which has no address."""


class Recorded(Coordinator):
    """What a reply holds, as the answers of calls."""

    def __init__(
        self, reply: letter_pb2.Reply, model: bytes, round_id: str, run: bytes = b"", apart: str = ""
    ) -> None:
        """`model`: the global model's file, `apart` in a run directory, and `run`: the other files of that, if they came along.

        Raises:
            RefusedError: "malformed": `run` is not of the form of docs/formats/letter.md.
        """
        self.round_id, self.address, self.patience = round_id, CALLED, 0.0
        self._reply, self._model = reply, model
        self._listed: Any
        self._run: dict[str, memoryview]
        self._listed, self._run = _unpacked(run, apart) if run else (None, {})
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
        if method == "ListFiles" and self._listed is None:
            raise NotOffered("the reply holds no files beside the global model")
        if method == "ListFiles":
            return self._listed
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

    def download_files(self, request: Any) -> _FilePieces:
        """Files' bytes, as `DownloadFiles` streams them."""
        return _FilePieces(self._run, list(request.names), int(request.offset))


class _Answers:
    """One service's stub."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    def __getattr__(self, method: str) -> Any:
        if method == "Download":
            return lambda request, **_: self._recorded.download(request)
        if method == "DownloadFiles":
            return lambda request, **_: self._recorded.download_files(request)
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


class _FilePieces:
    """What `DownloadFiles` returns."""

    def __init__(self, files: Mapping[str, memoryview], names: list[str], offset: int) -> None:
        self._files, self._names, self._offset = files, names, offset

    def __iter__(self) -> Iterator[result_pb2.DownloadFilesResponse]:
        for number, name in enumerate(self._names):
            data = self._files.get(name, memoryview(b""))
            for start in range(0 if number else self._offset, len(data), PIECE):
                piece = bytes(data[start : start + PIECE])
                yield result_pb2.DownloadFilesResponse(file=number, offset=start, data=piece)

    def cancel(self) -> None:
        """Nothing is under way."""


def _unpacked(run: bytes, apart: str) -> tuple[Any, dict[str, memoryview]]:
    """The list of a run's files, and the bytes of each but that of the global model `apart`, which is another part of the reply."""
    listed, at = result_pb2.ListFilesResponse(), 8 + int.from_bytes(run[:8], "big")
    try:
        listed.ParseFromString(run[8:at])
    except DecodeError:
        raise _malformed() from None
    files: dict[str, memoryview] = {}
    for each in listed.files:
        if each.name != apart:
            files[each.name] = memoryview(run)[at : at + each.size]
            at += each.size
    if at != len(run):
        raise _malformed()
    return listed, files


def _malformed() -> RefusedError:
    return RefusedError(
        "malformed", "the files of the run in the reply do not parse; ask the coordinator's operator"
    )


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

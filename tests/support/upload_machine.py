"""Uploads of one node whose pieces come in any order that network and power cuts can give, against what is to be there in the end."""

from __future__ import annotations

import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from coordinator_client import Upload, tiny_study
from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_hex
from epgfn.v1 import artifact_pb2, artifact_pb2_grpc
from epgfn_coordinator.home import Home
from without_network import LocalCoordinator, LocalNode

STUDY = tiny_study()
FILES: Final = 3
PLACES = st.floats(0, 1) | st.sampled_from([0.0, 1.0])
"""Somewhere in a file."""
DEATHS = st.sampled_from([*[None] * 20, *range(1, 26)])


class LineBroken(Exception):
    """What reading from a stream raises once the connection is gone."""


class UploadMachine(RuleBasedStateMachine):
    """`kept` is how many bytes of the current upload the coordinator has said it keeps; None where it has none."""

    @initialize(last_death=st.integers(1, 25))
    def begin(self, last_death: int) -> None:
        """A node with several models that it could send. `last_death`: at which step the coordinator dies when everything has come."""
        self.last_death = last_death
        self.folder = Path(tempfile.mkdtemp(prefix="upload-"))
        self.coordinator = LocalCoordinator(Home(self.folder / "home"), STUDY)
        self.node = LocalNode.at(self.coordinator, "a")
        self.node.enroll()
        self.files: list[Upload] = [self.node.make_upload(STUDY, seed=seed) for seed in range(FILES)]
        self.names: dict[int, str] = {}
        self.current: int | None = None
        self.kept = 0
        self.receipt: tuple[int, bytes] | None = None

    def teardown(self) -> None:
        """Whatever happened before, the rest can be sent, and counts byte for byte."""
        if not hasattr(self, "coordinator"):
            return
        try:
            number = self.receipt[0] if self.receipt is not None else self.current or 0
            self._bring_all_but_the_receipt(number)
            answer = self.node.send(self.files[number])
            assert self.receipt is None or bytes(answer.receipt) == self.receipt[1]
            sealed = self.files[number].sealed
            assert self.coordinator.home.artifact(sha256_hex(sealed)).read_bytes() == sealed
            assert not list(self.coordinator.home.uploads.iterdir())
        finally:
            self.coordinator.close()
            shutil.rmtree(self.folder)

    def _bring_all_but_the_receipt(self, number: int) -> None:
        begun, sealed = self.node.begin(self.files[number].bundle), self.files[number].sealed
        if begun.offset < len(sealed):
            self.node.upload(begun.upload_id, sealed[begun.offset :], int(begun.offset))
        self._do(self.last_death, lambda: self.node.commit(begun.upload_id))
        assert self.node.status(begun.upload_id).offset == len(sealed), "bytes that were kept are gone"

    # What can happen

    @rule(number=st.integers(0, FILES - 1), dies=DEATHS)
    def announce(self, number: int, dies: int | None) -> None:
        """This file is to come now: the same as before, or another, which takes its place."""
        try:
            answer = self._do(dies, lambda: self.node.begin(self.files[number].bundle))
            if answer is None:  # nobody knows which of the two it is now, so the node asks again
                answer = self.node.begin(self.files[number].bundle)
        except RefusedError as error:
            assert error.reason == "already-accepted"
            assert self.receipt is not None and self.receipt[0] != number
            return
        if self.receipt is not None:
            assert answer.accepted and self.receipt[0] == number
            return
        assert answer.offset == (self.kept if self.current == number else 0)
        self.current, self.kept = number, int(answer.offset)
        self.names[number] = str(answer.upload_id)

    @rule(until=PLACES, size=st.integers(1, 900), dies=DEATHS)
    def go_on(self, until: float, size: int, dies: int | None) -> None:
        """Pieces from where the coordinator is; the line breaks in the middle of one of them, whichever byte that is."""
        if self.current is None:
            return
        sealed = self.files[self.current].sealed
        end = self.kept + round(until * (len(sealed) - self.kept))
        pieces = self._pieces(self.current, self.kept, size)
        broken = end < len(sealed)

        def stream() -> Iterator[Any]:
            for piece in pieces:
                if piece.offset + len(piece.data) > end:
                    break  # the rest of this one never arrives, so gRPC has nothing to give
                yield piece
            if broken:
                raise LineBroken

        before = self.kept
        whole = before + (end - before) // size * size if broken else len(sealed)
        answer, reason = self._stream(stream, dies)
        if self._settled():
            return
        self.kept = self._status()
        if broken or before == len(sealed):
            assert reason in ("internal", "empty-upload") or dies is not None
        if dies is None:
            assert self.kept == whole, "every piece that arrived whole is kept, and none that did not"
        else:
            assert before <= self.kept <= whole
        if answer is not None and reason == "":
            assert answer.offset == self.kept
        if self.kept > before:  # what has come already comes once more, late, from the connection that broke
            repeated = self._piece(self.current, before, sealed[before : before + size])
            _, reason = self._stream(lambda: iter([repeated]), None)
            assert reason == "bad-offset" and self._status() == self.kept

    @rule(start=PLACES, length=st.integers(0, 400), dies=DEATHS, broken=st.booleans())
    def out_of_order(self, start: float, length: int, dies: int | None, broken: bool) -> None:
        """One piece from anywhere, perhaps repeated, perhaps damaged: taken where it fits, else refused with a reason."""
        if self.current is None:
            return
        sealed = self.files[self.current].sealed
        offset = round(start * len(sealed))
        data = sealed[offset : offset + length]
        piece = self._piece(self.current, offset, data, damaged=broken)
        before = self.kept
        answer, reason = self._stream(lambda: iter([piece]), dies)
        if self._settled():
            return
        self.kept = self._status()
        fits = offset == before and not broken
        assert self.kept == before + (len(data) if fits else 0) or (dies is not None and self.kept == before)
        if answer is not None or reason:
            wanted = "bad-offset" if offset != before else "bad-crc" if broken else ""
            assert reason == wanted

    @rule(extra=st.binary(min_size=1, max_size=50))
    def too_much(self, extra: bytes) -> None:
        """More than was announced."""
        if self.current is None or self.receipt is not None:
            return
        sealed = self.files[self.current].sealed
        if self.kept < len(sealed):
            extra = sealed[self.kept :] + extra
        _, reason = self._stream(lambda: iter([self._piece(self.current or 0, self.kept, extra)]), None)
        assert reason == "too-large" and self._status() == self.kept

    @rule(number=st.integers(0, FILES - 1))
    def of_another_file(self, number: int) -> None:
        """Pieces of an upload whose place another has taken come late."""
        if number == self.current or number not in self.names:
            return
        _, reason = self._stream(lambda: self._pieces(number, 0, 500), None)
        assert reason == "unknown-upload"

    @rule(dies=DEATHS)
    def commit(self, dies: int | None) -> None:
        """Taken if every byte is there, and the same receipt each time."""
        if self.current is None:
            return
        name = self.names[self.current]
        complete = self.kept == len(self.files[self.current].sealed)
        try:
            answer = self._do(dies, lambda: self.node.commit(name))
        except RefusedError as error:
            assert error.reason == "incomplete" and not complete, error.reason
            return
        if answer is None:
            if not self.node.status(name).accepted:
                assert self._status() == self.kept, "what was kept still is"
                return
            answer = self.node.commit(name)
        assert complete
        self.receipt = self.receipt or (self.current, bytes(answer.receipt))
        assert self.receipt == (self.current, bytes(answer.receipt))

    @rule()
    def restart(self) -> None:
        """The coordinator's, which has only what is on disk."""
        self.coordinator.restart()

    # What holds whatever happens

    @invariant()
    def what_is_kept_is_the_beginning_of_the_file(self) -> None:
        """Byte for byte; and once it is accepted, all of it."""
        if self.current is None:
            return
        home, sealed = self.coordinator.home, self.files[self.current].sealed
        if self.receipt is not None:
            assert home.artifact(sha256_hex(sealed)).read_bytes() == sealed
            return
        part = home.part(self.names[self.current])
        assert (part.read_bytes() if part.exists() else b"") == sealed[: self.kept]

    # How it is done

    def _do(self, dies: int | None, work: Callable[[], Any]) -> Any:
        return work() if dies is None else self.coordinator.killed_at(dies, work)

    def _stream(self, pieces: Callable[[], Iterator[Any]], dies: int | None) -> tuple[Any, str]:
        """The answer to Upload, if there is one, and the reason of a refusal."""
        stub = artifact_pb2_grpc.ArtifactServiceStub
        try:
            return self._do(dies, lambda: self.node._call(stub, "Upload", pieces())), ""
        except RefusedError as error:
            return None, error.reason

    def _settled(self) -> bool:
        """Whether the model is accepted, and more of it means nothing."""
        return self.receipt is not None

    def _status(self) -> int:
        assert self.current is not None
        return int(self.node.status(self.names[self.current]).offset)

    def _pieces(self, number: int, offset: int, size: int) -> Iterator[Any]:
        sealed = self.files[number].sealed
        for start in range(offset, len(sealed), size):
            yield self._piece(number, start, sealed[start : start + size])

    def _piece(self, number: int, offset: int, data: bytes, *, damaged: bool = False) -> Any:
        return artifact_pb2.UploadRequest(
            upload_id=self.names[number],
            offset=offset,
            data=data,
            crc32=zlib.crc32(data) ^ damaged,
            round_id=self.node.round_id,
        )

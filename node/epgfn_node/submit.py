"""Sending the approved artifact, once: announce, upload from where the coordinator is, commit, check the receipt.

May be run again at any point. The coordinator keeps what it has, and the same artifact always gets the same receipt.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc

from epgfn.base.console import Reporter
from epgfn.base.errors import RefusedError, UsageError, WaitingError
from epgfn.base.files import remove, write_atomic
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.rpc import PIECE, UNARY_DEADLINE
from epgfn.study.parameters import is_masked
from epgfn.v1 import artifact_pb2
from epgfn_node import ledger
from epgfn_node.client import STALL, UNCERTAIN, Coordinator, Stalled
from epgfn_node.enroll import Connection
from epgfn_node.home import NodeHome
from epgfn_node.outbox import Package, is_masked_outside, load_package
from epgfn_node.receipts import require_entry, verified_receipt
from epgfn_node.study import Agreement
from epgfn_node.withdraw import require_none_under_way

if TYPE_CHECKING:
    from epgfn_node.masked_sum import SumPart

MOST_CHECKING = 1800.0  # seconds that a node waits in one go while the coordinator says that it is checking
ASK_AGAIN = 1.0  # seconds; the coordinator answers only when it is done, or after some time of its own
SMALLEST_PIECE = 8 << 10  # bytes
MAX_UPLOAD_ID = 128  # characters; the name goes with every piece, so a long one would be sent as often
MAX_ROUNDS = 1000  # of Begin and Upload, each of which got on by at least one byte


def submit(
    connection: Connection,
    agreement: Agreement,
    report: Reporter,
    patience: float = 0.0,
    wait: float = 0.0,
) -> Package:
    """Send what was approved, keep the receipt, and return what was sent. Where sums are masked, the other nodes' keys and shares are
    waited for first, up to `wait` seconds.

    Raises:
        RefusedError: not approved, or the coordinator refuses, or its receipt does not prove what it should, or its
            ledger was rewritten.
        WaitingError: "checking": the coordinator has said for `MOST_CHECKING` seconds that it is checking what it has.
        EpgfnError: nobody answers; what has arrived is kept, so run again.
    """
    home = connection.home
    require_none_under_way(home)
    masked = is_masked(agreement.study)
    if masked and connection.recorded is not None:
        raise UsageError(
            "a masked sum takes several messages, and none of them goes by letter; use the network"
        )
    to_mask = masked and not home.receipt.exists() and not is_masked_outside(home)
    package = None if to_mask else load_package(connection, agreement)
    with connection.open(report, patience) as coordinator:
        part = _part(connection, agreement, coordinator, report) if masked else None
        if package is None:
            assert part is not None
            ledger.follow(home, coordinator, connection.trust)
            part.mask(wait)
            package = load_package(connection, agreement)
        if not home.receipt.exists():
            # A coordinator whose log was rewritten gets nothing.
            ledger.follow(home, coordinator, connection.trust)
            answer = _send(home, package, coordinator, report)
            _keep_receipt(connection, package, coordinator, bytes(answer.receipt), bytes(answer.entry))
        else:
            remove(home.sending)  # killed after the receipt was written
        if part is not None:
            part.unmask()
    report.event("accepted", f"accepted; the receipt is {home.receipt}", sealed_sha256=package.sealed_sha256)
    return package


def _part(
    connection: Connection, agreement: Agreement, coordinator: Coordinator, report: Reporter
) -> SumPart:
    from epgfn_node.masked_sum import SumPart  # numpy, which few need

    return SumPart(connection, agreement, coordinator, report)


def _send(home: NodeHome, package: Package, coordinator: Coordinator, report: Reporter) -> Any:
    """The answer to Commit. While it is uncertain whether the artifact was accepted, a note in the outbox says so."""
    write_atomic(home.sending, package.sealed_sha256.encode("ascii") + b"\n")
    try:
        upload_id = _upload(home, package, coordinator, report)
        return _commit(upload_id, coordinator, report)
    except WaitingError:
        raise  # it may yet be accepted
    except RefusedError as error:
        if error.reason not in UNCERTAIN:
            remove(home.sending)  # a plain no: this artifact is not in
        raise


def _commit(upload_id: str, coordinator: Coordinator, report: Reporter) -> Any:
    """The answer to Commit, while the coordinator checks what it was sent.

    Raises:
        WaitingError: "checking": that takes longer than `MOST_CHECKING`.
    """
    request = artifact_pb2.CommitRequest(upload_id=upload_id)
    until = time.monotonic() + MOST_CHECKING
    while True:
        try:
            return coordinator.call(coordinator.artifact.Commit, request)
        except RefusedError as error:
            if error.reason != "checking":
                raise
        if time.monotonic() >= until:
            raise WaitingError(
                "checking",
                f"the coordinator at {coordinator.address} has the whole model and has said for {MOST_CHECKING / 60:.0f} minutes "
                "that it is checking it; nothing is lost: run submit again later for the receipt, and ask its operator if it goes on",
            )
        report.event("checking", "the coordinator has the whole model and is checking it")
        time.sleep(ASK_AGAIN)


def check_receipt(connection: Connection, package: Package, receipt: bytes, entry: bytes) -> Checkpoint:
    """Verify a receipt for `package` and return the checkpoint it leads to.

    Raises:
        RefusedError: it proves something else, or nothing.
    """
    checkpoint = verified_receipt(receipt, entry, connection.trust)
    require_entry(
        entry,
        {
            "kind": "accepted",
            "round_id": package.predicate.round_id,
            "node_id": connection.node_id,
            "sealed_sha256": package.sealed_sha256,
            "bundle_sha256": package.bundle_sha256,
            "size": package.predicate.sealed_size,
        },
        "the receipt is for another artifact than the one that was sent",
    )
    return checkpoint


def _keep_receipt(
    connection: Connection, package: Package, coordinator: Coordinator, receipt: bytes, entry: bytes
) -> None:
    home = connection.home
    checkpoint = check_receipt(connection, package, receipt, entry)
    ledger.follow(home, coordinator, connection.trust, (checkpoint,))
    write_atomic(home.receipt_entry, entry)
    write_atomic(home.receipt, receipt)
    remove(home.sending)


def _upload(home: NodeHome, package: Package, coordinator: Coordinator, report: Reporter) -> str:
    """Bring every byte over and return the upload's name. Each interruption goes on from what the coordinator has kept."""
    transfer = _Transfer(home, package, coordinator, report)
    coordinator.persist(transfer.run, progress=lambda: transfer.kept)
    return transfer.upload_id


class _Transfer:
    """One upload. `kept` is how many bytes the coordinator has said it keeps."""

    def __init__(self, home: NodeHome, package: Package, coordinator: Coordinator, report: Reporter) -> None:
        self._home, self._package, self._coordinator, self._report = home, package, coordinator, report
        self._size = package.predicate.sealed_size
        self._moved = 0.0
        self._piece, self._came_to = PIECE, -1
        self.upload_id = ""
        self.kept = 0

    def run(self) -> None:
        """Begin or resume, then send the rest."""
        for _ in range(MAX_ROUNDS):
            before = self.kept
            answer = self._coordinator.artifact.Begin(
                self._coordinator.about(artifact_pb2.BeginRequest(bundle=self._package.bundle)),
                timeout=UNARY_DEADLINE,
            )
            self.upload_id = str(answer.upload_id)
            if len(self.upload_id) > MAX_UPLOAD_ID:
                raise RefusedError(
                    "malformed",
                    f"the coordinator at {self._coordinator.address} names the upload by a text that is far too long; tell its operator",
                )
            self.kept = int(answer.offset)
            if answer.accepted or self.kept == self._size:
                return
            if self.kept > self._size:
                break
            if self.kept == self._came_to:
                # The line broke before one piece was over, and may do so every time: only whole pieces are kept.
                self._piece = max(self._piece // 2, SMALLEST_PIECE)
            self._came_to = self.kept
            self.kept = self._stream(self.kept)
            if self.kept == self._size:
                return
            if self.kept < before + SMALLEST_PIECE:
                break  # it keeps whole pieces
        raise RefusedError(
            "bad-offset",
            f"the coordinator at {self._coordinator.address} does not keep what it is sent; tell its operator, then run again",
        )

    def _stream(self, offset: int) -> int:
        self._moved = time.monotonic()
        call = self._coordinator.artifact.Upload.future(self._pieces(offset))
        while True:
            try:
                return int(call.result(timeout=1.0).offset)
            except grpc.FutureTimeoutError:
                if time.monotonic() - self._moved > STALL:
                    call.cancel()
            except grpc.FutureCancelledError:
                raise Stalled(self._coordinator.address) from None

    def _pieces(self, offset: int) -> Iterator[artifact_pb2.UploadRequest]:
        with self._home.sealed.open("rb") as source:
            source.seek(offset)
            while data := source.read(self._piece):
                piece = artifact_pb2.UploadRequest(
                    upload_id=self.upload_id, offset=offset, data=data, crc32=zlib.crc32(data)
                )
                yield self._coordinator.about(piece)
                offset += len(data)
                self._moved = time.monotonic()
                self._report.event("uploading", step=offset, steps=self._size)

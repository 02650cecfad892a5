"""How an artifact comes in: announced, kept piece by piece, verified, and entered in the ledger in one transaction."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Row

import grpc

from epgfn.base import failpoints
from epgfn.base.errors import NoRoomError, RefusedError
from epgfn.base.files import remove, sha256_hex, write_atomic
from epgfn.ledger.entries import AcceptedEntry, encode
from epgfn.rpc import MAX_PIECE
from epgfn.run.layout import AGGREGATING, OPEN, PUBLISHED, WAITING
from epgfn_coordinator.checking import Checking
from epgfn_coordinator.continuity import RESTORED
from epgfn_coordinator.home import Home
from epgfn_coordinator.identity import Caller
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.keys import read_round_key
from epgfn_coordinator.known_keys import is_current, is_replaced, replaced_error, signer_of
from epgfn_coordinator.masked_sum import MaskedSum
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.quota import Quota
from epgfn_coordinator.refusals import Refusals
from epgfn_coordinator.revocation import revoked_error
from epgfn_coordinator.round import round_state, withdrawal_of
from epgfn_coordinator.services.calls import CallError
from epgfn_coordinator.store import CONTINUITY_FACT, Store
from epgfn_coordinator.verify import Announcement, Verifier

Piece = tuple[bytes, int]
"""Bytes of an upload, and the CRC-32 that they are to have."""


@dataclass(frozen=True)
class Standing:
    """Where an upload stands: bytes kept, whether its artifact was accepted, and whether that is being checked."""

    upload_id: str
    offset: int
    accepted: bool
    checking: bool = False


class Intake:
    """Uploads of one round. Methods may be called from any thread."""

    def __init__(
        self,
        home: Home,
        store: Store,
        log: PublishedLog,
        verifier: Verifier,
        journal: Journal,
        round_id: str,
        roster: list[str],
        accepted: Callable[[], None],
        *,
        takes_late: bool = False,
        upload_limit: int = 64 << 20,
        masked: MaskedSum | None = None,
    ) -> None:
        """`accepted` is called after each acceptance; `takes_late`: models are taken after publication, too; `upload_limit`: bytes that the
        study allows for one upload; `masked`: what uploads are summed in, where sums are masked."""
        self._home, self._store, self._log = home, store, log
        self._verifier, self._journal, self._round_id = verifier, journal, round_id
        self._refusals = Refusals(store, log, journal, round_id)
        self._accepted, self._takes_late, self._masked = accepted, takes_late, masked
        self._locks = {
            node: threading.Lock() for node in roster
        }  # whatever a node does, it does one at a time
        self._quota = Quota(home.root, upload_limit)
        self._checking = Checking()

    def forget(self, node_id: str) -> None:
        """A node's keys are revoked: with others it begins anew."""
        self._quota.forget(node_id)

    @property
    def busy(self) -> bool:
        """Whether a complete upload is being checked: a round does not close over it."""
        return self._checking.busy

    def close(self) -> None:
        """Let the check that runs come to its end."""
        self._checking.close()

    def begin(self, caller: Caller, bundle: bytes) -> Standing:
        """Verify an upload statement and say from which byte to send.

        A statement other than the last one of this node, if that was not accepted, takes its place.

        Raises:
            RefusedError: see `Verifier.announcement`; "already-accepted": another artifact of this node is in;
                "round-closed": no more artifacts are taken.
            CallError: "aggregating": none are taken now, but late ones will be; "waiting": perhaps later, if the operator extends
                the deadline.
        """
        with self._locks[caller.node_id]:
            return self._begin(caller, bundle)

    def _begin(self, caller: Caller, bundle: bytes) -> Standing:
        bundle_sha256 = sha256_hex(bundle)
        sealed_sha256 = ""
        try:
            accepted = self._accepted_of(caller)
            if accepted is not None and accepted["bundle_sha256"] == bundle_sha256:
                return _accepted_standing(accepted)
            self._refusals.require_new(caller.node_id, bundle_sha256)
            announced = self._verifier.announcement(bundle, caller)
            sealed_sha256 = announced.sealed_sha256
            if withdrawal_of(self._store, caller.node_id, sealed_sha256) is not None:
                raise _withdrawn(caller.node_id)
            if accepted is not None:
                if accepted["sealed_sha256"] == sealed_sha256:
                    return _accepted_standing(accepted)
                raise self._already_accepted(caller)
            self._require_taking()
            self._require_in_sum(caller)
        except CallError:
            raise
        except RefusedError as error:
            self._refusals.record(caller.node_id, bundle_sha256, sealed_sha256, error)
            raise
        return self._open(caller, announced)

    def _open(self, caller: Caller, announced: Announcement) -> Standing:
        # The same node and statement always give the same name, so repeating the call finds the same upload.
        upload_id = sha256_hex(f"{caller.node_id} {announced.bundle_sha256}".encode())[:32]
        # Twice: what is accepted is written anew beside what was sent.
        self._quota.require_room(2 * announced.predicate.sealed_size - _size(self._home.part(upload_id)))
        with self._store.transaction():
            self._require_current(caller)
            earlier = self._store.row("SELECT upload_id FROM uploads WHERE node_id = ?", caller.node_id)
            if earlier is None or earlier["upload_id"] != upload_id:
                self._store.write(
                    "INSERT OR REPLACE INTO uploads (upload_id, node_id, bundle, bundle_sha256, sealed_sha256, "
                    "sealed_size, model_size) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    upload_id,
                    caller.node_id,
                    announced.bundle,
                    announced.bundle_sha256,
                    announced.sealed_sha256,
                    announced.predicate.sealed_size,
                    announced.predicate.model_size,
                )
        if earlier is not None and earlier["upload_id"] != upload_id:
            remove(self._home.part(earlier["upload_id"]))
        return self.standing(caller, upload_id)

    def standing(self, caller: Caller, upload_id: str) -> Standing:
        """Where an upload of this node stands.

        Raises:
            CallError: "unknown-upload".
        """
        accepted = self._accepted_of(caller)
        if accepted is not None and accepted["upload_id"] == upload_id:
            return _accepted_standing(accepted)
        self._upload(caller, upload_id)
        checking = self._checking.is_checking(upload_id)
        return Standing(upload_id, _size(self._home.part(upload_id)), False, checking)

    def keep(self, caller: Caller, upload_id: str, offset: int, pieces: list[Piece]) -> int:
        """Keep pieces that follow each other from `offset` on, which is where what is kept has to end; the number of bytes kept then. Where
        one is refused, those before it are kept.

        Raises:
            CallError: "unknown-upload", "bad-offset", "bad-crc", "too-large", "too-much-data", "aggregating", "waiting".
            NoRoomError: the disk is full.
            RefusedError: "round-closed".
        """
        with self._locks[caller.node_id]:
            row = self._upload(caller, upload_id)
            self._require_taking()
            part = self._home.part(upload_id)
            kept = _size(part)
            if offset != kept:
                raise CallError(
                    grpc.StatusCode.OUT_OF_RANGE,
                    "bad-offset",
                    f"{kept} bytes are kept; ask for Status and go on there",
                )
            good, refused = _good(pieces, row["sealed_size"] - offset)
            size = sum(map(len, good))
            self._quota.require_room(
                size
            )  # first: what finds no room is not counted, however often it is tried
            self._quota.count(caller.node_id, size)
            _append(part, kept, good)
            if refused is not None:
                raise refused
            return kept + size

    def commit(self, caller: Caller, upload_id: str) -> tuple[bytes, bytes]:
        """Verify a complete upload and accept it: its receipt (tlog-proof) and its ledger entry. Idempotent.

        Raises:
            CallError: "unknown-upload", "incomplete", "aggregating", "waiting"; "checking": ask again.
            RefusedError: "digest-mismatch" (send it again) or a check of `Verifier.model` (final).
        """
        with self._locks[caller.node_id]:
            accepted = self._accepted_of(caller)
            if accepted is not None and accepted["upload_id"] == upload_id:
                return self._receipt(caller)
            row = self._upload(caller, upload_id)
            if not self._checking.is_checking(upload_id):
                self._refusals.require_new(caller.node_id, row["bundle_sha256"])
                self._require_complete(row)
        if not self._checking.ended(caller.node_id, upload_id, lambda: self._check(caller, row)):
            raise CallError(
                grpc.StatusCode.UNAVAILABLE,
                "checking",
                "the coordinator has the whole model and is still checking it; run submit again for the receipt",
            )
        return self._receipt(caller)

    def _check(self, caller: Caller, row: Row) -> None:
        """Accept a complete upload, or refuse it for good and say so in the ledger."""
        upload_id = row["upload_id"]
        try:
            accepted = self._accepted_of(caller)
            if accepted is not None and accepted["upload_id"] == upload_id:
                return  # asked for twice at once
            self._require_taking()
            sealed = self._checked_bytes(caller, row)
            with self._locks[caller.node_id]:
                self._upload(caller, upload_id)  # no other has taken its place meanwhile
                self._accept(caller, row, sealed)
        except CallError:
            raise
        except RefusedError as error:
            with self._locks[caller.node_id]:
                final = error.reason not in ("digest-mismatch", "round-closed")
                self._refusals.record(
                    caller.node_id, row["bundle_sha256"], row["sealed_sha256"], error, final=final
                )
                if error.reason != "round-closed":
                    remove(self._home.part(upload_id))
            raise

    def _require_current(self, caller: Caller) -> None:
        """Call inside the transaction: the node's keys may have been revoked or replaced since the call began."""
        if not is_current(self._store, caller.node_id, caller.signing_key):
            replaced = is_replaced(self._store, caller.node_id, caller.signing_key)
            error = (replaced_error if replaced else revoked_error)(caller.node_id)
            raise CallError(grpc.StatusCode.PERMISSION_DENIED, error.reason, str(error))

    def _already_accepted(self, caller: Caller) -> RefusedError:
        accepted = self._accepted_of(caller)
        assert accepted is not None
        signer = signer_of(self._store, caller.node_id, bytes(accepted["bundle"]))
        return _already_accepted(caller.node_id, by_earlier=signer != caller.signing_key)

    def _require_complete(self, row: Row) -> None:
        if (kept := _size(self._home.part(row["upload_id"]))) < row["sealed_size"]:
            raise CallError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "incomplete",
                f"only {kept} of {row['sealed_size']} bytes are kept; ask for Status and go on there",
            )

    def _require_taking(self) -> None:
        if self._store.fact(CONTINUITY_FACT) is not None:
            raise CallError(grpc.StatusCode.FAILED_PRECONDITION, "restored", RESTORED)
        state = round_state(self._store)
        if state == OPEN or (self._takes_late and state == PUBLISHED):
            return
        if self._takes_late and state == AGGREGATING:
            raise CallError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "aggregating",
                "the global model is being trained; this study takes late models as soon as it is published, so submit again then",
            )
        if state == WAITING:
            raise CallError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "waiting",
                f"no model is taken now: {self._store.text('detail')}; ask that operator, and submit again if the round is opened again",
            )
        raise _round_closed()

    def _require_in_sum(self, caller: Caller) -> None:
        if self._masked is not None:
            self._masked.require_upload(caller.node_id)

    def _checked_bytes(self, caller: Caller, row: Row) -> bytes:
        self._require_complete(row)
        sealed = self._home.part(row["upload_id"]).read_bytes()
        if sha256_hex(sealed) != row["sealed_sha256"]:
            raise RefusedError(
                "digest-mismatch",
                "the bytes that arrived are not those the statement names; begin the upload again",
            )
        key = read_round_key(self._home)
        self._verifier.model(sealed, caller.node_id, caller.signing_key, bytes(row["bundle"]), key)
        return sealed

    def _accept(self, caller: Caller, row: Row, sealed: bytes) -> None:
        """The bytes first, then the one transaction that makes them count."""
        # Written anew from what was verified; the upload stays until the commit, in case a kill comes before it.
        write_atomic(self._home.artifact(row["sealed_sha256"]), sealed)
        with self._store.transaction():
            self._require_current(caller)
            self._require_taking()
            self._require_in_sum(caller)
            if self._accepted_of(caller) is not None:
                raise self._already_accepted(caller)
            if withdrawal_of(self._store, caller.node_id, row["sealed_sha256"]) is not None:
                raise _withdrawn(caller.node_id)
            position = self._store.append_entry(
                encode(
                    AcceptedEntry(
                        round_id=self._round_id,
                        node_id=caller.node_id,
                        sealed_sha256=row["sealed_sha256"],
                        bundle_sha256=row["bundle_sha256"],
                        size=row["sealed_size"],
                    )
                )
            )
            self._store.write(
                "INSERT INTO artifacts (node_id, upload_id, bundle, bundle_sha256, sealed_sha256, sealed_size, "
                "model_size, position) SELECT node_id, upload_id, bundle, bundle_sha256, sealed_sha256, "
                "sealed_size, model_size, ? FROM uploads WHERE upload_id = ?",
                position,
                row["upload_id"],
            )
            self._store.write("DELETE FROM uploads WHERE upload_id = ?", row["upload_id"])
        remove(self._home.part(row["upload_id"]))
        self._journal.decision(
            "accepted",
            f"the model of {caller.node_id} is accepted",
            node=caller.node_id,
            sealed_sha256=row["sealed_sha256"],
            size=row["sealed_size"],
        )
        self._accepted()

    def _receipt(self, caller: Caller) -> tuple[bytes, bytes]:
        # A receipt is made once and kept: whoever asks again gets the very same bytes although the ledger has grown.
        self._log.publish()
        self._log.fill_receipts()
        row = self._accepted_of(caller)
        if row is None:
            raise _withdrawn(caller.node_id)  # just now
        return bytes(row["receipt"]), self._store.entry(row["position"])

    def _accepted_of(self, caller: Caller) -> Row | None:
        return self._store.row("SELECT * FROM artifacts WHERE node_id = ?", caller.node_id)

    def _upload(self, caller: Caller, upload_id: str) -> Row:
        row = self._store.row(
            "SELECT * FROM uploads WHERE upload_id = ? AND node_id = ?", upload_id, caller.node_id
        )
        if row is None:
            self._require_current(caller)
            raise CallError(
                grpc.StatusCode.NOT_FOUND,
                "unknown-upload",
                "there is no such upload of this node; call Begin first",
            )
        return row


def _good(pieces: list[Piece], room: int) -> tuple[list[bytes], CallError | None]:
    """The data of the pieces up to the first that is refused, and why that one is, if any is."""
    good: list[bytes] = []
    for data, crc32 in pieces:
        room -= len(data)
        if len(data) > MAX_PIECE or room < 0:
            return good, CallError(
                grpc.StatusCode.OUT_OF_RANGE,
                "too-large",
                "the upload holds more than its statement announced, or one piece more than 1 MiB; send it again",
            )
        if zlib.crc32(data) != crc32:
            return good, CallError(
                grpc.StatusCode.DATA_LOSS,
                "bad-crc",
                "a piece was damaged on the way; ask for Status and go on there",
            )
        good.append(data)
    return good, None


def _append(part: Path, kept: int, pieces: list[bytes]) -> None:
    """Whole pieces only, whatever happens."""
    try:
        part.parent.mkdir(exist_ok=True)
        failpoints.at("append", part)
        with part.open("ab") as target:
            for data in pieces:
                target.write(data)
                target.flush()
                kept += len(data)
        failpoints.at("appended", part)
    except OSError as error:
        if part.exists():
            os.truncate(part, kept)
        raise NoRoomError(
            f"cannot write {part}: {error.strerror or 'input/output error'}; free some space or check the folder's permissions"
        ) from None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _accepted_standing(row: Row) -> Standing:
    return Standing(row["upload_id"], row["sealed_size"], True)


def _already_accepted(node_id: str, *, by_earlier: bool) -> RefusedError:
    under = ", sent under its earlier keys, and stands" if by_earlier else ""
    return RefusedError(
        "already-accepted",
        f"another model of {node_id} is accepted in this round{under}; each node sends one, and epgfn-node withdraw takes it back before "
        "it is aggregated",
    )


def _withdrawn(node_id: str) -> RefusedError:
    return RefusedError(
        "withdrawn", f"{node_id} has withdrawn this model; approve one again to send it, which seals it anew"
    )


def _round_closed() -> RefusedError:
    return RefusedError(
        "round-closed",
        "the round takes no more models; ask the coordinator's operator whether another one opens",
    )

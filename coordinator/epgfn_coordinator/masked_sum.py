"""A masked sum in a round: what each node has said, which lists are closed, and the total, which alone the coordinator can read.

    keys        closes when the whole roster has sent its keys     } or when the operator closes it, with a quorum of nodes at least
    shares      closes when each of these has sent its shares      }
    uploads     closes when the round does, which is aggregating then
    signing     closes when a quorum has signed whose total it is
    unmasking   closes when a quorum has said what takes the masks off; then there is a total

What was said and what was closed is in the state, and each closed list is a ledger entry: a node acts on no other. `epgfn.masking` decides
what may be said when; here it is kept, and made again from that after a restart. What arrived and the list that it closes are one
transaction, so that a kill leaves either both or neither.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import grpc
import numpy as np

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import sha256_hex
from epgfn.ledger.entries import EnrolledEntry, RotatedEntry, SumListEntry, SumStep, encode, parse
from epgfn.masking.gathering import Gathering
from epgfn.masking.masks import Terms, Vector
from epgfn.masking.messages import Keys, parse_list
from epgfn.run.layout import AGGREGATING, OPEN, WAITING
from epgfn.sealing.predicates import SumPartPredicate
from epgfn.sealing.sum_part import require_part
from epgfn.study import Study
from epgfn_coordinator.continuity import RESTORED
from epgfn_coordinator.identity import Caller
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.known_keys import is_current
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.revocation import revoked_error
from epgfn_coordinator.services.calls import CallError
from epgfn_coordinator.store import CONTINUITY_FACT, Store
from epgfn_coordinator.sum_lists import STEPS, due, expected, list_at, nodes_of, said_at

_UNREAD: Final = np.zeros(0, np.uint64)
"""In the place of masked numbers, which stay sealed until there is a total."""


class Statement(NamedTuple):
    """What a node has said, and the ledger entry by which the key that signed it is the node's."""

    bundle: bytes
    payload: bytes
    key_entry: bytes
    key_receipt: bytes


class Closed(NamedTuple):
    """A closed list: its step, its ledger entry and the entry's tlog-proof."""

    step: SumStep
    entry: bytes
    receipt: bytes


class MaskedSum:
    """That of one round. Methods may be called from any thread."""

    def __init__(
        self,
        study: Study,
        round_id: str,
        store: Store,
        log: PublishedLog,
        journal: Journal,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called when a list was closed."""
        self._study, self._round_id = study, round_id
        self._store, self._log, self._journal, self._changed = store, log, journal, changed
        # Nothing that is said depends on how many numbers there are.
        self._terms = Terms(study.digest, round_id, tuple(study.roster), study.aggregation.quorum, 0)
        self._known: Gathering | None = None

    # What there is ----------------------------------------------------------------------------------------------

    def due(self) -> SumStep | None:
        """What nodes are to say now; None where the total can be had, or the round has ended."""
        return due(self._store)

    def missing(self) -> tuple[str, ...]:
        """Nodes that may still say what is due."""
        step = self.due()
        if step is None:
            return ()
        return tuple(sorted(set(expected(self._study, self._store, step)) - set(said_at(self._store, step))))

    def lists(self) -> list[Closed]:
        """Those that are closed, in their order."""
        found = [row for step in STEPS if (row := list_at(self._store, step)) is not None]
        return [
            Closed(row["step"], self._store.entry(row["position"]), self._log.receipt(row["position"]))
            for row in found
        ]

    @property
    def is_gathering(self) -> bool:
        """Whether keys or shares are still to come before anybody can upload."""
        return list_at(self._store, "shares") is None

    @property
    def is_complete(self) -> bool:
        """Whether the total can be had."""
        return list_at(self._store, "unmasking") is not None

    def statement(self, step: SumStep, node: str) -> Statement:
        """What a node of a closed list has said.

        Raises:
            CallError: "unknown-statement": there is none, or nobody else may read it.
        """
        row = self._store.row("SELECT * FROM sum_parts WHERE step = ? AND node_id = ?", step, node)
        if step not in ("keys", "shares", "signing") or row is None or list_at(self._store, step) is None:
            raise CallError(
                grpc.StatusCode.NOT_FOUND,
                "unknown-statement",
                "there is no such part of a masked sum to read",
            )
        return Statement(
            bytes(row["bundle"]),
            bytes(row["payload"]),
            self._store.entry(row["key_position"]),
            self._log.receipt(row["key_position"]),
        )

    def total(self, length: int, masked: Mapping[str, Vector]) -> Vector:
        """(L,) the sum of the numbers of everybody whose upload is in the list, from their `masked` ones.

        Raises:
            RefusedError: "share-wrong": shares do not fit each other, and there is no total.
            EpgfnError: `masked` is of others.
        """
        gathered = self._gathered()
        if tuple(sorted(masked)) != gathered.summed:
            raise EpgfnError(
                "the uploads are not those of the masked sum's list; restore the state from a backup"
            )
        if any(vector.shape != (length,) for vector in masked.values()):
            raise EpgfnError("an upload does not hold as many numbers as the study asks for")
        terms = dataclasses.replace(self._terms, length=length)
        return dataclasses.replace(gathered, terms=terms, masked=masked).total()

    # What is said -----------------------------------------------------------------------------------------------

    def send(self, caller: Caller, step: SumStep, bundle: bytes, payload: bytes) -> None:
        """Keep what a node says, and close its step's list if it was the last. Idempotent.

        Raises:
            RefusedError: it is not what the node signed, or `epgfn.masking.gathering` takes it not, or not now; "other-key": the node has
                changed its key since it said its first.
            CallError: "waiting", "restored", "revoked": nothing is taken.
        """
        node = caller.node_id
        if step == "uploads":
            raise RefusedError(
                "malformed", "masked numbers are sent as an upload; update epgfn and run again"
            )
        said = SumPartPredicate(
            study_digest=self._study.digest,
            round_id=self._round_id,
            node_id=node,
            sender_fingerprint=caller.signing_key.fingerprint,
            step=step,
        )
        require_part(bundle, payload, said, caller.signing_key)
        closed = None
        try:
            with self._store.transaction():
                self._require_taking(step)
                if not is_current(self._store, node, caller.signing_key):
                    raise revoked_error(node)
                self._require_same_key(step, caller)
                new = _with(self._gathered(), step, node, payload)
                if new is self._gathered() or self._has_said(step, node):
                    return
                self._store.write(
                    "INSERT INTO sum_parts (node_id, step, bundle, bundle_sha256, payload, key_position) VALUES (?, ?, ?, ?, ?, ?)",
                    node,
                    step,
                    bundle,
                    sha256_hex(bundle),
                    payload,
                    self._key_position(caller),
                )
                self._known = new
                if list_at(self._store, step) is None and self._is_full(step):
                    closed = self._close(step)
        except BaseException:
            self._known = None
            raise
        self._journal.decision(
            "sum-part", f"{node} has sent its part of the masked sum: {step}", node=node, part=step
        )
        if closed is not None:
            self._tell(step, closed)

    def close_early(self) -> str:
        """The operator goes on without nodes whose keys, or shares, are missing: a sentence that says so; empty where too few are there, or
        neither is due. Call inside a transaction, then `tell`."""
        step = self.due()
        if step not in ("keys", "shares"):
            return ""
        said = said_at(self._store, step)
        if len(said) < self._study.aggregation.quorum:
            return ""
        try:
            self._close(step)
        except BaseException:
            self._known = None
            raise
        others = sorted(set(expected(self._study, self._store, step)) - set(said))
        return f"the masked sum goes on with {', '.join(sorted(said))}, without {', '.join(others)}"

    def close_uploads(self) -> None:
        """The round takes no more uploads: the total is of those that are accepted. Call inside that transaction."""
        try:
            self._close("uploads")
        except BaseException:
            self._known = None
            raise

    def require_upload(self, node: str) -> None:
        """Refuse an upload that could not be summed, before it is looked at.

        Raises:
            CallError: "sum-order": keys or shares are still to come; "sum-list": this node is not among those that have sent them.
        """
        if self.is_gathering:
            raise CallError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "sum-order",
                "masked numbers are due once everybody's keys and shares are there; run the command again later",
            )
        if node not in expected(self._study, self._store, "uploads"):
            raise CallError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "sum-list",
                f"the masked sum of this round goes on without {node}, whose keys or shares were not there in time; ask its operator "
                "whether another round opens",
            )

    # Within -----------------------------------------------------------------------------------------------------

    def _require_taking(self, step: SumStep) -> None:
        if self._store.fact(CONTINUITY_FACT) is not None:
            raise CallError(grpc.StatusCode.FAILED_PRECONDITION, "restored", RESTORED)
        state = self._store.text("state")
        if state == WAITING:
            raise CallError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "waiting",
                f"nothing is taken now: {self._store.text('detail')}; ask that operator, and run the command again if the round is opened "
                "again",
            )
        wanted = OPEN if step in ("keys", "shares") else AGGREGATING
        if state != wanted and not (state == OPEN and wanted == AGGREGATING):
            raise RefusedError(
                "round-closed",
                "the round takes no more; ask the coordinator's operator whether another one opens",
            )

    def _require_same_key(self, step: SumStep, caller: Caller) -> None:
        """The others refuse what is signed with another key than the sum was begun with, and could not go on with it."""
        begun = self._store.row(
            "SELECT key_position FROM sum_parts WHERE step = 'keys' AND node_id = ?", caller.node_id
        )
        if step != "keys" and begun is not None and begun["key_position"] != self._key_position(caller):
            raise RefusedError(
                "other-key",
                f"{caller.node_id} has changed its signing key since it sent its keys for this masked sum, and sits the rest of it out",
            )

    def _gathered(self) -> Gathering:
        """Made from what is kept, once."""
        if self._known is None:
            self._known = self._read()
        return self._known

    def _read(self) -> Gathering:
        found = self._with_parts(Gathering(self._terms), "keys")
        if (closed := nodes_of(self._store, "keys")) is None:
            return found
        found = self._with_parts(dataclasses.replace(found, keyed=closed), "shares")
        if (closed := nodes_of(self._store, "shares")) is None:
            return found
        found = dataclasses.replace(found, sharing=closed)
        if (closed := nodes_of(self._store, "uploads")) is None:
            return found
        found = dataclasses.replace(found, summed=closed, masked=dict.fromkeys(closed, _UNREAD))
        return self._with_parts(self._with_parts(found, "signing"), "unmasking")

    def _with_parts(self, found: Gathering, step: SumStep) -> Gathering:
        for row in self._store.rows("SELECT node_id, payload FROM sum_parts WHERE step = ?", step):
            found = _with(found, step, row["node_id"], bytes(row["payload"]))
        return found

    def _has_said(self, step: SumStep, node: str) -> bool:
        return node in said_at(self._store, step)

    def _is_full(self, step: SumStep) -> bool:
        """Whether all that is needed at this step is there: everybody's keys and shares, and of the others as many as the quorum."""
        said = len(said_at(self._store, step))
        if step in ("signing", "unmasking"):
            return said >= self._study.aggregation.quorum
        return said == len(expected(self._study, self._store, step))

    def _close(self, step: SumStep) -> SumListEntry:
        said = said_at(self._store, step)
        entry = SumListEntry(round_id=self._round_id, step=step, statements=dict(sorted(said.items())))
        position = self._store.append_entry(encode(entry))
        self._store.write("INSERT INTO sum_lists (step, position) VALUES (?, ?)", step, position)
        self._known = None
        return entry

    def _tell(self, step: SumStep, entry: SumListEntry) -> None:
        self._log.publish_now_or_later()
        self._journal.decision(
            "sum-list",
            f"the list of {step} of the masked sum is closed: {', '.join(entry.statements)}",
            part=step,
            nodes=len(entry.statements),
        )
        self._changed()

    def _key_position(self, caller: Caller) -> int:
        """Of the ledger entry by which the caller's key is its own."""
        for position, raw in reversed(list(enumerate(self._store.entries()))):
            entry = parse(raw)
            if isinstance(entry, EnrolledEntry | RotatedEntry) and (entry.node_id, entry.fingerprint) == (
                caller.node_id,
                caller.signing_key.fingerprint,
            ):
                return position
        raise EpgfnError(
            f"the ledger does not say that {caller.node_id} has its key; restore the state from a backup"
        )


def _with(found: Gathering, step: SumStep, node: str, payload: bytes) -> Gathering:
    """With one more part; the very same where it is there already."""
    if step == "keys":
        return found.with_keys(node, Keys.parse(payload))
    if step == "shares":
        return found.with_shares(node, payload)
    if step == "signing":
        return found.with_signature(node, parse_list(payload))
    return found.with_unmasking(node, payload)

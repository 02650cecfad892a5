"""Whether this state is the newest there ever was. A coordinator that goes on from an older one forks its ledger, and no node would ever
follow it again; so until that is clear nothing is entered (`Store.append_entry` refuses), while everything can still be read.

It is unclear after `restore`. Nodes keep the newest checkpoint they have verified, signed by this coordinator, and show it whenever they
ask for another. When every node of the roster has shown one that this ledger contains, nobody has seen more, and the round goes on. So
it does when the operator vouches for it (`serve --backup-is-newest`).

A checkpoint with our own signature that this ledger does not contain is the proof that the state is an older one, restored or put back by
whatever means, whoever shows it: then it is held for good. What a node merely says, without a signature, holds nothing.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, field
from typing import Final, NoReturn

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.ledger.checkpoint import Checkpoint, open_checkpoint
from epgfn.ledger.errors import LedgerError
from epgfn.ledger.note import MAX_NOTE_BYTES, NoteVerifier
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.store import CONTINUITY_FACT, Store

RESTORED: Final = (
    "the coordinator was put back to an earlier state and takes nothing until it is clear that nobody has seen a later one; "
    "run epgfn-node status once, so that it learns what this node has seen, and try again later"
)

STRANGER: Final = "a node that is not enrolled in it"


@dataclass(frozen=True)
class Doubt:
    """What is known about this state. `restored`: when the backup was made, empty if there was none. `heard`: nodes that have shown a
    checkpoint which this ledger contains. `proof_from`: who has shown a checkpoint, of `proof_size` entries, that it does not contain: a
    node, or `STRANGER`."""

    restored: str = ""
    heard: list[str] = field(default_factory=list)
    proof_from: str = ""
    proof_size: int = 0

    def save(self, store: Store) -> None:
        """Hold the ledger."""
        store.set_fact(CONTINUITY_FACT, json.dumps(asdict(self)))


def doubt_in(store: Store) -> Doubt | None:
    """What there is to doubt; None if nothing is."""
    text = store.text(CONTINUITY_FACT)
    return Doubt(**json.loads(text)) if text else None


def why_held(store: Store, roster: list[str]) -> str:
    """Why nothing is entered in the ledger, for the operator; empty if entries are made."""
    doubt = doubt_in(store)
    if doubt is None:
        return ""
    size = store.entries_size()
    if doubt.proof_from:
        return (
            f"this is an older state: {doubt.proof_from} has shown a checkpoint signed by this coordinator over "
            f"{doubt.proof_size} ledger entries, which the {size} here do not contain; nothing is entered, since nodes would take it for a "
            "rewritten ledger: stop serve and restore a newer backup"
        )
    missing = [node for node in roster if node not in doubt.heard]
    return (
        f"restored from a backup of {doubt.restored} with {size} ledger entries; nothing is entered until every node has shown that it has "
        f"seen no more (epgfn-node status does; still missing: {', '.join(missing)}), or, if you know that nothing was entered after that "
        "backup, start serve again with --backup-is-newest"
    )


class Continuity:
    """Watches over one home's ledger. Methods may be called from any thread."""

    def __init__(
        self, store: Store, log: PublishedLog, verifier: NoteVerifier, roster: list[str], journal: Journal
    ) -> None:
        self._store, self._log, self.verifier = store, log, verifier
        self._roster, self._journal = roster, journal
        self._lock = threading.Lock()

    def held(self) -> str:
        """See `why_held`."""
        return why_held(self._store, self._roster)

    def believe(self) -> None:
        """The operator vouches that nothing was entered after the backup.

        Raises:
            EpgfnError: a node has proved the contrary.
        """
        with self._lock:
            doubt = doubt_in(self._store)
            if doubt is None:
                return
            if doubt.proof_from:
                raise EpgfnError(self.held())
            self._release("the operator vouches that nothing is newer than the backup")

    def shown(self, node_id: str, known_size: int, note: bytes) -> None:
        """A node has seen `known_size` entries, and shows the newest signed checkpoint it keeps (empty from a node of before).

        Raises:
            RefusedError: "restored" or "ledger-rolled-back": it has seen more than there is here.
        """
        newest, seen = self._log.publish(), self._own(note)
        if seen is not None and not self._log.is_prefix(seen):
            self._proven(node_id, seen)
            if max(seen.size, known_size) <= newest.size:
                return  # it gets our checkpoint: with its own, that is the evidence of two histories
            self._turn_away()
        if known_size > newest.size:
            self._journal.decision(
                "rolled-back",
                f"{node_id} says that it has seen {known_size} entries of this ledger, which has {newest.size}",
                warn=True,
                caller=node_id,
                node=node_id,
            )
            self._turn_away()
        self._heard(node_id)

    def shown_by_stranger(self, note: bytes) -> None:
        """Somebody who is not enrolled shows a checkpoint: a node that has enrolled after this state, if we have signed it and it is newer.

        Raises:
            RefusedError: "restored" or "ledger-rolled-back", as `shown`.
        """
        seen = self._own(note)
        if seen is not None and not self._log.is_prefix(seen):
            self._proven(STRANGER, seen)
            self._turn_away()

    def _own(self, note: bytes) -> Checkpoint | None:
        """The checkpoint in `note` if we have signed it."""
        if not note or len(note) > MAX_NOTE_BYTES:
            return None
        try:
            return open_checkpoint(note, self.verifier)
        except LedgerError:
            return None

    def _proven(self, node_id: str, seen: Checkpoint) -> None:
        with self._lock:
            doubt = doubt_in(self._store) or Doubt()
            if doubt.proof_from:
                return
            Doubt(doubt.restored, doubt.heard, node_id, seen.size).save(self._store)
        named = {} if node_id == STRANGER else {"node": node_id}
        self._journal.decision("held", self.held(), warn=True, **named)

    def _heard(self, node_id: str) -> None:
        with self._lock:
            doubt = doubt_in(self._store)
            if doubt is None or doubt.proof_from or node_id in doubt.heard:
                return
            heard = sorted([*doubt.heard, node_id])
            if set(self._roster) <= set(heard):
                self._release("every node has shown that it has seen nothing newer than the backup")
            else:
                Doubt(doubt.restored, heard).save(self._store)

    def _release(self, why: str) -> None:
        self._store.write("DELETE FROM facts WHERE name = ?", CONTINUITY_FACT)
        self._journal.decision("released", f"{why}; the round goes on")

    def _turn_away(self) -> NoReturn:
        doubt = doubt_in(self._store)
        if doubt is not None and doubt.restored:
            raise RefusedError(
                "restored",
                "the coordinator was restored from a backup that is older than what this node has seen, and takes nothing; tell its "
                "operator to restore a newer one, then run again",
            )
        raise RefusedError(
            "ledger-rolled-back",
            "this coordinator's ledger is shorter than the one you have seen: it was rolled back or replaced; "
            "tell its operator and send nothing",
        )

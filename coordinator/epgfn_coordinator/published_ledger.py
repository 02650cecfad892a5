"""The ledger as others see it: the directory `ledger/`, published from the entries in the state."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from epgfn.base.errors import EpgfnError
from epgfn.ledger import TileLog
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.merkle import MerkleTree, leaf_hash
from epgfn_coordinator.home import Home
from epgfn_coordinator.journal import LOG
from epgfn_coordinator.keys import Keys
from epgfn_coordinator.store import Store


class PublishedLog:
    """Publishes what the state has committed and proves things about it. Methods may be called from any thread."""

    def __init__(self, home: Home, store: Store, keys: Keys) -> None:
        self._store = store
        self._tiles = TileLog(home.ledger, keys.ledger)
        self._lock = threading.RLock()
        self._tree = MerkleTree()
        self._entries: list[bytes] = []  # those that are published; the log holds the same ones

    def publish(self) -> Checkpoint:
        """Bring `ledger/` up to the state and return its checkpoint. Nothing is acknowledged before this.

        Raises:
            LedgerError: the state does not continue what was published (it was restored from an old backup).
            EpgfnError: the directory cannot be written; the entry stays committed and the next call publishes it.
        """
        with self._lock:
            size = self._store.entries_size()
            if not size or size != self._tree.size:
                if size < self._tree.size:
                    self._entries = []  # all are given, so that the log can say that they do not continue it
                more = self._store.entries(len(self._entries))
                self._tiles.publish([*self._entries, *more])
                self._entries += more
                for entry in more:
                    self._tree.append(leaf_hash(entry))
            return self._tiles.checkpoint

    def publish_now_or_later(self) -> None:
        """Publish for an operator, whose command is done once it is committed: where that does not work now, the next call does it."""
        try:
            self.publish()
        except EpgfnError as error:
            LOG.error("committed, but the ledger cannot be published now: %s", error)

    def receipt(self, position: int) -> bytes:
        """A tlog-proof that the entry at `position` is in the published ledger."""
        with self._lock:
            self.publish()
            return self._tiles.receipt(position)

    def is_prefix(self, seen: Checkpoint) -> bool:
        """Whether a checkpoint someone saw is an earlier state of this very ledger."""
        with self._lock:
            newest = self.publish()
            same = seen.origin == newest.origin and not seen.extensions
            return same and seen.size <= newest.size and self._tree.root(seen.size) == seen.root

    def proof_since(self, size: int) -> tuple[bytes, list[bytes]]:
        """The published checkpoint note and the proof that it extends the ledger's first `size` entries.

        `size` must not exceed the published size.
        """
        with self._lock:
            newest = self.publish().size
            return self._tiles.note, self._tiles.consistency_proof(size) if size < newest else []

    def proofs_since(self, sizes: Iterable[int]) -> tuple[bytes, dict[int, list[bytes]]]:
        """The same for several sizes, by size, all of the same checkpoint."""
        with self._lock:
            newest = self.publish().size
            proofs = {
                size: self._tiles.consistency_proof(size) if size < newest else []
                for size in sorted(set(sizes))
            }
            return self._tiles.note, proofs

    def fill_receipts(self) -> None:
        """Make the receipts that a kill or a full disk kept from being made, so that each accepted artifact has one."""
        for row in self._store.rows("SELECT position FROM artifacts WHERE receipt IS NULL"):
            self._store.write(
                "UPDATE artifacts SET receipt = ? WHERE position = ? AND receipt IS NULL",
                self.receipt(row["position"]),
                row[
                    "position"
                ],  # and not of another model that its node has sent meanwhile, having withdrawn this one
            )

"""Refused artifacts: each is recorded in the ledger once, and a bounded number of times for one node."""

from __future__ import annotations

from epgfn.base.errors import RefusedError
from epgfn.ledger.entries import RefusedEntry, encode
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.store import Store

NO_DIGEST = "0" * 64
MAX_RECORDED = 100  # refusals of one node in the ledger; beyond that nothing new of it is looked at


class Refusals:
    """The record of what was not taken, and why."""

    def __init__(self, store: Store, log: PublishedLog, journal: Journal, round_id: str) -> None:
        self._store, self._log, self._journal, self._round_id = store, log, journal, round_id

    def record(
        self,
        node_id: str,
        bundle_sha256: str,
        sealed_sha256: str,
        error: RefusedError,
        *,
        final: bool = False,
    ) -> None:
        """Enter a refusal in the ledger unless it is there already.

        `sealed_sha256` is empty where no statement could be verified; the ledger then says NO_DIGEST.
        `final`: the same bytes need not be tried again.
        """
        self._journal.decision(
            "refused",
            str(error),
            warn=True,
            caller=node_id,
            node=node_id,
            reason=error.reason,
            bundle=bundle_sha256[:16],
        )
        key = (node_id, bundle_sha256, error.reason)
        with self._store.transaction():
            known = self._store.rows("SELECT * FROM refusals WHERE node_id = ?", node_id)
            if len(known) >= MAX_RECORDED or any(tuple(row)[:3] == key for row in known):
                return
            self._store.write(
                "INSERT INTO refusals (node_id, bundle_sha256, reason, sentence, final) VALUES (?, ?, ?, ?, ?)",
                *key,
                str(error),
                int(final),
            )
            self._store.append_entry(
                encode(
                    RefusedEntry(
                        round_id=self._round_id,
                        node_id=node_id,
                        sealed_sha256=sealed_sha256 or NO_DIGEST,
                        bundle_sha256=bundle_sha256,
                        reason=error.reason,
                    )
                )
            )
        self._log.publish()

    def require_new(self, node_id: str, bundle_sha256: str) -> None:
        """Refuse an artifact that was found bad before, and any of a node that has filled its share of the ledger: to open
        and try a model costs seconds that others wait for.

        Raises:
            RefusedError: with the reason of then, or "too-many-refusals".
        """
        row = self._store.row(
            "SELECT * FROM refusals WHERE node_id = ? AND bundle_sha256 = ? AND final = 1",
            node_id,
            bundle_sha256,
        )
        if row is not None:
            raise RefusedError(row["reason"], row["sentence"])
        known = self._store.row("SELECT COUNT(*) AS size FROM refusals WHERE node_id = ?", node_id)
        if known is not None and known["size"] >= MAX_RECORDED:
            raise RefusedError(
                "too-many-refusals",
                f"{MAX_RECORDED} uploads of {node_id} were refused in this round, so no more are considered; "
                "tell the coordinator's operator",
            )

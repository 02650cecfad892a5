"""A node takes back what it sent, by its signed word, before it is aggregated: entered in the ledger, not aggregated, and deleted."""

from __future__ import annotations

from typing import Final

from epgfn.base.errors import RefusedError
from epgfn.base.files import remove, sha256_hex
from epgfn.ledger.entries import WithdrawnByNodeEntry, encode
from epgfn.run.layout import OPEN, WAITING
from epgfn_coordinator.continuity import RESTORED
from epgfn_coordinator.home import Home
from epgfn_coordinator.identity import Caller
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.known_keys import is_current, is_replaced, replaced_error
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.revocation import revoked_error
from epgfn_coordinator.round import round_state, withdrawal_of
from epgfn_coordinator.store import CONTINUITY_FACT, Store
from epgfn_coordinator.verify import Verifier

MAX_WITHDRAWALS: Final = 10
"""Of one node: each costs two ledger entries and a check of what is sent instead."""


class Withdrawal:
    """Takes accepted models of one round back. Methods may be called from any thread."""

    def __init__(
        self, home: Home, store: Store, log: PublishedLog, verifier: Verifier, journal: Journal
    ) -> None:
        self._home, self._store, self._log = home, store, log
        self._verifier, self._journal = verifier, journal
        self._round_id = store.text("round_id")

    def accepted(self, caller: Caller) -> tuple[bytes, bytes]:
        """The ledger entry that accepted the caller's model, and its tlog-proof; empty where none counts."""
        row = self._store.row("SELECT position FROM artifacts WHERE node_id = ?", caller.node_id)
        return (b"", b"") if row is None else self._proved(row["position"])

    def withdraw(self, caller: Caller, bundle: bytes) -> tuple[bytes, bytes]:
        """Take the caller's model back: the ledger entry that says so, and its tlog-proof. Idempotent.

        Raises:
            RefusedError: see `Verifier.withdrawal`; "not-accepted": it is no accepted model of this node; "too-late": it is being
                aggregated, or has been; "excluded": it does not count as it is; "too-many-withdrawals".
        """
        sealed_sha256, seen = self._verifier.withdrawal(bundle, caller)
        with self._store.transaction():
            known = withdrawal_of(self._store, caller.node_id, sealed_sha256)
            if known is None:
                position = self._withdraw(caller, bundle, sealed_sha256, seen)
        if known is not None:
            return self._proved(known["position"])
        # Named by nothing any more; after a kill before this line the next start removes it.
        remove(self._home.artifact(sealed_sha256))
        self._journal.decision(
            "withdrawn",
            f"{caller.node_id} has withdrawn its model",
            warn=True,
            caller=caller.node_id,
            node=caller.node_id,
            sealed_sha256=sealed_sha256,
        )
        return self._proved(position)

    def _withdraw(self, caller: Caller, bundle: bytes, sealed_sha256: str, seen: int) -> int:
        node_id, state = caller.node_id, round_state(self._store)
        if not is_current(self._store, node_id, caller.signing_key):
            replaced = is_replaced(self._store, node_id, caller.signing_key)
            raise (replaced_error if replaced else revoked_error)(node_id)
        if self._store.fact(CONTINUITY_FACT) is not None:
            raise RefusedError("restored", RESTORED)
        found = self._store.row(
            "SELECT position FROM artifacts WHERE node_id = ? AND sealed_sha256 = ?", node_id, sealed_sha256
        )
        if found is None:
            raise RefusedError(
                "not-accepted", f"no such model of {node_id} is accepted, so there is nothing to withdraw"
            )
        if seen <= found["position"]:
            raise RefusedError(
                "malformed",
                "the withdrawal quotes a ledger from before the model was accepted; run epgfn-node withdraw again",
            )
        if state not in (OPEN, WAITING):
            raise RefusedError(
                "too-late",
                f"the round is {state}, and a model can be withdrawn only before it is aggregated; ask the coordinator's operator "
                "whether the round is to be abandoned",
            )
        if self._store.row("SELECT 1 FROM exclusions WHERE node_id = ?", node_id) is not None:
            raise RefusedError("excluded", f"the model of {node_id} was excluded and does not count as it is")
        before = self._store.row("SELECT COUNT(*) AS size FROM withdrawals WHERE node_id = ?", node_id)
        if before is not None and before["size"] >= MAX_WITHDRAWALS:
            raise RefusedError(
                "too-many-withdrawals",
                f"{node_id} has withdrawn {MAX_WITHDRAWALS} models in this round, and no more; ask the coordinator's operator",
            )
        entry = WithdrawnByNodeEntry(
            round_id=self._round_id,
            node_id=node_id,
            sealed_sha256=sealed_sha256,
            bundle_sha256=sha256_hex(bundle),
        )
        position = self._store.append_entry(encode(entry))
        self._store.write(
            "INSERT INTO withdrawals (position, node_id, sealed_sha256, bundle) VALUES (?, ?, ?, ?)",
            position,
            node_id,
            sealed_sha256,
            bundle,
        )
        self._store.write("DELETE FROM artifacts WHERE node_id = ?", node_id)
        return position

    def _proved(self, position: int) -> tuple[bytes, bytes]:
        return self._store.entry(position), self._log.receipt(position)

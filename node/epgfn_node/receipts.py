"""Receipts: proofs that the coordinator's log holds an entry that says exactly what we expect."""

from __future__ import annotations

from typing import Any

from epgfn.base.canonical import canonical_json
from epgfn.base.errors import RefusedError
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.proof import verify_proof
from epgfn_node.trust import Trust

MAX_RECEIPT_BYTES = 1 << 16


def verified_receipt(receipt: bytes, entry: bytes, trust: Trust) -> Checkpoint:
    """The checkpoint under which `receipt` proves that `entry` is in the log with the pinned key.

    Raises:
        RefusedError: it does not.
    """
    if max(len(receipt), len(entry)) > MAX_RECEIPT_BYTES:
        raise RefusedError("bad-receipt", "the receipt is far too long; ask the coordinator's operator")
    _, checkpoint = verify_proof(receipt, entry, trust.ledger, strict=True)
    return checkpoint


def require_entry(entry: bytes, expected: dict[str, Any], otherwise: str) -> None:
    """Check that a ledger entry holds exactly the `expected` fields.

    Raises:
        RefusedError: "bad-receipt" with the sentence `otherwise`.
    """
    if entry != canonical_json(expected):  # by its bytes: as values, 1.0 and true would be 1
        raise RefusedError("bad-receipt", f"{otherwise}; keep your files and tell the coordinator's operator")

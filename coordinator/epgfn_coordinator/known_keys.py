"""Whose keys were ever enrolled: those that count, and those that were revoked or replaced, under which an accepted model
may stand."""

from __future__ import annotations

from sqlite3 import Row

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import VerifyKey
from epgfn_coordinator.store import Store


def signing_keys(store: Store, node_id: str) -> list[VerifyKey]:
    """All that a node has enrolled with, the newest first."""
    rows = store.rows("SELECT signing_key FROM nodes WHERE node_id = ?", node_id)
    rows += store.rows(
        "SELECT signing_key, position FROM revocations WHERE node_id = ? "
        "UNION ALL SELECT signing_key, position FROM rotations WHERE node_id = ? ORDER BY position DESC",
        node_id,
        node_id,
    )
    return [VerifyKey.from_pem(bytes(row["signing_key"])) for row in rows]


def signer_of(store: Store, node_id: str, bundle: bytes) -> VerifyKey:
    """Which of a node's keys has signed a bundle that was accepted from it.

    Raises:
        EpgfnError: none; the state is damaged.
    """
    for key in signing_keys(store, node_id):
        try:
            verify_bundle(bundle, key)
        except RefusedError:
            continue
        return key
    raise EpgfnError(
        f"no key that {node_id} has enrolled with has signed its accepted model; restore the state from a backup"
    )


def require_not_replaced(store: Store, node_id: str, bundle: bytes) -> None:
    """
    Raises:
        RefusedError: "key-replaced": a key has signed the bundle in whose place the node has put another.
    """
    for row in store.rows("SELECT signing_key FROM rotations WHERE node_id = ?", node_id):
        try:
            verify_bundle(bundle, VerifyKey.from_pem(bytes(row["signing_key"])))
        except RefusedError:
            continue
        raise replaced_error(node_id)


def replaced_error(node_id: str) -> RefusedError:
    """What somebody is told who signs with a key that its node has replaced."""
    return RefusedError(
        "key-replaced",
        f"this is signed with a key of {node_id} in whose place it has put another; approve or write it again, which signs it anew",
    )


def is_replaced(store: Store, node_id: str, key: VerifyKey) -> bool:
    """Whether a node has put another key in the place of this one."""
    found = store.row(
        "SELECT 1 FROM rotations WHERE node_id = ? AND signing_fingerprint = ?", node_id, key.fingerprint
    )
    return found is not None


def is_current(store: Store, node_id: str, key: VerifyKey) -> bool:
    """Whether a node still signs with this key. Ask inside the transaction that rests on it."""
    row = store.row("SELECT signing_fingerprint FROM nodes WHERE node_id = ?", node_id)
    return row is not None and row["signing_fingerprint"] == key.fingerprint


def revocation_of(store: Store, tls_fingerprint: str) -> Row | None:
    """The revocation of the TLS key with that fingerprint."""
    return store.row("SELECT * FROM revocations WHERE tls_fingerprint = ?", tls_fingerprint)


def revoked_nodes(store: Store) -> list[str]:
    """Nodes whose keys are revoked and that have not enrolled again; sorted."""
    rows = store.rows(
        "SELECT DISTINCT node_id FROM revocations WHERE node_id NOT IN (SELECT node_id FROM nodes) ORDER BY node_id"
    )
    return [row["node_id"] for row in rows]

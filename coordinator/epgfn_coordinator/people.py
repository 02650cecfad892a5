"""Who has enrolled, over all rounds of a coordinator: a node id is one institution, with the same keys in each round whose roster names it.

Each round keeps for itself who is enrolled in it, since its ledger says so. What is newly enrolled, revoked or renewed in one round gets
into the others by `share`, which may be called again and again: keys are only ever added and only ever revoked, so whatever order a kill
leaves behind, in the end all rounds know the same. Until a round does, a key that is revoked in any round opens none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from sqlite3 import Row
from typing import NamedTuple

from epgfn.base.errors import EpgfnError
from epgfn.ledger.entries import EnrolledEntry, encode
from epgfn.sealing.pki import ends_at
from epgfn_coordinator.known_keys import revocation_of
from epgfn_coordinator.store import Store


class Member(NamedTuple):
    """One round: its state and its roster."""

    store: Store
    roster: frozenset[str]


def share(rounds: Sequence[Member]) -> list[str]:
    """Enrol everybody in each round whose roster names them, with the keys they have in another, and keep the newest certificate of each
    in all; who was enrolled where they were not. A round that takes no entries now is left as it is, for the next time."""
    if len(rounds) < 2:
        return []
    known = _known(rounds)
    shared = []
    for member in rounds:
        own = {row["node_id"]: row for row in member.store.rows("SELECT * FROM nodes")}
        for node_id, row in known.items():
            with contextlib.suppress(EpgfnError):
                if node_id not in own:
                    if node_id in member.roster and _enrol(member, rounds, row):
                        shared.append(node_id)
                elif own[node_id]["certificate"] != row["certificate"]:
                    _renew(member.store, row)
    return sorted(set(shared))


def _known(rounds: Sequence[Member]) -> dict[str, Row]:
    """The row of each node whose keys count, with the certificate that ends last."""
    known: dict[str, Row] = {}
    for member in rounds:
        for row in member.store.rows("SELECT * FROM nodes"):
            before = known.setdefault(row["node_id"], row)
            same = before["tls_fingerprint"] == row["tls_fingerprint"]
            newer = same and before["certificate"] != row["certificate"]
            if newer and ends_at(bytes(row["certificate"])) > ends_at(bytes(before["certificate"])):
                known[row["node_id"]] = row
    return {
        node_id: row for node_id, row in known.items() if revoked_in(rounds, row["tls_fingerprint"]) is None
    }


def _enrol(member: Member, rounds: Sequence[Member], row: Row) -> bool:
    node_id = row["node_id"]
    if taken_in(rounds, node_id, row["tls_fingerprint"], row["signing_fingerprint"]):
        return False
    with member.store.transaction():
        if member.store.row("SELECT 1 FROM nodes WHERE node_id = ?", node_id) is not None:
            return False  # meanwhile
        enter(member.store, node_id, row)
    return True


def enter(store: Store, node_id: str, keys: Row | dict[str, str | bytes]) -> None:
    """Enrol a node in one round, with its ledger entry. Call inside a transaction."""
    store.write(
        "INSERT INTO nodes (node_id, tls_fingerprint, signing_fingerprint, signing_key, certificate) VALUES (?, ?, ?, ?, ?)",
        node_id,
        keys["tls_fingerprint"],
        keys["signing_fingerprint"],
        keys["signing_key"],
        keys["certificate"],
    )
    key = bytes(keys["signing_key"]).decode("ascii")  # type: ignore[arg-type]
    entry = EnrolledEntry(node_id=node_id, signing_key=key, fingerprint=str(keys["signing_fingerprint"]))
    store.append_entry(encode(entry))


def _renew(store: Store, row: Row) -> None:
    store.write(
        "UPDATE nodes SET certificate = ? WHERE node_id = ? AND tls_fingerprint = ?",
        row["certificate"],
        row["node_id"],
        row["tls_fingerprint"],
    )


def revoked_in(rounds: Iterable[Member], tls_fingerprint: str) -> Row | None:
    """The revocation of the TLS key with that fingerprint, in whichever round."""
    for member in rounds:
        if (found := revocation_of(member.store, tls_fingerprint)) is not None:
            return found
    return None


def taken_in(rounds: Iterable[Member], node_id: str, *fingerprints: str) -> bool:
    """Whether one of these keys is another node's, or this node has others, in whichever round."""
    places = ", ".join("?" * len(fingerprints))
    mine = f"tls_fingerprint IN ({places}) AND signing_fingerprint IN ({places})"
    any_of = f"tls_fingerprint IN ({places}) OR signing_fingerprint IN ({places})"
    for member in rounds:
        found = member.store.row(
            f"SELECT 1 FROM nodes WHERE (node_id != ? AND ({any_of})) OR (node_id = ? AND NOT ({mine}))",
            node_id,
            *fingerprints * 2,
            node_id,
            *fingerprints * 2,
        )
        if found is not None:
            return True
    return False


def unshared_revocations(rounds: Sequence[Member]) -> list[tuple[Member, str]]:
    """Rounds that know a node by keys which are revoked in another, and that node."""
    found = []
    for member in rounds:
        for row in member.store.rows("SELECT node_id, tls_fingerprint, signing_fingerprint FROM nodes"):
            revoked = (
                other.store.row(
                    "SELECT 1 FROM revocations WHERE tls_fingerprint = ? OR signing_fingerprint = ?",
                    row["tls_fingerprint"],
                    row["signing_fingerprint"],
                )
                for other in rounds
                if other is not member
            )
            if any(each is not None for each in revoked):
                found.append((member, row["node_id"]))
    return found

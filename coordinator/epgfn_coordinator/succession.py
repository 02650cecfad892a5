"""Another signing key in the place of the one that a node has enrolled with, by a statement that both sign: in all rounds, each with its
ledger entry.

Each round keeps for itself which key counts in it. A kill may leave a change in some rounds and not in others: the node sends it again
until it is told that it is done, and `share` takes it to rounds that have missed it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from sqlite3 import Row
from typing import Final

from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_hex, write_atomic
from epgfn.ledger.entries import RotatedEntry, encode
from epgfn.sealing.predicates import node_party
from epgfn.sealing.rotation import MOST, Chain, ForkError, Rotation, follow, read_rotation
from epgfn_coordinator.continuity import RESTORED
from epgfn_coordinator.home import Home
from epgfn_coordinator.people import Member
from epgfn_coordinator.store import CONTINUITY_FACT, Store

FORKS: Final = "fork-evidence"
MOST_KEPT: Final = 64


def replace_key(rounds: Sequence[Member], node_id: str, statements: Sequence[bytes]) -> list[Rotation]:
    """Put the last key of the chain `statements` in the place of the one that counts for a node, in every round that it has enrolled in;
    what was new in any of them. What was half sent under the old key goes.

    Raises:
        ForkError: the old key has another successor here already.
        RefusedError: the statements are no chain, or none of the node's; "wrong-key": the chain does not hold the key that counts;
            "key-in-use", "key-revoked": a new key of it is somebody's, or was revoked or replaced before; "too-many"; "restored": a round
            takes no entries now.
        NoRoomError: a state cannot be written.
    """
    if not statements:
        return []
    chain = follow(read_rotation(statements[0]).old, statements, node_party(node_id))
    current = {id(member): _row(member.store, node_id) for member in rounds}
    for member in rounds:
        row = current[id(member)]
        if row is None:
            continue
        _require_no_fork(member.store, node_id, chain)
        if chain.find(row["signing_fingerprint"]) is None:
            raise RefusedError(
                "wrong-key",
                f"{node_id} is not enrolled with a key of this change; if its keys are lost or stolen ask the coordinator's operator to "
                "revoke them",
            )
        if (
            row["signing_fingerprint"] != chain.keys[-1].fingerprint
            and member.store.fact(CONTINUITY_FACT) is not None
        ):
            raise RefusedError("restored", RESTORED)
        _require_free(rounds, node_id, chain, row)
        _require_few(member.store, node_id, chain, row)
    return _apply(rounds, node_id, chain)


def share(rounds: Sequence[Member]) -> list[str]:
    """Take changes that some rounds have to those that have missed them; whose they are. One that takes no entries now is left as it is."""
    known: dict[str, dict[str, Rotation]] = {}
    for member in rounds:
        for row in member.store.rows(
            "SELECT node_id, bundle FROM rotations WHERE node_id IS NOT NULL ORDER BY position"
        ):
            found = read_rotation(bytes(row["bundle"]), node_party(row["node_id"]))
            known.setdefault(row["node_id"], {})[found.said.old_fingerprint] = found
    shared = []
    for node_id, successors in known.items():
        for member in rounds:
            counts = _row(member.store, node_id)
            missed: list[Rotation] = []
            while counts is not None and len(missed) < len(successors):
                last = missed[-1].said.new_fingerprint if missed else counts["signing_fingerprint"]
                if last not in successors:
                    break
                missed.append(successors[last])
            if missed:
                with contextlib.suppress(RefusedError):  # that round takes no entries now
                    shared += [node_id] * bool(_apply([member], node_id, Chain(missed[0].old, tuple(missed))))
    return sorted(set(shared))


def keep_fork(home: Home, fork: ForkError) -> Path:
    """Keep both statements as evidence, of some forks, and where: whoever has a stolen key shall not fill the disk."""
    folder = home.shared / FORKS
    if folder.is_dir() and len(list(folder.iterdir())) >= MOST_KEPT:
        return folder
    for statement in fork.statements:
        write_atomic(folder / f"rotation-{sha256_hex(statement)[:16]}.sigstore.json", statement)
    return folder


def _apply(rounds: Sequence[Member], node_id: str, chain: Chain) -> list[Rotation]:
    new: dict[str, Rotation] = {}
    for member in rounds:
        with member.store.transaction():
            row = _row(member.store, node_id)
            places = [key.fingerprint for key in chain.keys]
            if row is None or row["signing_fingerprint"] not in places:
                continue  # revoked meanwhile
            for each in chain.rotations[places.index(row["signing_fingerprint"]) :]:
                _enter(member.store, node_id, each)
                new[each.said.old_fingerprint] = each
    return list(new.values())


def _enter(store: Store, node_id: str, rotation: Rotation) -> None:
    said = rotation.said
    entry = RotatedEntry(
        round_id=store.text("round_id"),
        node_id=node_id,
        old_fingerprint=said.old_fingerprint,
        signing_key=said.new_key,
        fingerprint=said.new_fingerprint,
        bundle_sha256=sha256_hex(rotation.bundle),
    )
    store.write(
        "INSERT INTO rotations (position, node_id, signing_fingerprint, signing_key, bundle) VALUES (?, ?, ?, ?, ?)",
        store.append_entry(encode(entry)),
        node_id,
        said.old_fingerprint,
        rotation.old.pem,
        rotation.bundle,
    )
    store.write(
        "UPDATE nodes SET signing_fingerprint = ?, signing_key = ? WHERE node_id = ?",
        said.new_fingerprint,
        rotation.new.pem,
        node_id,
    )
    store.write("DELETE FROM uploads WHERE node_id = ?", node_id)


def _row(store: Store, node_id: str) -> Row | None:
    return store.row("SELECT * FROM nodes WHERE node_id = ?", node_id)


def _require_no_fork(store: Store, node_id: str, chain: Chain) -> None:
    for row in store.rows("SELECT bundle FROM rotations WHERE node_id = ?", node_id):
        entered = read_rotation(bytes(row["bundle"]))
        for each in chain.rotations:
            same_old = each.said.old_fingerprint == entered.said.old_fingerprint
            if same_old and each.said.new_fingerprint != entered.said.new_fingerprint:
                raise ForkError(entered, each)


def _require_few(store: Store, node_id: str, chain: Chain, row: Row) -> None:
    """No node fills a ledger with changes: it has as many in a round as a chain may have."""
    places = [key.fingerprint for key in chain.keys]
    new = len(places) - 1 - places.index(row["signing_fingerprint"])
    known = store.rows(
        "SELECT COUNT(*) AS size FROM rotations WHERE node_id = ? "
        "AND position > COALESCE((SELECT MAX(position) FROM revocations WHERE node_id = ?), -1)",
        node_id,
        node_id,
    )[0]["size"]
    if new and known + new > MOST:
        raise RefusedError(
            "too-many",
            f"{node_id} has changed its key {known} times; for another one have its keys revoked and enrol a new home",
        )


def _require_free(rounds: Sequence[Member], node_id: str, chain: Chain, row: Row) -> None:
    """No key that is new is anybody's, or ever was."""
    places = [key.fingerprint for key in chain.keys]
    new = places[places.index(row["signing_fingerprint"]) + 1 :]
    for fingerprint in new:
        for member in rounds:
            taken = member.store.row(
                "SELECT 1 FROM nodes WHERE tls_fingerprint = ? OR (signing_fingerprint = ? AND node_id != ?)",
                fingerprint,
                fingerprint,
                node_id,
            )
            if taken is not None:
                raise RefusedError(
                    "key-in-use", "the new key is in use already; every node needs keys of its own"
                )
            gone = member.store.row(
                "SELECT 1 FROM revocations WHERE signing_fingerprint = ? OR tls_fingerprint = ? "
                "UNION SELECT 1 FROM rotations WHERE signing_fingerprint = ?",
                fingerprint,
                fingerprint,
                fingerprint,
            )
            if gone is not None:
                raise RefusedError(
                    "key-revoked", "the new key was revoked or replaced before, and never comes back"
                )

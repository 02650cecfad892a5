"""What a run directory says of keys that took the place of others: which, by whose signatures, and from when on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from epgfn.base.errors import EpgfnError
from epgfn.base.files import sha256_hex
from epgfn.ledger.entries import CoordinatorRotatedEntry, Entry, RotatedEntry
from epgfn.run.audit.rules import Failed, require, require_all
from epgfn.run.layout import ROTATIONS
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.predicates import COORDINATOR, node_party
from epgfn.sealing.rotation import MOST, Chain, Rotation, follow, read_rotation

FIRST: Final = 2
"""Ledger index of the first change of the coordinator's key, right after study and round."""


def rotation_file(index: int) -> str:
    """The path of the statement whose entry has that ledger index."""
    return f"{ROTATIONS}/{index}.sigstore.json"


def leading_to(
    key: VerifyKey, pinned: str, exists: Callable[[str], bool], read: Callable[[str], bytes]
) -> Chain | None:
    """The chain from the key with the fingerprint `pinned` to the coordinator's `key`, by the statements that lie in the run directory;
    None if they do not lead there.

    Raises:
        RefusedError: a statement is not signed by both keys, or they are no chain.
    """
    bundles = []
    for index in range(FIRST, FIRST + MOST + 1):
        if not exists(rotation_file(index)):
            break
        raw = read(rotation_file(index))
        if read_rotation(raw).said.party != COORDINATOR:
            break
        bundles.append(raw)
    if not bundles:
        return None
    whole = follow(read_rotation(bundles[0]).old, bundles, COORDINATOR)
    start = whole.find(pinned)
    if start is None or whole.keys[-1] != key:
        return None
    return follow(start, bundles, COORDINATOR)


def check_rotations(entries: Sequence[Entry], read: Callable[[str], bytes], key: VerifyKey) -> str:
    """Every entry that changes a key is what both keys have signed; a sentence that names them. `key`: the coordinator's of this round.

    Raises:
        Failed, RefusedError: a statement is missing, another than the ledger names, or does not say what its entry says.
    """
    said, of_coordinator = [], []
    for index, entry in enumerate(entries):
        if not isinstance(entry, CoordinatorRotatedEntry | RotatedEntry):
            continue
        name = rotation_file(index)
        bundle = read(name)
        require(
            sha256_hex(bundle) == entry.bundle_sha256, f"{name} is not the statement that the ledger names"
        )
        try:
            found = read_rotation(bundle)
        except EpgfnError as error:
            raise Failed(f"{name}: {error}") from None
        _require_fits(found, entry, name)
        if isinstance(entry, CoordinatorRotatedEntry):
            of_coordinator.append(bundle)
            said.append(f"the coordinator's key is {found.in_words}, before this round was opened")
        else:
            said.append(
                f"{entry.node_id} signs with {found.in_words}, by ledger entry {index}; what it sent before is signed with the old one"
            )
    if of_coordinator:
        chain = follow(read_rotation(of_coordinator[0]).old, of_coordinator, COORDINATOR)
        require(
            chain.keys[-1] == key,
            "the changes of the coordinator's key do not lead to the one that signs this round",
        )
    require(bool(said), f"{ROTATIONS} holds changes of keys of which the ledger says nothing")
    return f"every change of a key is signed by the old key and by the new one: {'; '.join(said)}"


def _require_fits(found: Rotation, entry: CoordinatorRotatedEntry | RotatedEntry, name: str) -> None:
    said = (found.said.party, found.said.old_fingerprint, found.said.new_fingerprint, found.said.new_key)
    entered: tuple[str, ...]
    if isinstance(entry, RotatedEntry):
        entered = (node_party(entry.node_id), entry.old_fingerprint, entry.fingerprint, entry.signing_key)
    else:
        entered = (COORDINATOR, entry.old_fingerprint, entry.new_fingerprint, found.said.new_key)
    names = ("party", "old key", "new key", "new key's bytes")
    require_all(
        {what: one == other for what, one, other in zip(names, said, entered, strict=True)},
        f"what is signed in {name} does not fit its ledger entry",
    )

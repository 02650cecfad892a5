"""`backup` and `restore`: one coordinator with all its rounds, each as it is at one moment, also while it serves, in one file.

The state is copied first, by SQLite's own means. Whatever it names was written before the commit that names it and is never changed, so
it is there afterwards; what it does not name (uploads under way, a model in training, the published ledger, which is made from the state)
is left out. Two things are removed in a coordinator's life: the round key, and a state that still needs it is only kept together with it;
and a model that its node withdraws, and then the state is copied once more.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final

from epgfn.base.archive import Member, read_archive, write_archive
from epgfn.base.encoding import to_base64
from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import read_bytes, sync_directory
from epgfn.base.replacing import finish_replacing
from epgfn.ledger.checkpoint import Checkpoint, open_checkpoint
from epgfn.ledger.errors import LedgerError
from epgfn.ledger.merkle import MerkleTree, leaf_hash
from epgfn.ledger.note import NoteVerifier
from epgfn_coordinator import clock, places, rounds
from epgfn_coordinator.clock import spelled
from epgfn_coordinator.continuity import Doubt
from epgfn_coordinator.home import Home
from epgfn_coordinator.keys import LEDGER_PUBLIC, ROUND_KEY
from epgfn_coordinator.store import Store

FORMAT: Final = "epgfn-coordinator-backup/v1"
TRIES: Final = 5


def back_up(home: Home, file: Path) -> dict[str, Any]:
    """Write the backup `file`; when it was made, its size, the ledger's, the round's state, and whether the round key is in it.

    Raises:
        UsageError: `file` exists, or there is no coordinator in `home`.
        EpgfnError: a file cannot be read or written.
    """
    home.require()
    if file.exists():
        raise UsageError(f"{file} exists already; give every backup a name of its own")
    for left in reversed(range(TRIES)):
        sealed: list[Path] = []
        try:
            return _back_up(home, file, sealed)
        except EpgfnError:
            if not left or all(path.exists() for path in sealed):
                raise
            # A node has withdrawn its model since the state was copied: the next copy does not name it.
    raise AssertionError("unreachable")


def _back_up(home: Home, file: Path, sealed: list[Path]) -> dict[str, Any]:
    """Do it once; `sealed` is told which sealed models are to be in it."""
    with _beside(file) as folder:
        made, members, known = spelled(clock.now()), [], []
        for number, each in enumerate(rounds.all_rounds(home)):
            under = "" if each.house is None else f"{each.rounds.name}/{each.root.name}/"
            copy = folder / str(number)
            keys = _snapshot(each, copy)
            with contextlib.closing(Store(copy)) as store:
                about = _about(store)
                sealed += [each.artifact(digest) for digest in _sealed(store)]
                found = [*_files(each), *keys, *_named(each, store), Member(each.state.name, copy)]
            members += [Member(under + member.name, member.source) for member in found]
            known.append((rounds.name_of(each), under, about))
        first = known[0][2]
        more = {under: about for _, under, about in known if under}
        said = {"made": made, **first, **({"rounds": more} if more else {})}
        size = write_archive(file, FORMAT, members, said)
    return {
        "made": made,
        "bytes": size,
        "entries": sum(about["ledger"]["size"] for _, _, about in known),
        "state": first["state"],
        "rounds": [name for name, _, _ in known],
        "round_key": any(member.name.endswith(f"keys/{ROUND_KEY}") for member in members),
    }


def _about(store: Store) -> dict[str, Any]:
    entries = store.entries()
    return {
        "study_digest": store.text("study_digest"),
        "round_id": store.text("round_id"),
        "state": store.text("state"),
        "ledger": {"size": len(entries), "root": to_base64(_tree(entries).root())},
    }


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A folder of our own on the same disk as `path`, gone afterwards."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise EpgfnError(f"cannot write beside {path}: {error.strerror}; choose another place") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _snapshot(home: Home, copy: Path) -> list[Member]:
    """Copy the state to `copy`; the keys that belong to it."""
    for _ in range(TRIES):
        keys = _keys(home)
        had = home.key(ROUND_KEY).exists()
        with contextlib.closing(Store(home.state)) as store:
            store.copy_to(copy)
        # Destroyed meanwhile: the copy may be of before or after that. A second one is of after, and needs no key.
        settled = (
            home.key(ROUND_KEY).exists() == had == any(key.name.endswith(f"/{ROUND_KEY}") for key in keys)
        )
        # Replaced meanwhile, several at once: what was read may be some of before and some of after.
        if settled and keys == _keys(home):
            return keys
        copy.unlink()
    raise EpgfnError(f"the keys in {home.round_keys} change all the time; try again when they are at rest")


def _keys(home: Home) -> list[Member]:
    finish_replacing(home.shared)
    return [
        Member(f"{home.round_keys.name}/{path.name}", read_bytes(path, "key"))
        for path in _plain(home.round_keys)
    ]


def _files(home: Home) -> list[Member]:
    """What lies in the directory itself, but for the state."""
    return [
        Member(path.name, read_bytes(path, "file"))
        for path in _plain(home.root)
        if not path.name.startswith(home.state.name)
    ]


def _named(home: Home, store: Store) -> list[Member]:
    """Sealed models and signed results that the state names."""
    found = [Member(f"{home.artifacts.name}/{digest}", home.artifact(digest)) for digest in _sealed(store)]
    for place in places.all_made(store):
        found += [Member(f"{place}/{path.name}", path) for path in _plain(home.aggregate(place))]
    return found


def _sealed(store: Store) -> list[str]:
    return [row["sealed_sha256"] for row in store.rows("SELECT sealed_sha256 FROM artifacts")]


def _plain(folder: Path) -> list[Path]:
    """Files of a folder that are not hidden: those are locks, and what is still being written."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def restore(file: Path, home: Home, checkpoints: list[Path]) -> dict[str, Any]:
    """Make the directory `home` out of the backup `file`; when that was made, and how long its ledger is. What is restored enters
    nothing in its ledger before it is clear that nobody has seen a longer one (`continuity.py`).

    Built beside `home` and renamed, so it is whole or not there.

    Raises:
        UsageError: `home` is there and not empty; `file` is no backup, or one of `checkpoints` no checkpoint of this ledger.
        RefusedError: "damaged-backup"; "older-backup": one of `checkpoints` is not contained in the backup's ledger.
        EpgfnError: a file cannot be written.
    """
    if home.root.exists() and (not home.root.is_dir() or any(home.root.iterdir())):
        raise UsageError(
            f"{home.root} exists already and is not empty; move it away, or choose another --home"
        )
    with _beside(home.root) as building:
        about = read_archive(file, FORMAT, building)
        made = Home(building)
        opened = {building: _open_up(made, file, about, about["made"])}
        for under, of_it in about.get("rounds", {}).items():
            each = made.further(PurePosixPath(under).name)
            opened[each.root] = _open_up(each, file, of_it, about["made"])
        if {each.root for each in rounds.all_rounds(made)} != set(opened):
            raise RefusedError(
                "damaged-backup", f"{file} cannot be restored: it holds other rounds than it names"
            )
        for path in checkpoints:
            _require_contained(path, made, opened, about["made"])
        try:
            for folder in (building, *(path for path in building.rglob("*") if path.is_dir())):
                sync_directory(folder)
            os.replace(building, home.root)
            sync_directory(home.root.parent)
        except OSError as error:
            raise EpgfnError(f"cannot make {home.root}: {error.strerror}; choose another --home") from None
    return {"made": about["made"], "entries": sum(map(len, opened.values())), "state": about["state"]}


def _open_up(home: Home, file: Path, about: dict[str, Any], made: str) -> list[bytes]:
    """Check that the unpacked state of a round is what the backup says, and put its ledger on hold; its entries."""
    if not home.state.is_file() or not home.config.is_file():
        raise RefusedError(
            "damaged-backup", f"{file} cannot be restored: it holds no state; use another backup"
        )
    with contextlib.closing(Store(home.state)) as store:
        entries = store.entries()
        tree = _tree(entries)
        whole = all(
            home.artifact(row["sealed_sha256"]).is_file() for row in store.rows("SELECT * FROM artifacts")
        )
        if {"size": tree.size, "root": to_base64(tree.root())} != about["ledger"] or not whole:
            raise RefusedError(
                "damaged-backup",
                f"{file} cannot be restored: its state is not the one it names; use another backup",
            )
        Doubt(restored=made).save(store)
    return entries


def _require_contained(path: Path, home: Home, opened: dict[Path, list[bytes]], made: str) -> None:
    """`opened`: the ledger entries of each round by its folder."""
    note = read_bytes(path, "checkpoint")
    for each in rounds.all_rounds(home):
        vkey = read_bytes(each.key(LEDGER_PUBLIC), "public key").decode("ascii").strip()
        try:
            seen: Checkpoint = open_checkpoint(note, NoteVerifier.from_vkey(vkey))
        except LedgerError as error:
            why = error
            continue
        entries = opened[each.root]
        if seen.size <= len(entries) and _tree(entries).root(seen.size) == seen.root:
            return
        raise RefusedError(
            "older-backup",
            f"the backup of {made} has {len(entries)} ledger entries, and {path} shows that this coordinator has signed {seen.size} "
            "which it does not contain; going on from there would look like a rewritten ledger, so restore a newer backup",
        )
    raise UsageError(f"{path} is no checkpoint of this coordinator's ledger: {why}")


def _tree(entries: list[bytes]) -> MerkleTree:
    return MerkleTree([leaf_hash(entry) for entry in entries])

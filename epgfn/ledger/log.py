"""The log on disk: one writer that publishes, readers that check every byte.

    log = TileLog(folder, signer)
    log.publish(all_entries)        # after each transaction; writes only what is new
    log.receipt(3)                  # tlog-proof for entry 3
    view = read_log(folder, signer.verifier)

The caller's database is the source of truth; the folder is derived from it and can be written anew from the
entries at any time. Tiles are written first and the checkpoint last, each by an atomic rename, so whoever reads a
checkpoint finds all it commits to.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from epgfn.base.files import open_plain, write_atomic
from epgfn.ledger.checkpoint import Checkpoint, open_checkpoint
from epgfn.ledger.errors import LedgerError
from epgfn.ledger.merkle import MerkleTree, leaf_hash
from epgfn.ledger.note import MAX_NOTE_BYTES, NoteSigner, NoteVerifier
from epgfn.ledger.proof import make_proof
from epgfn.ledger.tiles import (
    CHECKPOINT_NAME,
    ENTRIES,
    MAX_BUNDLE_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    Tile,
    encode_bundle,
    level_count,
    level_tiles,
    log_tiles,
    parse_bundle,
)


class _Contents:
    """Entries and their tree, both only ever appended to."""

    def __init__(self, entries: Sequence[bytes] = ()) -> None:
        self.entries: list[bytes] = []
        self.tree = MerkleTree()
        self.extend(entries)

    def extend(self, entries: Sequence[bytes]) -> None:
        encode_bundle(entries)  # refuses an entry that is too long before anything changes
        for entry in entries:
            self.entries.append(entry)
            self.tree.append(leaf_hash(entry))

    def tile_bytes(self, tile: Tile) -> bytes:
        """What the file of that tile holds."""
        if tile.level == ENTRIES:
            return encode_bundle(self.entries[tile.start : tile.end])
        return b"".join(self.tree.levels[tile.level * TILE_HEIGHT][tile.start : tile.end])


@dataclass(frozen=True)
class LogView:
    """A log that was read and verified: its checkpoint, the signed note it came in, all entries and their tree."""

    checkpoint: Checkpoint
    note: bytes
    entries: list[bytes]
    tree: MerkleTree

    @property
    def leaf_hashes(self) -> list[bytes]:
        """RFC 6962 leaf hash of each entry."""
        return self.tree.levels[0]


class TileLog:
    """The writer of one log folder; safe to use from several threads, but only one process may write.

    Partial tiles stay until their full tile exists, as tlog-tiles demands of a log that is being read; `export_log`
    makes a copy that holds only those of the newest checkpoint.
    """

    def __init__(self, directory: Path, signer: NoteSigner) -> None:
        self.directory = directory
        self._signer = signer
        self._lock = threading.Lock()
        self._contents: _Contents | None = None  # None: not loaded, or a write failed halfway
        self._checkpoint: Checkpoint | None = None
        self._note = b""

    @property
    def checkpoint(self) -> Checkpoint:
        """What was last published through this object; LedgerError before the first `publish`."""
        self._published()
        assert self._checkpoint is not None
        return self._checkpoint

    @property
    def note(self) -> bytes:
        """The signed checkpoint that was last published; LedgerError before the first `publish`."""
        self._published()
        return self._note

    def publish(self, entries: Sequence[bytes]) -> Checkpoint:
        """Make the folder commit to `entries`, which are all of the log's entries from the first on.

        Idempotent. The first call of a process also compares every file with the entries and writes anew what a
        killed process left unfinished; later calls touch only what is new.

        Raises:
            LedgerError: the entries do not begin with those that were published before, or one exceeds 65,535 bytes;
                nothing is written.
            EpgfnError: the disk is full or refuses; the old checkpoint still stands and the next call repairs.
        """
        with self._lock:
            known = self._checkpoint.size if self._contents and self._checkpoint else 0
            first = self._contents is None
            contents = self._load(entries) if first else self._extend(entries)
            self._contents = None  # until all is written
            self._write(contents, known, check=first)
            self._contents = contents
            assert self._checkpoint is not None
            return self._checkpoint

    def receipt(self, index: int) -> bytes:
        """The tlog-proof of entry `index` against the current checkpoint; LedgerError if there is no such entry."""
        with self._lock:
            proof = self._published().tree.inclusion_proof(index, self.checkpoint.size)
            return make_proof(index, proof, self._note)

    def consistency_proof(self, size1: int) -> list[bytes]:
        """Proof from an earlier size to the current checkpoint, as `verify_extends` takes it (empty for size 0).

        Raises:
            LedgerError: the log never had that size.
        """
        with self._lock:
            tree = self._published().tree
            return tree.consistency_proof(size1, self.checkpoint.size) if size1 else []

    def _published(self) -> _Contents:
        if self._contents is None:
            raise LedgerError("the ledger has not been published yet; publish its entries first")
        return self._contents

    def _load(self, entries: Sequence[bytes]) -> _Contents:
        """The contents, after checking that they extend what the checkpoint on disk commits to."""
        contents = _Contents(entries)
        path = self.directory / CHECKPOINT_NAME
        self._checkpoint = None
        if path.exists():
            self._note = _read(path, MAX_NOTE_BYTES)
            self._checkpoint = open_checkpoint(self._note, self._signer.verifier)
            size = self._checkpoint.size
            if size > len(contents.entries) or contents.tree.root(size) != self._checkpoint.root:
                raise LedgerError(
                    f"the entries do not continue the ledger in {self.directory}, which has {size}; "
                    "restore the database that belongs to it"
                )
        return contents

    def _extend(self, entries: Sequence[bytes]) -> _Contents:
        contents = self._published()
        known = len(contents.entries)
        if list(entries[:known]) != contents.entries:
            raise LedgerError(
                f"the entries do not continue the {known} already published in {self.directory}; "
                "a published entry can never be changed or removed"
            )
        contents.extend(entries[known:])
        return contents

    def _write(self, contents: _Contents, known: int, *, check: bool) -> None:
        size = contents.tree.size
        if check:
            self._remove_leftovers(contents)
        fresh = list(log_tiles(size, known))
        for tile in fresh:
            path, data = self.directory / tile.path, contents.tile_bytes(tile)
            if not (check and path.is_file() and path.read_bytes() == data):
                write_atomic(path, data)
        root = contents.tree.root(size)
        if self._checkpoint is None or (self._checkpoint.size, self._checkpoint.root) != (size, root):
            checkpoint = Checkpoint(self._signer.name, size, root)
            note = checkpoint.sign(self._signer)
            write_atomic(self.directory / CHECKPOINT_NAME, note)
            self._checkpoint, self._note = checkpoint, note
        for tile in fresh:
            if tile.width == TILE_WIDTH:
                shutil.rmtree(self.directory / f"{tile.path}.p", ignore_errors=True)

    def _remove_leftovers(self, contents: _Contents) -> None:
        """Delete temporary files of a killed process, and tiles that are not (a beginning of) what is to be written."""
        for path in self.directory.glob(f".{CHECKPOINT_NAME}.*"):
            path.unlink()
        for path in sorted(self.directory.glob("tile/**/*")):
            if path.is_dir() and not path.is_symlink():
                continue
            tile = Tile.from_path(path.relative_to(self.directory).as_posix())
            if path.is_symlink() or tile is None or not _holds(path, tile, contents):
                path.unlink()


def read_log(directory: Path, verifier: NoteVerifier, *, strict: bool = True) -> LogView:
    """Read the log in `directory` and verify every byte of its checkpoint, tiles and entry bundles.

    Strict, the folder may hold nothing else but partial tiles of earlier checkpoints, which are verified too. Not strict, further files are
    ignored. Further signatures on the checkpoint say nothing here (`epgfn.ledger.cosignature`).

    Raises:
        LedgerError: anything is missing, changed, surplus, or not signed by `verifier`.
    """
    paths = _files(directory) if strict else set()
    note = _read(directory / CHECKPOINT_NAME, MAX_NOTE_BYTES)
    checkpoint = open_checkpoint(note, verifier, strict=strict)
    entries: list[bytes] = []
    for tile in level_tiles(ENTRIES, checkpoint.size):
        raw = _read(directory / tile.path, MAX_BUNDLE_BYTES)
        try:
            entries += parse_bundle(raw, tile.width)
        except LedgerError as error:
            raise LedgerError(f"{tile.path}: {error}") from None
    contents = _Contents(entries)
    if contents.tree.root() != checkpoint.root:
        raise LedgerError(
            "the entries of the ledger do not hash to the root in its checkpoint; an entry was changed"
        )
    for tile in log_tiles(checkpoint.size):
        if _read(directory / tile.path, MAX_BUNDLE_BYTES) != contents.tile_bytes(tile):
            raise LedgerError(f"{tile.path} is not what the checkpoint commits to; it was changed")
        paths.discard(tile.path)
    paths.discard(CHECKPOINT_NAME)
    for path in sorted(paths):
        older = Tile.from_path(path)
        if older is None or not _holds(directory / path, older, contents):
            raise LedgerError(f"the ledger holds {path}, which its checkpoint does not commit to")
    return LogView(checkpoint, note, contents.entries, contents.tree)


def export_log(source: Path, destination: Path, verifier: NoteVerifier) -> Checkpoint:
    """Copy the log in `source`, once verified, to `destination`: the files of its newest checkpoint and no others.

    Raises:
        LedgerError: the source does not verify.
        EpgfnError: the destination cannot be written.
    """
    view = read_log(source, verifier, strict=False)
    contents = _Contents(view.entries)
    for tile in log_tiles(view.checkpoint.size):
        write_atomic(destination / tile.path, contents.tile_bytes(tile))
    write_atomic(destination / CHECKPOINT_NAME, view.note)
    return view.checkpoint


def _holds(path: Path, tile: Tile, contents: _Contents) -> bool:
    """Whether the file is that tile, in full or as it was at an earlier size."""
    fits = tile.end <= level_count(tile.level, contents.tree.size)
    return fits and _read(path, MAX_BUNDLE_BYTES) == contents.tile_bytes(tile)


def _files(directory: Path) -> set[str]:
    """Relative paths of all files under `directory`; a link or a device is refused."""
    found: set[str] = set()
    for path in directory.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        name = path.relative_to(directory).as_posix()
        if not stat.S_ISREG(mode):
            raise LedgerError(f"the ledger holds {name!a}, which is not a plain file")
        found.add(name)
    return found


def _read(path: Path, limit: int) -> bytes:
    try:
        with open_plain(path) as source:
            # As far as the file goes: `read` takes memory for all that it is asked for.
            data = source.read(min(limit, os.fstat(source.fileno()).st_size) + 1)
    except OSError as error:
        raise LedgerError(f"cannot read {path} of the ledger: {error.strerror}") from None
    if len(data) > limit:
        raise LedgerError(f"{path} of the ledger is larger than {limit} bytes")
    return data

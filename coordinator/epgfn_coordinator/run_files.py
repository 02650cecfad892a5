"""The files of a published round's run directory that its nodes get to see: what is published and what everybody has signed, but no
sealed model, which is for an auditor (`export`), and of models without a single node only what was signed.

What every node has of itself (study, manifest, keys of the coordinator and the ledger) or can work out of the ledger (keys of nodes) is
not among them. Each is read when it is sent, a piece at a time.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from epgfn.base.errors import RefusedError
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.note import split_note
from epgfn.ledger.tiles import CHECKPOINT_NAME, log_tiles
from epgfn.run.layout import (
    LEAVE_ONE_OUT,
    LEDGER,
    MODEL,
    MODEL_BUNDLE,
    RECEIPT,
    ROTATIONS,
    SUMS,
    UPLOAD_BUNDLE,
    UPLOADS,
    WITHDRAWALS,
)
from epgfn.sealing.bundle import read_unverified
from epgfn.sealing.statement import parse_statement
from epgfn_coordinator.home import Home
from epgfn_coordinator.store import Store
from epgfn_coordinator.sum_lists import nodes_of


class RunFile(NamedTuple):
    """A file by its path in a run directory; `signed`: its SHA-256, hexadecimal, where the coordinator has signed that."""

    name: str
    source: Path | Callable[[], bytes]
    signed: str = ""

    def open(self) -> IO[bytes]:
        """Its bytes.

        Raises:
            OSError: it cannot be read.
        """
        return self.source.open("rb") if isinstance(self.source, Path) else io.BytesIO(self.source())

    def measured(self) -> tuple[int, bytes]:
        """Its size, and its SHA-256.

        Raises:
            OSError: it cannot be read.
        """
        if isinstance(self.source, Path) and self.signed:
            return self.source.stat().st_size, bytes.fromhex(self.signed)
        with self.open() as source:
            digest = hashlib.file_digest(source, "sha256")  # type: ignore[arg-type]
            return source.seek(0, os.SEEK_END), digest.digest()


def files_for_nodes(home: Home, store: Store, note: bytes) -> Iterator[RunFile]:
    """The files, as they are of the published ledger with the signed checkpoint `note`."""
    size = Checkpoint.parse(split_note(note)[0]).size
    yield RunFile(f"{LEDGER}/{CHECKPOINT_NAME}", lambda: note)
    for tile in log_tiles(size):
        yield RunFile(f"{LEDGER}/{tile.path}", home.ledger / tile.path)
    for row in store.rows("SELECT place, bundle FROM aggregates WHERE position < ? ORDER BY position", size):
        place, bundle = row["place"], bytes(row["bundle"])
        yield RunFile(f"{place}/{MODEL_BUNDLE}", partial(bytes, bundle))
        for name, digest in _subjects(bundle).items() if not place.startswith(LEAVE_ONE_OUT) else ():
            yield RunFile(f"{place}/{name}", home.aggregate(place) / name, digest)
    yield from signed_by_nodes(store, size)


def signed_by_nodes(store: Store, size: int | None = None) -> Iterator[RunFile]:
    """What nodes have signed, and the receipts that they got; of the first `size` entries of the ledger."""
    before = 1 << 62 if size is None else size

    def read(statement: str, *values: object) -> bytes:
        row = store.row(statement, *values)
        if row is None or row[0] is None:
            raise RefusedError("files-changed", "what was listed is not there any more; fetch again")
        return bytes(row[0])

    for row in store.rows(
        "SELECT node_id, receipt IS NULL AS unproved FROM artifacts WHERE position < ?", before
    ):
        folder, node = f"{UPLOADS}/{row['node_id']}", row["node_id"]
        yield RunFile(
            f"{folder}/{UPLOAD_BUNDLE}", partial(read, "SELECT bundle FROM artifacts WHERE node_id = ?", node)
        )
        if not row["unproved"]:
            yield RunFile(
                f"{folder}/{RECEIPT}", partial(read, "SELECT receipt FROM artifacts WHERE node_id = ?", node)
            )
    for table, folder in (("rotations", ROTATIONS), ("withdrawals", WITHDRAWALS)):
        for row in store.rows(f"SELECT position FROM {table} WHERE position < ?", before):
            at = row["position"]
            one = f"SELECT bundle FROM {table} WHERE position = ?"
            yield RunFile(f"{folder}/{at}.sigstore.json", partial(read, one, at))
    for node in nodes_of(store, "signing") or ():
        one = "SELECT bundle FROM sum_parts WHERE step = 'signing' AND node_id = ?"
        yield RunFile(f"{SUMS}/{node}.sigstore.json", partial(read, one, node))


def _subjects(bundle: bytes) -> dict[str, str]:
    """What the coordinator has signed of a model, by name; the model first."""
    found = parse_statement(read_unverified(bundle)[0]).subjects
    return {MODEL: found[MODEL], **found}

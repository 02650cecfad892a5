"""The coordinator's state: one SQLite file, and each commit in it is the moment something becomes true.

Write-ahead log and `synchronous=FULL`: a committed transaction survives a kill and a power cut. Whatever else lies on
disk (the published ledger, files of the result) is either content named in here by digest or can be made again from it.
An artifact, its ledger entry and the state of the round change in one transaction, so nothing is counted twice.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from epgfn.base import failpoints
from epgfn.base.errors import EpgfnError, NoRoomError, RefusedError

CONTINUITY_FACT: Final = "continuity"
"""There while it is not known whether this state is the newest there ever was: see `continuity.py`."""
TROUBLE_FACT: Final = "trouble"
"""There while nothing is decided in the round, beside others that go on, and why."""
RETRY_FACT: Final = "retry"
"""There once the operator wants a round to go on in which nothing is decided."""
TURN_FACT: Final = "turn"
"""There while a round waits for others to be aggregated, whose names it holds."""
SERVED_FACT: Final = "served"
"""There once a process has begun to serve the round."""
FETCHED_FACT: Final = "fetched "
"""With a node's id behind it: there once that node has taken the global model."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS entries (
    position INTEGER PRIMARY KEY CHECK (position >= 0), entry BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS tokens (
    node_id TEXT PRIMARY KEY, token_sha256 TEXT NOT NULL UNIQUE, expires TEXT, renews TEXT, letter_key TEXT) STRICT;
CREATE TABLE IF NOT EXISTS void_tokens (
    token_sha256 TEXT PRIMARY KEY, node_id TEXT NOT NULL, why TEXT NOT NULL, letter_key TEXT) STRICT;
CREATE TABLE IF NOT EXISTS nodes (
    node_id TEXT PRIMARY KEY, tls_fingerprint TEXT NOT NULL UNIQUE, signing_fingerprint TEXT NOT NULL UNIQUE,
    signing_key BLOB NOT NULL, certificate BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS revocations (
    position INTEGER PRIMARY KEY, node_id TEXT NOT NULL, tls_fingerprint TEXT NOT NULL UNIQUE,
    signing_fingerprint TEXT NOT NULL UNIQUE, signing_key BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS rotations (
    position INTEGER PRIMARY KEY, node_id TEXT, signing_fingerprint TEXT NOT NULL UNIQUE, signing_key BLOB NOT NULL,
    bundle BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS uploads (
    upload_id TEXT PRIMARY KEY, node_id TEXT NOT NULL UNIQUE, bundle BLOB NOT NULL, bundle_sha256 TEXT NOT NULL,
    sealed_sha256 TEXT NOT NULL, sealed_size INTEGER NOT NULL, model_size INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS artifacts (
    node_id TEXT PRIMARY KEY, upload_id TEXT NOT NULL UNIQUE, bundle BLOB NOT NULL, bundle_sha256 TEXT NOT NULL,
    sealed_sha256 TEXT NOT NULL UNIQUE, sealed_size INTEGER NOT NULL, model_size INTEGER NOT NULL,
    position INTEGER NOT NULL, receipt BLOB) STRICT;
CREATE TABLE IF NOT EXISTS withdrawals (
    position INTEGER PRIMARY KEY, node_id TEXT NOT NULL, sealed_sha256 TEXT NOT NULL UNIQUE, bundle BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS exclusions (
    node_id TEXT PRIMARY KEY, reason TEXT NOT NULL, position INTEGER NOT NULL UNIQUE) STRICT;
CREATE TABLE IF NOT EXISTS aggregates (
    place TEXT PRIMARY KEY, size INTEGER NOT NULL, bundle BLOB NOT NULL, position INTEGER NOT NULL UNIQUE) STRICT;
CREATE TABLE IF NOT EXISTS sum_parts (
    node_id TEXT NOT NULL, step TEXT NOT NULL, bundle BLOB NOT NULL, bundle_sha256 TEXT NOT NULL, payload BLOB NOT NULL,
    key_position INTEGER NOT NULL, PRIMARY KEY (node_id, step)) STRICT;
CREATE TABLE IF NOT EXISTS sum_lists (step TEXT PRIMARY KEY, position INTEGER NOT NULL UNIQUE) STRICT;
CREATE TABLE IF NOT EXISTS refusals (
    node_id TEXT NOT NULL, bundle_sha256 TEXT NOT NULL, reason TEXT NOT NULL, sentence TEXT NOT NULL,
    final INTEGER NOT NULL, PRIMARY KEY (node_id, bundle_sha256, reason)) STRICT;
CREATE TABLE IF NOT EXISTS requests (
    number INTEGER PRIMARY KEY AUTOINCREMENT, done INTEGER, answer TEXT, deadline TEXT) STRICT;
CREATE TABLE IF NOT EXISTS revocation_requests (
    number INTEGER PRIMARY KEY AUTOINCREMENT, done INTEGER, answer TEXT, node_id TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS letter_requests (
    number INTEGER PRIMARY KEY AUTOINCREMENT, done INTEGER, answer TEXT, name TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS letters (
    signing_fingerprint TEXT PRIMARY KEY, number INTEGER NOT NULL, letter_sha256 TEXT NOT NULL) STRICT;
"""
_ADDED = (
    ("requests", "deadline"),
    ("tokens", "expires"),
    ("tokens", "renews"),
    ("tokens", "letter_key"),
    ("void_tokens", "letter_key"),
)
"""Columns, TEXT all of them, that the tables of earlier homes do not have."""


@contextlib.contextmanager
def _refused_by_a_test() -> Iterator[None]:
    """What a full disk looks like here."""
    try:
        yield
    except OSError:
        raise sqlite3.OperationalError from None


class Store:
    """A connection to state.sqlite, shared by the threads of one process; other processes may have their own."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            EpgfnError: it cannot be opened or is not a database.
        """
        self._path = path
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA foreign_keys=ON")
            self._db.executescript(_SCHEMA)
            self._add_what_is_new()
        except sqlite3.Error:
            raise EpgfnError(
                f"cannot open the coordinator's state {path}; check space and permissions, or restore it from a backup"
            ) from None

    def _add_what_is_new(self) -> None:
        """Columns that homes of before do not have."""
        if not self._missing():
            return  # without waiting for whoever writes
        self._db.execute("BEGIN IMMEDIATE")
        for table, column in self._missing():
            self._db.execute(f"ALTER TABLE {table} ADD COLUMN {column} TEXT")
        self._db.execute("COMMIT")

    def _missing(self) -> list[tuple[str, str]]:
        return [(table, column) for table, column in _ADDED if column not in self._columns(table)]

    def _columns(self, table: str) -> set[str]:
        return {row["name"] for row in self._db.execute(f"PRAGMA table_info({table})")}

    def copy_to(self, path: Path) -> None:
        """A copy of the whole state as it is at one moment, in one new file, whoever writes meanwhile.

        Raises:
            EpgfnError: it cannot be written.
        """
        try:
            with contextlib.closing(sqlite3.connect(path)) as copy:
                with self._lock:
                    self._db.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE")  # no second file beside it
        except sqlite3.Error:
            raise EpgfnError(
                f"cannot copy the coordinator's state to {path}; free some space, then try again"
            ) from None

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside becomes true together at the end, or not at all.

        Raises:
            NoRoomError: the file cannot be written (disk full); nothing was changed.
        """
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                with _refused_by_a_test():
                    failpoints.at("commit")
                self._db.execute("COMMIT")
                failpoints.at("committed")
            except sqlite3.OperationalError:
                self._rollback()
                raise self._unwritable() from None
            except BaseException:
                self._rollback()
                raise

    def _unwritable(self) -> NoRoomError:
        return NoRoomError(
            f"cannot write the coordinator's state {self._path}; free some space, then try again"
        )

    def _rollback(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a query.

        Raises:
            NoRoomError: the file cannot be read.
        """
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.OperationalError:
                raise NoRoomError(
                    f"cannot read the coordinator's state {self._path}; look at disk and open files, then try again"
                ) from None

    def row(self, query: str, *values: Any) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        found = self.rows(query, *values)
        return found[0] if found else None

    def write(self, statement: str, *values: Any) -> int:
        """Run a statement (its own transaction unless inside one); the row id it made, if any.

        Raises:
            NoRoomError: the file cannot be written (disk full).
        """
        with self._lock:
            alone = not self._db.in_transaction
            try:
                if alone:
                    with _refused_by_a_test():
                        failpoints.at("commit")
                made = self._db.execute(statement, values).lastrowid or 0
                if alone:
                    failpoints.at("committed")
                return made
            except sqlite3.OperationalError:
                raise self._unwritable() from None

    def fact(self, name: str) -> bytes | None:
        """A single named value, or None."""
        found = self.row("SELECT value FROM facts WHERE name = ?", name)
        return bytes(found["value"]) if found is not None else None

    def text(self, name: str) -> str:
        """A named value as text; empty if it is not set."""
        return (self.fact(name) or b"").decode("utf-8")

    def set_fact(self, name: str, value: bytes | str) -> None:
        """Set a named value."""
        raw = value.encode("utf-8") if isinstance(value, str) else value
        self.write("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", name, raw)

    def fetched(self) -> list[str]:
        """The nodes that have taken the global model, in order."""
        rows = self.rows("SELECT name FROM facts WHERE name LIKE ? ORDER BY name", f"{FETCHED_FACT}%")
        return [str(row["name"]).removeprefix(FETCHED_FACT) for row in rows]

    def note_fetched(self, node_id: str) -> None:
        """A node has taken the global model. Said once; where there is no room for it now, the next time it comes."""
        name = f"{FETCHED_FACT}{node_id}"
        with contextlib.suppress(NoRoomError):
            if self.fact(name) is None:
                self.set_fact(name, "")

    def append_entry(self, entry: bytes) -> int:
        """Append a ledger entry and return its index. Call inside a transaction with whatever the entry records.

        Raises:
            RefusedError: "restored": this may be an older state than others have seen, and an entry would fork the ledger.
        """
        if self.fact(CONTINUITY_FACT) is not None:
            raise RefusedError(
                "restored",
                "this coordinator was put back to an earlier state and enters nothing in its ledger before it is clear that nobody has "
                "seen a later one; epgfn-coordinator status says what is missing",
            )
        position = self.entries_size()
        self.write("INSERT INTO entries (position, entry) VALUES (?, ?)", position, entry)
        return position

    def count(self, table: str) -> int:
        """How many rows one of the tables above has."""
        return int(self.rows(f"SELECT COUNT(*) AS size FROM {table}")[0]["size"])

    def entries_size(self) -> int:
        """How many ledger entries there are: they are numbered from 0 without a gap, so that not all need to be counted."""
        return int(self.rows("SELECT COALESCE(MAX(position) + 1, 0) AS size FROM entries")[0]["size"])

    def entries(self, start: int = 0) -> list[bytes]:
        """The ledger entries in order, from that index on."""
        found = self.rows("SELECT entry FROM entries WHERE position >= ? ORDER BY position", start)
        return [bytes(row["entry"]) for row in found]

    def entry(self, position: int) -> bytes:
        """One ledger entry."""
        found = self.row("SELECT entry FROM entries WHERE position = ?", position)
        if found is None:
            raise IndexError(position)
        return bytes(found["entry"])

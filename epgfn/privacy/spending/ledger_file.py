"""The files of a privacy ledger: lines that are only ever added, and a head that notices when one is gone.

    privacy-ledger.jsonl   a line an entry, each with the digest of the line before it
    privacy-ledger.head    how many lines there are and the digest of the last, with an HMAC under the key
    privacy-ledger.key     32 random bytes, which also name data sets; under a passphrase where the node has one and the folder is its own

An append writes the lines and then the head, each whole or not at all, and returns when both are on disk. So after a kill the head may be
one line behind, which is put right, and never ahead: lines that are fewer than the head says, or others, are damage, as is a missing
head or key. Only if all three files are gone, or all are put back from an older copy together, nothing is left to tell.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from epgfn.base.canonical import canonical_json
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import read_secret, sha256_hex, write_secret
from epgfn.base.private_keys import ENCRYPTED, to_pem

LINES, HEAD, KEY = "privacy-ledger.jsonl", "privacy-ledger.head", "privacy-ledger.key"
RELEASES = "release-*.bin"
_LABEL = b"epgfn-privacy-ledger-head/v1\n"
_KEY_SIZE = 32


class LedgerFile:
    """The files in `folder`; whoever calls holds the ledger's lock."""

    def __init__(self, folder: Path, passphrase: str | None = None) -> None:
        self._passphrase = passphrase
        self.lines, self.head, self.key = folder / LINES, folder / HEAD, folder / KEY
        self._releases = folder

    def open_key(self) -> bytes:
        """The key; in an empty folder a new one, with a head of no lines.

        Raises:
            RefusedError: "ledger-damaged": the key is missing or cut where there are other files of a ledger.
            EpgfnError: a file cannot be read or written.
        """
        if not self.key.exists():
            self._require_empty()
            key = os.urandom(_KEY_SIZE)
            # The head goes first: a key without a head then always means that the head was lost.
            self._write_head(key, 0, "")
            write_secret(self.key, key_bytes(key, self._passphrase))
        return read_key(self.key, self._passphrase)

    def read(self) -> list[dict[str, Any]]:
        """The value of each line, oldest first; nothing where no ledger was begun.

        Raises:
            RefusedError: "ledger-damaged".
            EpgfnError: a file cannot be read or written.
        """
        if not self.key.exists():
            self._require_empty()
            return []
        key = self.open_key()
        count, last = self._read_head(key)
        raw = read_secret(self.lines).splitlines() if self.lines.exists() else []
        digests = ["", *map(sha256_hex, raw)]
        if len(raw) not in (count, count + 1) or digests[count] != last:
            raise damaged(self.lines)
        values = [self._value(line, previous) for line, previous in zip(raw, digests[:-1], strict=True)]
        if len(raw) > count:  # killed between the two writes: nobody has seen anything of that line yet
            self._write_head(key, len(raw), digests[-1])
        return values

    def append(self, value: dict[str, Any]) -> None:
        """Add a line; on disk, as is the head that counts it, when this returns. Errors as `read`."""
        key, count = self.open_key(), len(self.read())
        old = read_secret(self.lines).splitlines() if count else []
        line = canonical_json({**value, "previous": sha256_hex(old[-1]) if old else ""})
        write_secret(self.lines, b"".join(each + b"\n" for each in [*old, line]))
        self._write_head(key, count + 1, sha256_hex(line))

    def _value(self, line: bytes, previous: str) -> dict[str, Any]:
        try:
            value = dict(json.loads(line))
        except (ValueError, TypeError, RecursionError):
            raise damaged(self.lines) from None
        if value.get("previous") != previous:
            raise damaged(self.lines)
        return value

    def _require_empty(self) -> None:
        """No key is all right where there is nothing else, or a first head: then a ledger was about to be begun."""
        if self.lines.exists() or any(self._releases.glob(RELEASES)):
            raise damaged(self.key)
        if self.head.exists() and _counted(read_secret(self.head)) != 0:
            raise damaged(self.key)

    def _write_head(self, key: bytes, count: int, last: str) -> None:
        head = {"count": count, "last": last, "mac": _mac(key, count, last)}
        write_secret(self.head, canonical_json(head) + b"\n")

    def _read_head(self, key: bytes) -> tuple[int, str]:
        if not self.head.exists():
            raise damaged(self.head)
        try:
            head = json.loads(read_secret(self.head))
            count, last, mac = int(head["count"]), str(head["last"]), str(head["mac"]).encode()
        except (ValueError, KeyError, TypeError, RecursionError):
            raise damaged(self.head) from None
        if count < 0 or not hmac.compare_digest(_mac(key, count, last).encode(), mac):
            raise damaged(self.head)
        return count, last


def damaged(path: Path) -> RefusedError:
    """What is raised, with reason "ledger-damaged", where `path` is not as it was written."""
    return RefusedError(
        "ledger-damaged",
        f"{path} is not what this node wrote, or is gone; nothing is released while it is unknown what was spent: restore the "
        "whole folder from its latest backup",
    )


def read_key(path: Path, passphrase: str | None) -> bytes:
    """The key in the file at `path`; one that is not encrypted opens with any passphrase, as earlier versions encrypted none.

    Raises:
        RefusedError: "ledger-damaged": it is no key.
        EpgfnError: it cannot be read, or does not open.
    """
    raw = read_secret(path)
    if not raw.startswith(ENCRYPTED):
        if len(raw) != _KEY_SIZE:
            raise damaged(path)
        return raw
    if not passphrase:
        raise EpgfnError(f"the key file {path} needs its passphrase")
    try:
        key = load_pem_private_key(raw, passphrase.encode("utf-8"))
    except Exception:
        key = None  # the library raises several kinds
    if not isinstance(key, Ed25519PrivateKey):
        raise EpgfnError(
            f"the key file {path} does not open; check the passphrase, or restore the file from a backup"
        )
    return key.private_bytes_raw()


def key_bytes(key: bytes, passphrase: str | None) -> bytes:
    """The key's file: its 32 bytes, or under a passphrase these as the seed of a key in PKCS#8, as other keys lie on the disk."""
    return to_pem(Ed25519PrivateKey.from_private_bytes(key), passphrase) if passphrase else key


def _mac(key: bytes, count: int, last: str) -> str:
    return hmac.new(key, _LABEL + canonical_json([count, last]), hashlib.sha256).hexdigest()


def _counted(raw: bytes) -> int | None:
    """What a head says without its key; None where it says nothing."""
    try:
        count = json.loads(raw)["count"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return count if isinstance(count, int) else None

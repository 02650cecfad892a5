"""Files that survive a power cut, and secret files that nobody else can read."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from io import BufferedReader
from pathlib import Path
from typing import Final

from epgfn.base import failpoints
from epgfn.base.errors import EpgfnError, NoRoomError, UsageError

NO_ROOM: Final = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EMFILE", "ENFILE", "ENOMEM")
    if hasattr(errno, name)
)
"""What a system says when nothing more can be written for now."""


MAX_KEY_BYTES: Final = 64 << 10
"""Of a key or an invitation: of a longer file no more than this is read."""


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data` as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of the file at `path`, read in pieces, as 64 lower-case hexadecimal digits."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def open_plain(path: Path) -> BufferedReader:
    """A plain file, or a link to one, open for reading. Of a pipe, which might never say anything, a device or a folder nothing is read and
    nobody waits for it.

    Raises:
        OSError: it is no plain file, missing or unreadable.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))
    return os.fdopen(handle, "rb")


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write `data` to `path` so that a reader, or a restart after a kill, sees the old file or the new one whole.

    Temporary file in the same folder, fsync, rename, fsync of the folder.

    Raises:
        NoRoomError: the disk is full or the like; nothing half-written is left.
        EpgfnError: the file cannot be written for another reason, such as permissions; the same.
    """
    try:
        failpoints.at("write", path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as target:
                target.write(data)
                target.flush()
                os.fsync(target.fileno())
            os.chmod(name, mode)
            failpoints.at("written", path)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        failpoints.at("renamed", path)
        sync_directory(path.parent)
    except OSError as error:
        kind = NoRoomError if error.errno in NO_ROOM else EpgfnError
        raise kind(
            f"cannot write {path}: {error.strerror or 'input/output error'}; "
            "free some space or check the folder's permissions, then run again"
        ) from None


def remove(path: Path) -> None:
    """Remove a file, if it is there. Whoever needs that to last syncs the folder."""
    failpoints.at("remove", path)
    path.unlink(missing_ok=True)
    failpoints.at("removed", path)


def sync_directory(path: Path) -> None:
    """Make a rename in `path` durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_secret(path: Path, data: bytes) -> None:
    """`write_atomic` with mode 0600."""
    write_atomic(path, data, mode=0o600)


def read_bytes(path: Path, what: str, most: int | None = None) -> bytes:
    """The bytes of a file the user named; `what` says in the error what it was meant to be (such as "study file").

    `most`: of a file that somebody else wrote, how many bytes it may have. Of a longer one, one byte more is read and no memory is taken
    for the rest, so that whoever checks the size finds it too large; and it has to be a plain file, or a link to one.

    Raises:
        UsageError: it is missing or unreadable.
    """
    try:
        if most is None:
            return path.read_bytes()
        with open_plain(path) as source:
            # As far as the file goes: `read` takes memory for all that it is asked for.
            return source.read(min(most, os.fstat(source.fileno()).st_size) + 1)
    except OSError as error:
        raise UsageError(f"cannot read the {what} {path}: {error.strerror}; check the path") from None


def read_secret(path: Path, most: int | None = None) -> bytes:
    """The bytes of a secret file; `most` as in `read_bytes`.

    Raises:
        EpgfnError: it is missing, unreadable, or anyone but its owner may read it.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise EpgfnError(f"cannot read the secret file {path}: {error.strerror}; check the path") from None
    if stat.S_IMODE(mode) & 0o077:
        raise EpgfnError(f"the secret file {path} can be read by others; run: chmod 600 {path}")
    return read_bytes(path, "secret file", most)

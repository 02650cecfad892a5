"""A backup: one tar file of plain files, the last of which names every other with its SHA-256. It holds secrets and has mode 0600.

backup.json        {"format": ..., "about": {...}, "files": {name: sha256}}, canonical JSON; last, so that half a backup has none
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, NamedTuple, cast

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import sync_directory

MANIFEST: Final = "backup.json"
MAX_MANIFEST: Final = 1 << 24
PIECE: Final = 1 << 20


class Member(NamedTuple):
    """A file of a backup: its name, such as "keys/tls.key", and where its bytes are."""

    name: str
    source: Path | bytes


def write_archive(path: Path, format_name: str, members: Iterable[Member], about: Mapping[str, Any]) -> int:
    """Write the backup `path`, whole or not at all; its size in bytes. What is read from files is read once, in pieces.

    Raises:
        UsageError: `path` exists: no backup is written over another.
        EpgfnError: a file cannot be read or written.
    """
    if path.exists():
        raise UsageError(f"{path} exists already; give every backup a name of its own")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(handle, "wb") as target:
                _write(target, format_name, members, about)
                target.flush()
                os.fsync(target.fileno())
                size = target.tell()
            os.link(name, path)  # unlike a rename, this refuses a name that somebody has taken meanwhile
        finally:
            with contextlib.suppress(OSError):
                os.unlink(name)
        sync_directory(path.parent)
    except OSError as error:
        raise EpgfnError(
            f"cannot write the backup {path}: {error.strerror or 'input/output error'}; free some space or choose another place"
        ) from None
    return size


def _write(target: IO[bytes], format_name: str, members: Iterable[Member], about: Mapping[str, Any]) -> None:
    files: dict[str, str] = {}
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            files[member.name] = _add(archive, member)
        manifest = canonical_json({"format": format_name, "about": dict(about), "files": files})
        _add(archive, Member(MANIFEST, manifest))


def _add(archive: tarfile.TarFile, member: Member) -> str:
    """Put it into the archive; the SHA-256 of what was put there."""
    is_file = isinstance(member.source, Path)
    opened: IO[bytes] = (
        member.source.open("rb") if isinstance(member.source, Path) else io.BytesIO(member.source)
    )
    with opened as source:
        entry = tarfile.TarInfo(member.name)
        entry.size = os.fstat(source.fileno()).st_size if is_file else len(cast(bytes, member.source))
        entry.mode = 0o600
        hashing = _Hashing(source)
        archive.addfile(entry, hashing)
    return hashing.hexdigest()


class _Hashing(io.RawIOBase):
    """Reads from `source` and hashes what it has read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self._hash = source, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        return data

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def read_archive(path: Path, format_name: str, into: Path) -> dict[str, Any]:
    """Unpack the backup `path` into the empty folder `into`, every file with mode 0600 and every folder 0700; what it says about itself.

    Raises:
        UsageError: it is missing or no backup of this format.
        RefusedError: "damaged-backup": it is not whole, or a byte of it was changed.
        EpgfnError: a file cannot be written.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            found, manifest = _unpack(archive, into)
    except tarfile.TarError:
        raise _damaged(path, "it is no tar file, or ends too early") from None
    except OSError as error:
        if error.filename in (None, str(path)):
            raise UsageError(
                f"cannot read the backup {path}: {error.strerror or 'input/output error'}; check the path"
            ) from None
        raise EpgfnError(
            f"cannot write {error.filename}: {error.strerror}; free some space, then restore again"
        ) from None
    try:
        said: Any = parse_canonical_json(manifest)
        name, files, about = said["format"], said["files"], said["about"]
    except (RefusedError, KeyError, TypeError):
        raise _damaged(path, f"its last file is not {MANIFEST}, so it was cut off or is no backup") from None
    if name != format_name:
        raise UsageError(f"{path} is a backup of format {name!a}, not {format_name}")
    if files != found:
        raise _damaged(path, "its files are not those that were put into it")
    return dict(about)


def _unpack(archive: tarfile.TarFile, into: Path) -> tuple[dict[str, str], bytes]:
    """SHA-256 of every file by name, each written below `into`; the manifest's bytes."""
    found: dict[str, str] = {}
    for entry in archive:
        source = archive.extractfile(entry) if entry.isreg() else None
        parts = PurePosixPath(entry.name).parts
        if (
            source is None
            or not parts
            or entry.name in found
            or any(part in ("..", "/", "") for part in parts)
        ):
            raise tarfile.ReadError("not a plain file")
        if entry.name == MANIFEST:
            if entry.size > MAX_MANIFEST or archive.next() is not None:
                raise tarfile.ReadError("not the last file")
            return found, source.read()
        folder = into
        for part in parts[:-1]:
            folder = folder / part
            folder.mkdir(mode=0o700, exist_ok=True)
        found[entry.name] = _copy(source, folder / parts[-1], entry.size)
    return found, b""


def _copy(source: IO[bytes], path: Path, size: int) -> str:
    digest = hashlib.sha256()
    left = size
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
        while data := source.read(PIECE):
            digest.update(data)
            target.write(data)
            left -= len(data)
        target.flush()
        os.fsync(target.fileno())
    if left:
        raise tarfile.ReadError("cut off")
    return digest.hexdigest()


def _damaged(path: Path, why: str) -> RefusedError:
    return RefusedError("damaged-backup", f"{path} cannot be restored: {why}; use another backup")

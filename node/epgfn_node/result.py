"""The whole result: this node's copy of the run directory, of which every file is verified before any is kept.

What the node has itself (study, manifest, the coordinator's keys, its own sealed model, the global model) is not asked for. The coordinator
lists the rest; the ledger comes first, since it says what else there may be. The copy is made in a folder of its own, checked as a whole
(`epgfn.run.audit.audit.require_bound`), and put in place in one step: killed at any moment, the home has the copy of before or the new one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from epgfn.base import failpoints
from epgfn.base.console import Reporter
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import read_bytes, remove, sha256_file, sha256_hex, sync_directory, write_atomic
from epgfn.ledger.entries import AcceptedEntry, Entry, parse
from epgfn.ledger.log import read_log
from epgfn.ledger.note import split_note
from epgfn.ledger.tiles import CHECKPOINT_NAME
from epgfn.rpc import MAX_PIECE
from epgfn.run.audit.audit import require_bound
from epgfn.run.audit.brought import ledger_limit, models_by_limit, small_limit, statements_by_limit
from epgfn.run.audit.enrolments import enrolments
from epgfn.run.audit.kept import Kept
from epgfn.run.audit.story import require_story
from epgfn.run.layout import (
    LEDGER,
    MODEL_BUNDLE,
    PARTICIPANT,
    SEALED,
    UPLOAD_BUNDLE,
    UPLOADS,
    WITNESSES,
    RunLayout,
)
from epgfn.run.participant import mark_of
from epgfn.v1 import result_pb2
from epgfn_node.client import LEAST, Coordinator, NotOffered, stall_guard
from epgfn_node.enroll import Connection
from epgfn_node.home import NodeHome
from epgfn_node.study import Agreement

TRIES: Final = 3
"""Listings, at most: the ledger may grow between a listing and the files."""
AT_ONCE: Final = 1000
"""Files that one call asks for."""
SPARE: Final = 64 << 20
"""Bytes that are left free on the disk."""
BUILDING: Final = "building"
_CHANGED: Final = ("no-such-file", "files-changed")


class Listed(NamedTuple):
    """A file that the coordinator offers."""

    name: str
    size: int
    sha256: str


def bring(
    connection: Connection,
    agreement: Agreement,
    coordinator: Coordinator,
    report: Reporter,
    place: str,
    bundle: bytes,
) -> Path | None:
    """Bring this node's copy of the run directory up to what the coordinator has; where it lies. None from a coordinator of an earlier
    version, which has none to give.

    `bundle`: what the coordinator has signed of the global model at `place`, and this node has verified.

    Raises:
        RefusedError: a check failed; nothing of it is kept, and a copy of before stays.
        EpgfnError: nobody answers, or a file cannot be written.
    """
    copy = _Copy(connection, agreement, coordinator, report)
    for tries_left in reversed(range(TRIES)):
        try:
            listed = copy.offered()
            copy.bring(listed, place, bundle)
            copy.tell_kept()
            return connection.home.result
        except NotOffered:
            return None
        except RefusedError as error:
            if error.reason not in _CHANGED or not tries_left:
                copy.forget()
                raise
        except OSError as error:
            raise _unwritable(connection.home, error) from None
    raise AssertionError("unreachable")


def _kept_of(home: NodeHome) -> list[Kept]:
    """The newest checkpoint that this node has seen."""
    return [Kept(home.checkpoint.name, read_bytes(home.checkpoint, "ledger checkpoint"))]


class _Copy:
    def __init__(
        self, connection: Connection, agreement: Agreement, coordinator: Coordinator, report: Reporter
    ) -> None:
        self._connection, self._agreement = connection, agreement
        self._coordinator, self._report = coordinator, report
        self._home = connection.home
        self._building = self._home.results / BUILDING

    def offered(self) -> list[Listed]:
        """What the coordinator offers.

        Raises:
            RefusedError: "malformed": it names a file twice, or an empty one.
        """
        answer = self._coordinator.call(self._coordinator.result.ListFiles, result_pb2.ListFilesRequest())
        found = [Listed(each.name, int(each.size), bytes(each.sha256).hex()) for each in answer.files]
        if len({each.name for each in found}) != len(found) or not all(each.size for each in found):
            raise _refused("it names a file twice, or one that is empty")
        return found

    def tell_kept(self) -> None:
        """Tell the coordinator that this node needs it no more; by letter there is nobody to tell."""
        if self._connection.recorded is None:
            request = result_pb2.ListFilesRequest(kept=True)
            self._coordinator.call(self._coordinator.result.ListFiles, request)

    def forget(self) -> None:
        """Remove what has come, since it is not what it should be."""
        shutil.rmtree(self._building, ignore_errors=True)

    def bring(self, listed: Sequence[Listed], place: str, bundle: bytes) -> None:
        """Make the copy of these, check it, and put it in place."""
        by_name = {each.name: each for each in listed}
        ledger = [each for each in listed if each.name.startswith(f"{LEDGER}/")]
        self._require_ledger(ledger)
        self._begin(by_name)
        self._download(ledger)
        entries = self._entries()
        others = [each for each in listed if each not in ledger]
        self._require_allowed(others, entries)
        if by_name.get(f"{place}/{MODEL_BUNDLE}", Listed("", 0, "")).sha256 != sha256_hex(bundle):
            raise _refused("its statement on the global model is another one than the node has verified")
        self._write_own(entries)
        if f"{UPLOADS}/{self._connection.node_id}/{UPLOAD_BUNDLE}" in by_name:
            self._link_own_model(entries)
        self._take_what_is_here(others)
        self._require_room(others)
        self._download(others)
        fingerprint = self._connection.trust.coordinator.fingerprint
        require_bound(self._building, fingerprint, _kept_of(self._home))
        self._put_in_place()

    # What may come ---------------------------------------------------------------------------------------------

    def _require_ledger(self, ledger: Sequence[Listed]) -> None:
        limits = {each.name: ledger_limit(each.name) for each in ledger}
        for each in ledger:
            limit = limits[each.name]
            if limit is None or each.size > limit:
                raise _refused(f"{each.name[:100]!a} is no file of a ledger, or larger than one")
        if sum(each.size for each in ledger) > small_limit(self._agreement.study):
            raise _refused("its ledger is larger than that of any round of this study")

    def _require_allowed(self, others: Sequence[Listed], entries: Sequence[Entry]) -> None:
        study = self._agreement.study
        statements, models = statements_by_limit(entries), models_by_limit(study, entries)
        for each in others:
            limit = statements.get(each.name, models.get(each.name))
            if limit is None or each.size > limit:
                raise _refused(
                    f"{each.name[:100]!a} is not a file of this run that a node gets, or too large"
                )
        if sum(each.size for each in others if each.name in statements) > small_limit(study):
            raise _refused("its statements are larger than those of any round of this study")

    def _require_room(self, others: Sequence[Listed]) -> None:
        needed = sum(each.size for each in others if not self._is_there(each))
        free = shutil.disk_usage(self._building).free
        if needed + SPARE > free:
            raise EpgfnError(
                f"the result takes {needed} bytes, and only {free} are free on the disk of {self._home.root}; the global model is kept, "
                "free some space, then fetch again"
            )

    def _entries(self) -> list[Entry]:
        """The ledger's, once every byte of it is verified, and who is in it is on the roster."""
        try:
            view = read_log(self._building / LEDGER, self._connection.trust.ledger)
            entries = [parse(raw) for raw in view.entries]
            require_story(entries[2:], self._agreement.study, self._agreement.round)
        except EpgfnError as error:
            raise _refused(f"its ledger does not verify ({error})") from None
        return entries

    # What is here ----------------------------------------------------------------------------------------------

    def _begin(self, by_name: dict[str, Listed]) -> None:
        """The folder in which the copy is made, with what a killed process has left in it of these files."""
        self._building.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._building.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                with contextlib.suppress(OSError):  # it is not empty
                    path.rmdir()
                continue
            each = by_name.get(path.relative_to(self._building).as_posix())
            if path.is_symlink() or each is None or not _may_stay(path, each):
                remove(path)

    def _write_own(self, entries: Sequence[Entry]) -> None:
        """What this node has agreed to, and the keys that it or the ledger knows."""
        run, home, trust = RunLayout(self._building), self._home, self._connection.trust
        for source in (home.study, home.study_bundle, home.round_bundle):
            write_atomic(self._building / source.name, read_bytes(source, "file of the agreement"))
        write_atomic(run.coordinator_key, trust.coordinator.pem)
        write_atomic(run.ledger_key, f"{trust.ledger_vkey}\n".encode())
        for node, of_node in enrolments(entries).items():
            write_atomic(run.node_key(node), of_node[-1].pem)
        write_atomic(self._building / PARTICIPANT, mark_of(self._connection.node_id))

    def _link_own_model(self, entries: Sequence[Entry]) -> None:
        """The sealed model that the ledger has accepted of this node, if it was sent from this home."""
        node, home = self._connection.node_id, self._home
        accepted = [e.sealed_sha256 for e in entries if isinstance(e, AcceptedEntry) and e.node_id == node]
        if home.sealed.exists() and accepted and sha256_file(home.sealed) == accepted[-1]:
            self._link(home.sealed, RunLayout(self._building).upload(node) / SEALED)

    def _take_what_is_here(self, others: Iterable[Listed]) -> None:
        """Files that this home has already, in its last copy or as the models that it has fetched."""
        for each in others:
            for source in (self._home.result / each.name, self._home.root / each.name):
                fits = source.is_file() and source.stat().st_size == each.size
                if not self._is_there(each) and fits and sha256_file(source) == each.sha256:
                    self._link(source, self._building / each.name)

    def _link(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            target.unlink()
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, target)

    def _is_there(self, each: Listed) -> bool:
        path = self._building / each.name
        return path.is_file() and path.stat().st_size == each.size

    # What comes ------------------------------------------------------------------------------------------------

    def _download(self, listed: Sequence[Listed]) -> None:
        """Those that are not there yet; a broken transfer goes on where it stopped, in this run or the next."""
        missing = [each for each in listed if not self._is_there(each)]
        total = sum(each.size for each in missing)
        for first in range(0, len(missing), AT_ONCE):
            self._download_some(missing[first : first + AT_ONCE], total)

    def _download_some(self, wanted: list[Listed], total: int) -> None:
        left = list(wanted)
        arrived = 0

        def attempt() -> None:
            nonlocal arrived
            names = [each.name for each in left]
            offset = _size(self._building / names[0])
            request = result_pb2.DownloadFilesRequest(names=names, offset=offset)
            call = self._coordinator.result.DownloadFiles(self._coordinator.about(request))
            with stall_guard(call) as fed:
                fed_at, number = arrived, 0
                target: BinaryIO | None = None  # the file that is arriving
                try:
                    for piece in call:
                        each = left[0] if left else Listed("", 0, "")
                        path = self._building / each.name
                        if target is None and each.name:
                            path.parent.mkdir(parents=True, exist_ok=True)
                            target = path.open("ab")
                        at = target.tell() if target is not None else 0
                        fits = (piece.file, piece.offset) == (number, at)
                        if (
                            target is None
                            or not fits
                            or not 0 < len(piece.data) <= min(MAX_PIECE, each.size - at)
                        ):
                            call.cancel()
                            raise RefusedError(
                                "bad-offset", "the coordinator sends files out of order; fetch again"
                            )
                        failpoints.at("append", path)
                        target.write(piece.data)
                        arrived += len(piece.data)
                        if arrived - fed_at >= LEAST:
                            fed()
                            fed_at = arrived
                            self._report.event("fetching", step=arrived, steps=total)
                        if target.tell() == each.size:
                            _close(target)
                            target = None
                            self._require_digest(each)
                            del left[0]
                            number += 1
                finally:
                    if target is not None:
                        target.close()

        while left:
            before = arrived
            self._coordinator.persist(attempt, progress=lambda: arrived // LEAST)
            if left and arrived == before:
                raise RefusedError(
                    "files-changed", f"the coordinator does not send {left[0].name}; fetch again"
                )

    def _require_digest(self, each: Listed) -> None:
        path = self._building / each.name
        if sha256_file(path) != each.sha256:
            remove(path)
            raise RefusedError(
                "files-changed",
                f"{each.name} is not what the coordinator has listed; fetch again, and tell its operator if it persists",
            )

    # What is kept ----------------------------------------------------------------------------------------------

    def _put_in_place(self) -> None:
        home, files = self._home, _digests(self._building)
        if home.result.is_dir() and _is_same(files, home.result):
            shutil.rmtree(self._building)
            return
        whole = home.results / secrets.token_hex(16)
        for folder in (self._building, *(path for path in self._building.rglob("*") if path.is_dir())):
            sync_directory(folder)
        failpoints.at("rename", whole)
        os.rename(self._building, whole)
        sync_directory(home.results)
        failpoints.at("renamed", whole)
        if home.result.is_dir() and not home.result.is_symlink():  # from a backup that has followed links
            os.rename(home.result, home.results / "before")
        link = home.results / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(whole.relative_to(home.root))
        failpoints.at("rename", home.result)
        os.replace(link, home.result)
        sync_directory(home.root)
        failpoints.at("renamed", home.result)
        for other in home.results.iterdir():
            if other != whole:
                shutil.rmtree(other, ignore_errors=True)


def _close(target: BinaryIO) -> None:
    """Have the disk keep it."""
    target.flush()
    os.fsync(target.fileno())
    target.close()


def _may_stay(path: Path, each: Listed) -> bool:
    """Whether a file that a killed process has left is that one, or may be the beginning of it. What is shared with another file of the
    home (`_link`) is never written on."""
    state = path.stat()
    if state.st_size < each.size:
        return state.st_nlink == 1
    return state.st_size == each.size and sha256_file(path) == each.sha256


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`, by name; of the ledger's checkpoint of its text, which is the same whoever has cosigned it."""

    def files() -> Iterator[tuple[str, str]]:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if name == f"{LEDGER}/{CHECKPOINT_NAME}":
                yield name, sha256_hex(split_note(path.read_bytes())[0].encode())
            elif path.is_file():
                yield name, sha256_file(path)

    return dict(files())


def _is_same(files: dict[str, str], before: Path) -> bool:
    """Whether the copy in `before` holds these files, and beside them what people may have added: a report, cosignatures of the ledger."""
    try:
        there = _digests(before)
    except EpgfnError:
        return False
    more = there.keys() - files.keys()
    return all(there.get(name) == digest for name, digest in files.items()) and all(
        name.startswith(f"{WITNESSES}/") or name.endswith((".html", ".png")) for name in more
    )


def _refused(why: str) -> RefusedError:
    return RefusedError(
        "malformed",
        f"the coordinator offers as the result what none can be: {why}; the global model is kept, tell its operator",
    )


def _unwritable(home: NodeHome, error: OSError) -> EpgfnError:
    return EpgfnError(
        f"cannot write the result in {home.root}: {error.strerror or 'input/output error'}; the global model is kept, free some space or "
        "check the folder's permissions, then fetch again"
    )

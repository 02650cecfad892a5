"""What others have kept of a ledger, held against a run directory: receipts, and checkpoints that they have seen.

A coordinator can write its whole ledger anew and sign it. What it cannot do is take back a receipt or a checkpoint that it has given
away: either is its signature on what the ledger was. A run directory must hold what each of them proves, and extend it.

    kept = gather(Path("collected"))            north/receipts/…, south/last-checkpoint, …
    audit_run(run_dir, kept=kept)
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.base.files import read_bytes
from epgfn.ledger.checkpoint import Checkpoint, open_checkpoint
from epgfn.ledger.encoding import to_base64
from epgfn.ledger.entries import AcceptedEntry, Entry, parse
from epgfn.ledger.errors import LedgerError
from epgfn.ledger.log import LogView
from epgfn.ledger.note import NoteVerifier
from epgfn.ledger.proof import HEADER, MAX_PROOF_BYTES, proof_index, verify_proof
from epgfn.ledger.tiles import MAX_ENTRY_BYTES
from epgfn.run.audit.aggregates import live
from epgfn.run.audit.enrolments import enrolments
from epgfn.run.audit.rules import Failed, is_prefix, require
from epgfn.run.audit.timeline import entry_in_words

MAX_FILES: Final = 10_000
_SIGNED: Final = "\N{EM DASH} "
"""How a signature line of a note begins."""


class Kept(NamedTuple):
    """A receipt or a checkpoint that somebody has kept: its name for people, its bytes, and entries that it may be of."""

    name: str
    raw: bytes
    entries: tuple[bytes, ...] = ()

    @property
    def is_receipt(self) -> bool:
        return self.raw.startswith(HEADER.encode())


class Own(NamedTuple):
    """What a node knows of itself. `sent`: SHA-256 of the artifact that it has a receipt for, and of the statement with it; None if it has
    none. `approved`: of one that it may have sent without getting a receipt. `withdrawn`: of those that it has taken back. `earlier`:
    fingerprints of signing keys in whose place it has put its present one."""

    node: str
    study_digest: str
    round_id: str
    ledger_vkey: str
    fingerprint: str
    sent: tuple[str, str] | None = None
    approved: str | None = None
    withdrawn: frozenset[str] = frozenset()
    earlier: tuple[str, ...] = ()


def gather(folder: Path) -> list[Kept]:
    """Every receipt and checkpoint below `folder`, by content, whatever the files are called; ledger entries that lie beside a receipt are
    what it may be of. Other files are passed over.

    Raises:
        UsageError: there is no such folder, it holds neither, or more files than anyone collects.
    """
    files: list[Path] = []
    for place, _, names in os.walk(folder, onerror=_unreadable):
        files += [Path(place) / name for name in names]
        if len(files) > MAX_FILES:
            raise UsageError(
                f"{folder} holds more than {MAX_FILES} files; give a folder of receipts and checkpoints"
            )
    raw = {path: _content(path) for path in sorted(files)}
    found = [
        Kept(
            path.relative_to(folder).as_posix(),
            data,
            tuple(e for p, e in raw.items() if p.parent == path.parent and e.startswith(b"{")),
        )
        for path, data in raw.items()
        if data.startswith(HEADER.encode()) or is_note(data)
    ]  # fmt: skip
    if not found:
        raise UsageError(
            f"{folder} holds neither receipts nor checkpoints; collect them from the nodes' homes (receipts/ and last-checkpoint)"
        )
    return found


def is_note(raw: bytes) -> bool:
    """Whether a file looks like a signed note."""
    try:
        return raw.decode("utf-8").rpartition("\n\n")[2].startswith(_SIGNED)
    except UnicodeDecodeError:
        return False


def check_kept(kept: Kept, view: LogView, verifier: NoteVerifier) -> str:
    """The sentence of the finding: the ledger in `view` holds what `kept` proves, and begins with the ledger that it is of.

    Raises:
        Failed: it does not, or `kept` is not of this ledger at all.
    """
    said, checkpoint = _receipt(kept, view, verifier) if kept.is_receipt else ("", _seen(kept, verifier))
    require(
        checkpoint.size <= view.checkpoint.size,
        f"{kept.name!a} is of a ledger of {checkpoint.size} entries and this run directory has {view.checkpoint.size}: it is older, "
        "or entries were cut off; ask for the export that belongs to it",
    )
    require(
        is_prefix(checkpoint, view),
        f"{kept.name!a} and this run directory are a FORK: {fork(checkpoint, view)}",
    )
    return f"{said}its ledger of {checkpoint.size} entries is a beginning of this one"


def fork(seen: Checkpoint, view: LogView) -> str:
    """Two heads that one key has signed and that cannot be of one ledger, in words."""
    here = Checkpoint(view.checkpoint.origin, seen.size, view.tree.root(seen.size))
    return (
        f"{seen.origin} has signed that its first {seen.size} entries have the root {to_base64(seen.root)}, and, by signing the root "
        f"{to_base64(view.checkpoint.root)} of {view.checkpoint.size} entries, that they have the root {to_base64(here.root)}; keep both, "
        "together they convict whoever holds the ledger's key"
    )


def check_own(own: Own, entries: list[Entry], study_digest: str, round_id: str, vkey: str) -> str:
    """The sentence of the finding: a run directory is of the round that a node took part in, and holds of it what it has sent.

    Raises:
        Failed: it is of another round, or something was dropped, swapped or invented in the node's name.
    """
    node = own.node
    require(
        (own.study_digest, own.round_id, own.ledger_vkey) == (study_digest, round_id, vkey),
        f"this run directory is of round {round_id} of the study {study_digest}, and {node} took part in round {own.round_id} of "
        f"{own.study_digest}, or in one of another ledger",
    )
    _require_own_key(own, entries)
    counts = {entry.node_id: (index, entry) for index, entry in live(entries).items()}
    accepted = [e for e in entries if isinstance(e, AcceptedEntry) and e.node_id == node]
    if own.sent is None:
        invented = [e for e in accepted if e.sealed_sha256 not in own.withdrawn | {own.approved}]
        require(
            not invented,
            f"the ledger accepts an artifact of {node} that this node has never sent: {invented[-1].sealed_sha256 if invented else ''}; "
            "if it was sent from a home that is lost, compare that digest; if not, somebody else has used this node's name",
        )
        said = (
            "has not sent anything, and the ledger accepts nothing of it"
            if not accepted
            else "has sent what the ledger accepts"
        )
        return f"{node}, under the key of this node, {said}"
    require(
        any((e.sealed_sha256, e.bundle_sha256) == own.sent for e in accepted),
        f"what {node} has sent and has a receipt for, {own.sent[0]}, is not in this ledger: it was dropped or swapped",
    )
    if node not in counts:
        return f"{node}'s artifact {own.sent[0]} is accepted, and does NOT count any more: see above"
    index, entry = counts[node]
    require(
        entry.sealed_sha256 == own.sent[0],
        f"the ledger counts another artifact of {node}, {entry.sealed_sha256}, than the one this node has a receipt for, {own.sent[0]}",
    )
    return f"{node}'s artifact {own.sent[0]} is here as it was sent, under this node's key, accepted by ledger entry {index}"


def _require_own_key(own: Own, entries: list[Entry]) -> None:
    of_node = enrolments(entries).get(own.node, [])
    require(bool(of_node), f"the ledger does not say that {own.node} ever enrolled")
    last = of_node[-1]
    require(
        last.entry.fingerprint in (own.fingerprint, *own.earlier),
        f"the ledger enrols {own.node} with the key {last.entry.fingerprint}, which is not this node's, {own.fingerprint}: "
        "somebody else acts in its name",
    )


def _receipt(kept: Kept, view: LogView, verifier: NoteVerifier) -> tuple[str, Checkpoint]:
    """What a receipt proves, in words, if it is in `view`; and the checkpoint under which it does."""
    problem = ""
    try:
        index = proof_index(kept.raw)
    except LedgerError as error:
        raise Failed(f"{kept.name!a} is not a receipt: {error}") from None
    here = view.entries[index : index + 1]
    for entry in (*here, *kept.entries):
        try:
            _, checkpoint = verify_proof(kept.raw, entry, verifier)
        except LedgerError as error:
            problem = problem or str(error)
            continue
        if [entry] == here:
            return f"{kept.name!a} proves entry {index} ({_words(entry)}), which is here; ", checkpoint
        raise Failed(
            f"{kept.name!a} proves that entry {index} of this ledger was: {_words(entry)} (SHA-256 of what was accepted and of its "
            f"statement: {_digests(entry)}). Here that entry is {'missing' if not here else _words(here[0])}: the ledger was rewritten "
            f"after the receipt was given, or this run directory is older. The receipt's head: {checkpoint.size} entries, root "
            f"{to_base64(checkpoint.root)}; this one's: {view.checkpoint.size}, {to_base64(view.checkpoint.root)}; keep both"
        )
    raise Failed(
        f"{kept.name!a} proves nothing that is in this ledger: {problem or f'there is no entry {index}'}"
    )


def _seen(kept: Kept, verifier: NoteVerifier) -> Checkpoint:
    try:
        return open_checkpoint(kept.raw, verifier)
    except LedgerError as error:
        raise Failed(f"{kept.name!a} is no checkpoint of this ledger: {error}") from None


def _words(entry: bytes) -> str:
    try:
        return entry_in_words(parse(entry))
    except EpgfnError:
        return "an entry of a form that is not known here"


def _digests(entry: bytes) -> str:
    try:
        said = parse(entry)
    except EpgfnError:
        return "unknown"
    return ", ".join(str(getattr(said, name, "none")) for name in ("sealed_sha256", "bundle_sha256"))


def _content(path: Path) -> bytes:
    """Of a plain file that may be a receipt, a checkpoint or an entry; empty of any other."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return b""
        raw = read_bytes(path, "file", MAX_PROOF_BYTES)
    except (OSError, UsageError):
        return b""
    return b"" if len(raw) > (MAX_ENTRY_BYTES if raw.startswith(b"{") else MAX_PROOF_BYTES) else raw


def _unreadable(error: OSError) -> None:
    raise UsageError(f"cannot read the folder {error.filename}: {error.strerror}; check the path")

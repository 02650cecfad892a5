"""Two ledgers, or what two people have seen of one, held against each other: is one the beginning of the other, or has it been forked?

    one, other = read_head(Path("runs/theirs")), read_head(Path("north/last-checkpoint"), key)
    compare(one, other)             "… is a beginning of …", or a ForkError that holds both signed heads

A coordinator whose key has signed two heads that cannot be of one ledger is convicted by these two alone: each is its own signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from epgfn.base.errors import EpgfnError, RefusedError, UsageError, one_line
from epgfn.base.files import read_bytes
from epgfn.ledger.checkpoint import Checkpoint, open_checkpoint
from epgfn.ledger.encoding import to_base64
from epgfn.ledger.entries import parse
from epgfn.ledger.errors import LedgerError
from epgfn.ledger.log import LogView, read_log
from epgfn.ledger.note import NoteVerifier
from epgfn.ledger.proof import HEADER, MAX_PROOF_BYTES
from epgfn.ledger.tiles import CHECKPOINT_NAME
from epgfn.run.audit.kept import is_note
from epgfn.run.audit.timeline import entry_in_words
from epgfn.run.layout import LEDGER, RunLayout

MAX_KEY_BYTES = 1 << 12


@dataclass(frozen=True)
class Head:
    """A signed checkpoint, whose signature was checked, and all entries behind it where they are there."""

    name: str
    note: bytes
    checkpoint: Checkpoint
    verifier: NoteVerifier
    view: LogView | None = None


class ForkError(RefusedError):
    """One key has signed two heads that cannot be of one ledger; `evidence` holds both, as they were signed."""

    def __init__(self, message: str, one: Head, other: Head) -> None:
        super().__init__("ledger-fork", message)
        self.evidence = [
            f"The head in {head.name}, as it was signed:\n\n{_printable(head.note)}" for head in (one, other)
        ]


def read_key(path: Path) -> NoteVerifier:
    """The ledger's key in a file such as keys/ledger.vkey of a run directory, or trust/ledger.vkey of a node's home.

    Raises:
        UsageError: it cannot be read.
        RefusedError: it is no such key.
    """
    return NoteVerifier.from_vkey(
        read_bytes(path, "ledger's key", MAX_KEY_BYTES).decode("utf-8", "replace").strip()
    )


def read_head(path: Path, key: NoteVerifier | None = None) -> Head:
    """Of a run directory, which brings its own key, or of a file that holds a checkpoint or a receipt, which is signed with `key`.

    Raises:
        UsageError: there is nothing of that kind, or a `key` is needed.
        LedgerError: it is not signed with the key, or the ledger's files are damaged.
    """
    if path.is_dir():
        verifier = key or read_key(RunLayout(path).ledger_key)
        folder = path / LEDGER if (path / LEDGER / CHECKPOINT_NAME).exists() else path
        view = read_log(folder, verifier, strict=False)
        return Head(str(path), view.note, view.checkpoint, verifier, view)
    raw = read_bytes(path, "checkpoint", MAX_PROOF_BYTES)
    note = raw.partition(b"\n\n")[2] if raw.startswith(HEADER.encode()) else raw
    if not is_note(note):
        raise UsageError(f"{path} is neither a run directory nor a checkpoint nor a receipt")
    if key is None:
        raise UsageError(
            f"a checkpoint does not hold the key that it is signed with: compare {path} with a run directory, or give "
            "--ledger-key, such as trust/ledger.vkey of a node's home"
        )
    return Head(str(path), note, open_checkpoint(note, key), key)


def compare(one: Head, other: Head) -> str:
    """How the ledgers of two heads of one key belong together, in a sentence.

    Raises:
        ForkError: they cannot be of one ledger.
        RefusedError: "other-ledger": they are of two keys or origins.
        EpgfnError: it takes the entries of the longer one to tell, and they are not there.
    """
    if one.verifier != other.verifier:
        raise RefusedError(
            "other-ledger",
            f"{one.name} is of the ledger {one.verifier.vkey} and {other.name} of {other.verifier.vkey}: of two keys nothing "
            "follows; if both are said to be of one round, compare round.sigstore.json, where the coordinator has signed the ledger's key",
        )
    short, long = sorted((one, other), key=lambda head: head.checkpoint.size)
    m, n = short.checkpoint.size, long.checkpoint.size
    if m == n:
        if short.checkpoint.root != long.checkpoint.root:
            raise _forked(short, long, m)
        return f"{one.name} and {other.name} are of the same ledger at the same moment: {n} entries, root {_root(long)}"
    if long.view is None:
        raise EpgfnError(
            f"{long.name} is of {n} entries and {short.name} of {m}: whether one extends the other only the {n} entries show; "
            "compare with the run directory that holds them"
        )
    if long.view.tree.root(m) != short.checkpoint.root:
        raise _forked(short, long, m)
    return f"{short.name}, of {m} entries, is a beginning of {long.name}, which goes on to {n}"


def _forked(short: Head, long: Head, size: int) -> ForkError:
    said = (
        f"THE LEDGER {one_line(short.checkpoint.origin)} HAS BEEN FORKED: its key has signed {short.name} ({size} entries, root "
        f"{_root(short)}) and {long.name} ({long.checkpoint.size} entries, root {_root(long)}), and neither is a beginning of the other"
    )
    if short.view is not None and long.view is not None:
        pairs = enumerate(zip(short.view.entries, long.view.entries, strict=False))
        index, (here, there) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        said += (
            f". They part at entry {index}: {_words(here)} in {short.name}, {_words(there)} in {long.name}"
        )
    return ForkError(said, short, long)


def _words(entry: bytes) -> str:
    try:
        return entry_in_words(parse(entry))
    except LedgerError:
        return "an entry of a form that is not known here"


def _root(head: Head) -> str:
    return to_base64(head.checkpoint.root)


def _printable(note: bytes) -> str:
    return "\n".join(one_line(line) for line in note.decode("utf-8", "replace").split("\n"))

"""C2SP checkpoints: the size and root of a log, signed as a note.

    <origin>
    <size>
    base64(<root>)

The log's origin and its key's name are the same text. Source: https://c2sp.org/tlog-checkpoint
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epgfn.ledger.encoding import from_base64, from_decimal, to_base64
from epgfn.ledger.errors import LedgerError
from epgfn.ledger.merkle import EMPTY_ROOT, HASH_BYTES, verify_consistency
from epgfn.ledger.note import NoteSigner, NoteVerifier, verify


@dataclass(frozen=True)
class Checkpoint:
    """A log at one moment: its origin, its number of entries, its root (32 bytes), and extension lines (we write none)."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def to_text(self) -> str:
        """The text that is signed."""
        lines = [self.origin, str(self.size), to_base64(self.root), *self.extensions]
        return "".join(f"{line}\n" for line in lines)

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """The checkpoint that `text` spells; LedgerError for any other form."""
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() != "" or "" in lines:
            raise LedgerError("the checkpoint does not have its three lines")
        root = from_base64(lines[2], "root in the checkpoint")
        checkpoint = cls(lines[0], from_decimal(lines[1], "size in the checkpoint"), root, tuple(lines[3:]))
        checkpoint._require_sound()
        return checkpoint

    def as_dict(self) -> dict[str, Any]:
        """{"origin", "size", "root" (base64)}, how statements quote a checkpoint."""
        return {"origin": self.origin, "size": self.size, "root": to_base64(self.root)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Checkpoint:
        """The checkpoint that `as_dict` wrote; LedgerError for any other form."""
        origin, size, root = value.get("origin"), value.get("size"), value.get("root")
        if (
            set(value) != {"origin", "size", "root"}
            or not isinstance(origin, str)
            or not isinstance(root, str)
        ):
            raise LedgerError("a quoted checkpoint must hold exactly origin, size and root")
        if not isinstance(size, int) or isinstance(size, bool):
            raise LedgerError("the size in a quoted checkpoint must be a whole number")
        return cls.parse(f"{origin}\n{size}\n{root}\n")

    def sign(self, signer: NoteSigner) -> bytes:
        """The signed checkpoint; LedgerError if the signer's name is not this log's origin."""
        if signer.name != self.origin:
            raise LedgerError(f"the checkpoint of {self.origin} cannot be signed by {signer.name}")
        return signer.sign(self.to_text())

    def _require_sound(self) -> None:
        if len(self.root) != HASH_BYTES:
            raise LedgerError(f"the root in the checkpoint is not {HASH_BYTES} bytes")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise LedgerError("the checkpoint of an empty log has a root that is not the empty tree's")


def open_checkpoint(note: bytes, verifier: NoteVerifier, *, strict: bool = False) -> Checkpoint:
    """The checkpoint in a signed note.

    Raises:
        LedgerError: not signed by `verifier` (strict: or twice), malformed, or of another log.
    """
    checkpoint = Checkpoint.parse(verify(note, verifier, strict=strict))
    if checkpoint.origin != verifier.name:
        raise LedgerError(f"the checkpoint is of the log {checkpoint.origin}, not {verifier.name}")
    return checkpoint


def verify_extends(old: Checkpoint, new: Checkpoint, proof: Sequence[bytes]) -> None:
    """Check that the log at `new` still holds everything it held at `old`; any log extends the empty one.

    `proof` is the consistency proof from old.size to new.size, empty where old.size is 0 or the sizes are equal.

    Raises:
        LedgerError: another log, a smaller log, a rewritten log, or a wrong proof.
    """
    if old.origin != new.origin:
        raise LedgerError(
            f"the checkpoint is of the log {new.origin}, not {old.origin}; connect to the same coordinator"
        )
    if old.size == 0:
        if proof:
            raise LedgerError("the consistency proof from an empty log must be empty")
        return
    verify_consistency(old.size, new.size, old.root, new.root, list(proof))

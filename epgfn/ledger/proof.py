"""C2SP tlog-proof: a receipt that can be checked offline with the log's verifier key alone.

    c2sp.org/tlog-proof@v1
    index <index>
    base64(<hash>)          zero or more lines, from the leaf's sibling up

    <signed checkpoint, as it is>

We write no `extra` line. Source: https://c2sp.org/tlog-proof
"""

from __future__ import annotations

from collections.abc import Sequence

from epgfn.ledger.checkpoint import Checkpoint, open_checkpoint
from epgfn.ledger.encoding import from_base64, from_decimal, to_base64
from epgfn.ledger.errors import LedgerError
from epgfn.ledger.merkle import leaf_hash, verify_inclusion
from epgfn.ledger.note import MAX_NOTE_BYTES, NoteVerifier

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF_HASHES = 63
MAX_PROOF_BYTES = 2 * MAX_NOTE_BYTES


def make_proof(index: int, hashes: Sequence[bytes], checkpoint_note: bytes) -> bytes:
    """The receipt for entry `index` with its inclusion proof in the tree of the signed checkpoint."""
    lines = [HEADER, f"index {index}", *map(to_base64, hashes), "", ""]
    return "\n".join(lines).encode("ascii") + checkpoint_note


def verify_proof(
    proof: bytes, entry: bytes, verifier: NoteVerifier, *, strict: bool = False
) -> tuple[int, Checkpoint]:
    """The index of `entry` in the log, and the signed checkpoint that commits to it.

    Signatures of other keys are ignored. So is an `extra` line, which nothing authenticates, unless `strict`: then it is refused.

    Raises:
        LedgerError: malformed, not signed by the log, or the entry is not at that place in it.
    """
    head, note = _split(proof)
    lines = head.split("\n")
    if lines.pop(0) != HEADER:
        raise LedgerError(f"the receipt does not begin with {HEADER}")
    if lines and lines[0].startswith("extra "):
        if strict:
            raise LedgerError(
                "the receipt holds an extra line that nothing vouches for; use the original file"
            )
        from_base64(lines.pop(0).removeprefix("extra "), "extra line of the receipt")
    if not lines or not lines[0].startswith("index "):
        raise LedgerError("the receipt has no index line")
    index = from_decimal(lines.pop(0).removeprefix("index "), "index in the receipt")
    if len(lines) > MAX_PROOF_HASHES:
        raise LedgerError(f"the receipt has more than {MAX_PROOF_HASHES} hashes")
    hashes = [from_base64(line, "hash in the receipt") for line in lines]
    checkpoint = open_checkpoint(note, verifier, strict=strict)
    verify_inclusion(leaf_hash(entry), index, checkpoint.size, hashes, checkpoint.root)
    return index, checkpoint


def proof_index(proof: bytes) -> int:
    """Which entry a receipt says that it is of; nothing is verified. LedgerError if it does not say."""
    for line in _split(proof)[0].split("\n")[1:3]:  # an `extra` line may come first
        if line.startswith("index "):
            return from_decimal(line.removeprefix("index "), "index in the receipt")
    raise LedgerError("the receipt has no index line")


def _split(proof: bytes) -> tuple[str, bytes]:
    """The lines before the first empty one, and the checkpoint after it."""
    if len(proof) > MAX_PROOF_BYTES:
        raise LedgerError(f"the receipt is larger than {MAX_PROOF_BYTES} bytes")
    head, blank, note = proof.partition(b"\n\n")
    if not blank:
        raise LedgerError("the receipt holds no checkpoint")
    try:
        return head.decode("ascii"), note
    except UnicodeDecodeError:
        raise LedgerError("the receipt's proof is not ASCII text") from None

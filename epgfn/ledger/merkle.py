"""The Merkle tree of RFC 6962 over SHA-256: roots, inclusion proofs, consistency proofs.

    leaf hash  = SHA-256(0x00 || entry)
    inner hash = SHA-256(0x01 || left || right)
    MTH(D[0:n]) = inner(MTH(D[0:k]), MTH(D[k:n])), k the largest power of two below n;  MTH of nothing = SHA-256("")

`verify_inclusion` and `verify_consistency` need nothing but hashes, so anyone can call them:

    verify_inclusion(leaf_hash(entry), index, size, proof, root)      # returns None, or raises LedgerError
    verify_consistency(size1, size2, root1, root2, proof)

They follow the verification algorithms of RFC 9162, sections 2.1.3.2 and 2.1.4.2 (same trees as RFC 6962).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from epgfn.ledger.errors import LedgerError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry), 32 bytes."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right), 32 bytes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """An appendable tree. Appending costs one hash on average; roots and proofs of any earlier size cost O(log n).

    `levels[h][i]` is the hash of the i-th complete subtree with 2^h leaves; `levels[0]` are the leaf hashes.
    """

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        self.levels: list[list[bytes]] = [[]]
        for digest in leaf_hashes:
            self.append(digest)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self.levels[0])

    def append(self, digest: bytes) -> None:
        """Add one leaf hash, and every inner hash that it completes."""
        _require_hash(digest, "leaf hash")
        height = 0
        self.levels[0].append(digest)
        while len(self.levels[height]) % 2 == 0:
            left, right = self.levels[height][-2:]
            height += 1
            if height == len(self.levels):
                self.levels.append([])
            self.levels[height].append(node_hash(left, right))

    def root(self, size: int | None = None) -> bytes:
        """MTH of the first `size` leaves (None: all).

        Raises:
            LedgerError: the tree has fewer leaves.
        """
        size = self._checked(size)
        return self._hash(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """PATH(index, D[0:size]) of RFC 6962 section 2.1.1, from the leaf's sibling up.

        Raises:
            LedgerError: no such leaf in a tree of that size.
        """
        size = self._checked(size)
        if not 0 <= index < size:
            raise LedgerError(f"entry {index} is not in a log of size {size}; ask for a smaller index")
        proof: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                proof.append(self._hash(middle, end))
                end = middle
            else:
                proof.append(self._hash(start, middle))
                start = middle
        return proof[::-1]

    def consistency_proof(self, size1: int, size2: int | None = None) -> list[bytes]:
        """PROOF(size1, D[0:size2]) of RFC 6962 section 2.1.2; empty where the sizes are equal.

        Raises:
            LedgerError: not 0 < size1 <= size2 (nothing can be proved from the empty tree).
        """
        size2 = self._checked(size2)
        if not 0 < size1 <= size2:
            raise LedgerError(
                f"there is no consistency proof from size {size1} to size {size2}; need 0 < first <= second"
            )
        proof: list[bytes] = []
        start, end = 0, size2
        while size1 != end:
            middle = start + _split(end - start)
            if size1 <= middle:
                proof.append(self._hash(middle, end))
                end = middle
            else:
                proof.append(self._hash(start, middle))
                start = middle
        if start:  # the old root is not itself a node of the path, so its rightmost piece must be told
            proof.append(self._hash(start, end))
        return proof[::-1]

    def _checked(self, size: int | None) -> int:
        size = self.size if size is None else size
        if not 0 <= size <= self.size:
            raise LedgerError(f"the log has {self.size} entries, so there is no tree of size {size}")
        return size

    def _hash(self, start: int, end: int) -> bytes:
        """MTH(D[start:end]); `start` is a multiple of the power of two that covers the range, as RFC 6962 splits."""
        count = end - start
        if count & (count - 1) == 0:
            height = count.bit_length() - 1
            return self.levels[height][start >> height]
        middle = start + _split(count)
        return node_hash(self._hash(start, middle), self._hash(middle, end))


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """MTH of the leaves with these hashes, 32 bytes; SHA-256("") for none."""
    return MerkleTree(leaf_hashes).root()


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Proof that leaf `index` is in the tree of all these leaves; LedgerError if there is no such leaf."""
    return MerkleTree(leaf_hashes).inclusion_proof(index)


def consistency_proof(leaf_hashes: Sequence[bytes], size1: int) -> list[bytes]:
    """Proof that the first `size1` of these leaves are a prefix of all; LedgerError unless 0 < size1 <= their number."""
    return MerkleTree(leaf_hashes).consistency_proof(size1)


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf with this hash stands at `index` in the tree of `size` leaves with this root.

    All hashes are 32 bytes, `proof` runs from the leaf's sibling up. Returns None when it holds.

    Raises:
        LedgerError: it does not, or an argument is out of range, of the wrong length or type, or the proof has
            too few or too many hashes.
    """
    _require_number(index, "index")
    _require_number(size, "size")
    _require_hash(leaf_hash, "leaf hash")
    _require_hash(root, "root")
    _require_proof(proof)
    if index >= size:
        raise LedgerError(f"entry {index} cannot be in a log of size {size}; the receipt is not valid")
    position, last, digest = index, size - 1, leaf_hash
    for step in proof:
        if last == 0:
            raise LedgerError("the inclusion proof has too many hashes; ask for the receipt again")
        if position & 1 or position == last:
            digest = node_hash(step, digest)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            digest = node_hash(digest, step)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise LedgerError("the inclusion proof has too few hashes; ask for the receipt again")
    if digest != root:
        raise LedgerError("the inclusion proof does not lead to the log's root; the entry is not in that log")


def verify_consistency(size1: int, size2: int, root1: bytes, root2: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree (size1, root1) is a prefix of the tree (size2, root2): nothing was rewritten or removed.

    All hashes are 32 bytes. Equal sizes need equal roots and an empty proof. `size1 == 0` is refused: RFC 6962
    defines the proof for 0 < size1 only and Go's implementations refuse it too, since it proves nothing about
    anything. Whoever last saw an empty log has nothing to compare (`checkpoint.verify_extends` does that case).

    Raises:
        LedgerError: it does not hold, or an argument is out of range, of the wrong length or type, or the proof
            has too few or too many hashes.
    """
    _require_number(size1, "first size")
    _require_number(size2, "second size")
    _require_hash(root1, "first root")
    _require_hash(root2, "second root")
    _require_proof(proof)
    if size1 == 0:
        raise LedgerError("a consistency proof from the empty log proves nothing; compare from size 1 on")
    if size1 > size2:
        raise LedgerError(f"the log shrank from size {size1} to {size2}; entries were removed")
    if size1 == size2:
        if proof:
            raise LedgerError("the consistency proof between equal sizes must be empty")
        if root1 != root2:
            raise LedgerError(f"the log has two different roots at size {size1}; it was rewritten")
        return
    if not proof:
        raise LedgerError("the consistency proof is empty; ask the log for it again")
    # A first tree of 2^h leaves is itself a node of the second, so its root is not sent.
    path = [root1, *proof] if size1 & (size1 - 1) == 0 else list(proof)
    position, last = size1 - 1, size2 - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = path[0]
    for step in path[1:]:
        if last == 0:
            raise LedgerError("the consistency proof has too many hashes; ask the log for it again")
        if position & 1 or position == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, step)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise LedgerError("the consistency proof has too few hashes; ask the log for it again")
    if old != root1 or new != root2:
        raise LedgerError(
            f"the log of size {size2} does not extend the one of size {size1}; it was rewritten"
        )


def _split(count: int) -> int:
    """The largest power of two below `count` (> 1)."""
    return 1 << ((count - 1).bit_length() - 1)


def _require_hash(value: object, what: str) -> None:
    if not isinstance(value, bytes) or len(value) != HASH_BYTES:
        raise LedgerError(f"the {what} must be {HASH_BYTES} bytes")


def _require_number(value: object, what: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise LedgerError(f"the {what} must be a whole number, zero or more")


def _require_proof(proof: object) -> None:
    if not isinstance(proof, list | tuple):
        raise LedgerError("the proof must be a list of hashes")
    for step in proof:
        _require_hash(step, "each hash of the proof")

"""Masks that hide one party's numbers and cancel, or are taken off, in the sum of all: vectors of whole numbers modulo 2^64.

    key = pair_key(terms, own_secret, peer_public, "north", "south")      the same on both sides
    y = x + stream(self_key(...)) + sum of signed streams                  uniform, whatever x, to whoever lacks a key

X25519 (RFC 7748) and HKDF-SHA256 (RFC 5869) make a key that nobody else has, of which ChaCha20 (RFC 8439) makes as many bytes as are
needed. Each key is bound to study, round and who shares it, and is used once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from epgfn.base.errors import RefusedError

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
WORD: Final = np.dtype("<u8")
_LABEL: Final = b"epgfn masked sum v1"

Vector = npt.NDArray[np.uint64]
"""(L,) whole numbers modulo 2^64."""


@dataclass(frozen=True)
class Terms:
    """What all parties of one sum agree on. `roster`: who may take part, whose places in it are those of their shares, from 1 on.
    `threshold`: how many are needed for the total, and how many have to sign who is in it. `length`: of a vector."""

    study_digest: str
    round_id: str
    roster: tuple[str, ...]
    threshold: int
    length: int

    def context(self, label: str, *parts: str) -> bytes:
        """Bytes that no other purpose, study, round or parties have."""
        fields = [_LABEL, label.encode(), self.study_digest.encode(), self.round_id.encode()]
        fields += [part.encode() for part in parts]
        return b"".join(len(field).to_bytes(4, "big") + field for field in fields)

    def place(self, node: str) -> int:
        """Of a node's shares."""
        return self.roster.index(node) + 1


def public_of(secret: bytes) -> bytes:
    """The X25519 public key, 32 bytes, of a private one."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def agree(secret: bytes, public: bytes) -> bytes:
    """The 32 bytes that two X25519 keys have in common.

    Raises:
        RefusedError: "bad-key": the public key is one with which everybody has the same in common.
    """
    try:
        shared = X25519PrivateKey.from_private_bytes(secret)
        return shared.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise RefusedError("bad-key", "a masking key is no usable X25519 key; tell its node") from None


def derive(secret: bytes, context: bytes) -> bytes:
    """A key of 32 bytes for one purpose."""
    return HKDF(hashes.SHA256(), KEY_BYTES, None, context).derive(secret)


def stream(key: bytes, length: int) -> Vector:
    """(L,) uniform whole numbers modulo 2^64, little-endian: the ChaCha20 stream of a key that is used for this alone."""
    cipher = Cipher(ChaCha20(key, bytes(16)), None).encryptor()
    return np.frombuffer(cipher.update(bytes(WORD.itemsize * length)), WORD).astype(np.uint64)


def pair_mask(terms: Terms, own_secret: bytes, peer_public: bytes, own: str, peer: str) -> Vector:
    """What `own` adds because of `peer`; `peer` adds the opposite because of `own`."""
    low, high = sorted((own, peer))
    mask = stream(derive(agree(own_secret, peer_public), terms.context("pair", low, high)), terms.length)
    return mask if own == low else np.uint64(0) - mask


def self_mask(terms: Terms, seed: bytes, node: str) -> Vector:
    """What `node` adds of its own, and others let the coordinator take off if it is in the sum."""
    return stream(derive(seed, terms.context("self", node)), terms.length)


def commitment(terms: Terms, kind: str, value: bytes, *parts: str) -> str:
    """SHA-256, hexadecimal, of a value of 32 random bytes or more: which it is, nobody learns from that, and no other has it."""
    return hashlib.sha256(terms.context(f"commitment {kind}", *parts) + value).hexdigest()


def seal_to(
    terms: Terms, own_secret: bytes, peer_public: bytes, own: str, peer: str, text: bytes, nonce: bytes
) -> bytes:
    """`text` for `peer` alone: nonce and AES-256-GCM, under a key for this direction."""
    key = derive(agree(own_secret, peer_public), terms.context("share", own, peer))
    return nonce + AESGCM(key).encrypt(nonce, text, terms.context("share", own, peer))


def open_from(
    terms: Terms, own_secret: bytes, peer_public: bytes, own: str, peer: str, sealed: bytes
) -> bytes:
    """What `peer` sealed to `own`.

    Raises:
        RefusedError: "share-wrong": it is not that, or was altered.
    """
    key = derive(agree(own_secret, peer_public), terms.context("share", peer, own))
    try:
        return AESGCM(key).decrypt(
            sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], terms.context("share", peer, own)
        )
    except (InvalidTag, ValueError):
        raise RefusedError(
            "share-wrong",
            f"what {peer} is said to have sealed for this node does not open; nothing is sent, tell the coordinator's operator and {peer}",
        ) from None

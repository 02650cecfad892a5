"""C2SP chunked-encryption, instance Cobblestone-256: https://c2sp.org/chunked-encryption

    key ‖ base nonce ‖ commitment = HKDF-Expand(SHA-512, prk = input key,
                                        info = "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM" ‖ 0 ‖ salt ‖ context)
    sealed = salt (24) ‖ commitment (32) ‖ AES-256-GCM(chunk 0) ‖ AES-256-GCM(chunk 1) ‖ …

Every chunk holds 16 KiB but the last, which is shorter and may be empty: a message that ends on a full chunk was
cut. Chunk i has the nonce (base nonce XOR i). The commitment makes it impossible to craft one ciphertext that
opens under two keys. The context is not secret and not sent; both sides must know it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from epgfn.base.errors import RefusedError

KEY_BYTES = 32
CHUNK_BYTES = 16 * 1024
TAG_BYTES = 16
SALT_BYTES = 24
COMMITMENT_BYTES = 32
PREFIX_BYTES = SALT_BYTES + COMMITMENT_BYTES
MAX_CHUNKS = 1 << 38

_NONCE_BYTES = 12
_INFO = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"


def sealed_size(size: int) -> int:
    """Bytes that `encrypt` returns for a plaintext of `size` bytes."""
    return PREFIX_BYTES + size + (size // CHUNK_BYTES + 1) * TAG_BYTES


def encrypt(plaintext: bytes, key: bytes, context: bytes) -> bytes:
    """Seal `plaintext` under a uniformly random 32-byte `key`, bound to `context`, with a fresh random salt.

    Raises:
        ValueError: `key` is not 32 bytes.
    """
    target = BytesIO()
    encrypt_stream(BytesIO(plaintext), target, key, context)
    return target.getvalue()


def decrypt(sealed: bytes, key: bytes, context: bytes) -> bytes:
    """The plaintext that `encrypt` sealed under this `key` and `context`; all of it is verified before any is returned.

    Raises:
        RefusedError: "cannot-decrypt": another key or context, or the bytes were changed, cut or extended.
        ValueError: `key` is not 32 bytes.
    """
    target = BytesIO()
    decrypt_stream(BytesIO(sealed), target, key, context)
    return target.getvalue()


def encrypt_stream(src: BinaryIO, dst: BinaryIO, key: bytes, context: bytes) -> None:
    """`encrypt` from `src` (read to its end) into `dst`, holding one chunk in memory.

    Raises:
        ValueError: `key` is not 32 bytes, or `src` is longer than 4 PiB.
    """
    salt = os.urandom(SALT_BYTES)
    keys = _derive(key, salt, context)
    dst.write(salt + keys.commitment)
    aead = AESGCM(keys.key)
    for index, chunk in enumerate(_pieces(src, CHUNK_BYTES)):
        if index >= MAX_CHUNKS:
            raise ValueError("a message may not be longer than 4 PiB")
        dst.write(aead.encrypt(_nonce(keys.base_nonce, index), chunk, None))


def decrypt_stream(src: BinaryIO, dst: BinaryIO, key: bytes, context: bytes) -> None:
    """`decrypt` from `src` (read to its end) into `dst`, chunk by chunk, each written only after it is verified.

    What is in `dst` is genuine but may be cut short until this function has returned: discard it on an error.

    Raises:
        RefusedError: "cannot-decrypt": another key or context, or the bytes were changed, cut (also at the edge
            of a chunk) or extended.
        ValueError: `key` is not 32 bytes.
    """
    prefix = _read_fully(src, PREFIX_BYTES)
    if len(prefix) < PREFIX_BYTES:
        raise _refused()
    keys = _derive(key, prefix[:SALT_BYTES], context)
    if not constant_time.bytes_eq(keys.commitment, prefix[SALT_BYTES:]):
        raise _refused()
    aead = AESGCM(keys.key)
    for index, piece in enumerate(_pieces(src, CHUNK_BYTES + TAG_BYTES)):
        # The last piece is the one that is not full. A message that stops after a full one gives an empty last
        # piece here, which has no room for a tag and is refused: this is how a cut at the edge of a chunk shows.
        if len(piece) < TAG_BYTES or index >= MAX_CHUNKS:
            raise _refused()
        try:
            dst.write(aead.decrypt(_nonce(keys.base_nonce, index), piece, None))
        except InvalidTag:
            raise _refused() from None


class _MessageKeys(NamedTuple):
    key: bytes
    base_nonce: bytes
    commitment: bytes


def _derive(key: bytes, salt: bytes, context: bytes) -> _MessageKeys:
    if len(key) != KEY_BYTES:
        raise ValueError(f"the key must be {KEY_BYTES} bytes")
    length = KEY_BYTES + _NONCE_BYTES + COMMITMENT_BYTES
    out = HKDFExpand(hashes.SHA512(), length, _INFO + salt + context).derive(key)
    return _MessageKeys(out[:KEY_BYTES], out[KEY_BYTES:-COMMITMENT_BYTES], out[-COMMITMENT_BYTES:])


def _nonce(base: bytes, index: int) -> bytes:
    return (int.from_bytes(base, "big") ^ index).to_bytes(_NONCE_BYTES, "big")


def _pieces(src: BinaryIO, size: int) -> Iterator[bytes]:
    """Full pieces of `size` bytes, then always one shorter piece, which may be empty."""
    while True:
        piece = _read_fully(src, size)
        yield piece
        if len(piece) < size:
            return


def _read_fully(src: BinaryIO, size: int) -> bytes:
    """`size` bytes, fewer only at the end: one `read` of a socket or a pipe may return less than asked."""
    parts: list[bytes] = []
    missing = size
    while missing and (part := src.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _refused() -> RefusedError:
    # One sentence for every cause: which check failed is nothing an attacker should learn.
    return RefusedError(
        "cannot-decrypt",
        "the sealed bytes do not open with this key and context: they were damaged or cut, or belong to another "
        "node, round or study; ask the sender to seal and send again",
    )

"""C2SP tlog-cosignature: witnesses sign a log's checkpoint, so that another history of it needs them as accomplices.

    — <cosigner name> base64(key id || timestamp (uint64) || signature)

    key id    = SHA-256(name || 0x0A || type || public key)[:4]     type 0x04: Ed25519, 0x06: ML-DSA-44
    Ed25519   signs "cosignature/v1\\ntime <timestamp>\\n" and the checkpoint's text
    ML-DSA-44 signs "subtree/v1\\n\\0", name, timestamp, origin, 0, size and root (names behind a length of one byte)

A witness states that it saw the log only grow, and that at that time (seconds since 1970) this was the largest it had seen. Both types are
verified; we sign with ML-DSA-44, as the specification recommends. Source: https://c2sp.org/tlog-cosignature
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from epgfn.base.errors import UsageError
from epgfn.base.files import MAX_KEY_BYTES, read_secret, write_secret
from epgfn.base.private_keys import named_pem, open_named
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.encoding import to_base64
from epgfn.ledger.errors import LedgerError
from epgfn.ledger.note import require_name, split_key, split_note

ED25519: Final = b"\x04"
ML_DSA_44: Final = b"\x06"
_KEY_BYTES: Final = {ED25519: 32, ML_DSA_44: 1312}
_SIGNATURE_BYTES: Final = {ED25519: 64, ML_DSA_44: 2420}
_SEED_BYTES: Final = 32
_TIMESTAMP_BYTES: Final = 8
_PROTECTED: Final = "witness key "
_PRIVATE: Final = "PRIVATE+KEY+"
_MAX_NAME: Final = 255


@dataclass(frozen=True)
class Cosigner:
    """A witness as others know it: a name, the type of its key, and the public key."""

    name: str
    kind: bytes
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that stand before each of its signatures."""
        return hashlib.sha256(self.name.encode() + b"\n" + self.kind + self.public_key).digest()[:4]

    @property
    def vkey(self) -> str:
        """All of it as one string, `<name>+<hex key id>+<base64>`."""
        return f"{self.name}+{self.key_id.hex()}+{to_base64(self.kind + self.public_key)}"

    @classmethod
    def from_vkey(cls, text: str) -> Cosigner:
        """The witness that `text`, as `vkey` writes it, stands for.

        Raises:
            LedgerError: malformed, of another type of key, or the key id does not fit.
        """
        name, key_id, key = split_key(text, "witness's key")
        if len(name.encode()) > _MAX_NAME or len(key) - 1 != _KEY_BYTES.get(key[:1], 0):
            raise LedgerError("the witness's key is neither an Ed25519 nor an ML-DSA-44 cosigner key")
        cosigner = cls(name, key[:1], key[1:])
        if key_id != cosigner.key_id.hex():
            raise LedgerError("the witness's key id does not fit its key; copy it again from its source")
        return cosigner

    def verify(self, checkpoint: Checkpoint, signature: bytes) -> int:
        """The time of a cosignature of `checkpoint`, given as what stands behind the key id.

        Raises:
            LedgerError: it is not this witness's, or of another checkpoint.
        """
        stamp, raw = signature[:_TIMESTAMP_BYTES], signature[_TIMESTAMP_BYTES:]
        timestamp = int.from_bytes(stamp, "big")
        try:
            if len(raw) != _SIGNATURE_BYTES[self.kind] or timestamp >= 1 << 63:
                raise ValueError
            if self.kind == ED25519:
                Ed25519PublicKey.from_public_bytes(self.public_key).verify(
                    raw, _with_time(checkpoint, timestamp)
                )
            else:
                message = _as_subtree(self.name, checkpoint, timestamp)
                MLDSA44PublicKey.from_public_bytes(self.public_key).verify(raw, message)
        except (InvalidSignature, ValueError):
            raise LedgerError(f"the cosignature of {self.name} on the checkpoint is not valid") from None
        return timestamp


class CosignerKey:
    """A witness's private key, ML-DSA-44. Its `repr` shows no key material."""

    def __init__(self, name: str, seed: bytes) -> None:
        require_name(name)
        if len(name.encode()) > _MAX_NAME:
            raise LedgerError(f"a witness's name has at most {_MAX_NAME} bytes")
        self._key = MLDSA44PrivateKey.from_seed_bytes(seed)
        self.public = Cosigner(name, ML_DSA_44, self._key.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"CosignerKey({self.public.name!r}, key id {self.public.key_id.hex()})"

    @classmethod
    def generate(cls, name: str) -> CosignerKey:
        """A fresh key."""
        return cls(name, MLDSA44PrivateKey.generate().private_bytes_raw())

    @classmethod
    def load(cls, path: Path, passphrase: str | None = None) -> CosignerKey:
        """The key in the file at `path`; one that is not encrypted opens with any `passphrase`, as earlier versions encrypted none.

        Raises:
            EpgfnError: it is missing, others may read it, or the passphrase is missing or wrong.
            UsageError: it is no such key.
        """
        raw = read_secret(path, MAX_KEY_BYTES)
        if raw.startswith(_PROTECTED.encode()):
            name, opened = open_named(raw, _PROTECTED, MLDSA44PrivateKey, path, passphrase)  # type: ignore[type-abstract]
            return cls(name, opened.private_bytes_raw())
        try:
            text = raw.decode("utf-8").removesuffix("\n")
            if not text.startswith(_PRIVATE):
                raise LedgerError("not a private key")
            name, key_id, seed = split_key(text.removeprefix(_PRIVATE), "witness's private key")
            if seed[:1] != ML_DSA_44 or len(seed) != 1 + _SEED_BYTES:
                raise LedgerError("another type of key")
            key = cls(name, seed[1:])
            if key_id != key.public.key_id.hex():
                raise LedgerError("the key id does not fit")
        except (LedgerError, ValueError):
            raise UsageError(f"{path} does not hold a witness's key; restore it from your backup") from None
        return key

    def save(self, path: Path, passphrase: str | None = None) -> None:
        """Write the key to `path`, readable by its owner only."""
        write_secret(path, self.private_bytes(passphrase))

    def private_bytes(self, passphrase: str | None = None) -> bytes:
        """The key's file: a secret. Under a passphrase a line with its name, then PKCS#8 PEM."""
        if passphrase:
            return named_pem(_PROTECTED, self.public.name, self._key, passphrase)
        seed = to_base64(ML_DSA_44 + self._key.private_bytes_raw())
        return f"{_PRIVATE}{self.public.name}+{self.public.key_id.hex()}+{seed}\n".encode()

    def cosign(self, checkpoint: Checkpoint, at: int | None = None) -> bytes:
        """The signature line, with its newline, on a checkpoint that its owner has seen to extend all it saw before. `at`: now.

        Raises:
            LedgerError: the checkpoint has extension lines, which such a signature would not cover.
        """
        timestamp = int(time.time()) if at is None else at
        raw = self._key.sign(_as_subtree(self.public.name, checkpoint, timestamp))
        signature = self.public.key_id + timestamp.to_bytes(_TIMESTAMP_BYTES, "big") + raw
        return f"\N{EM DASH} {self.public.name} {to_base64(signature)}\n".encode()


def cosignatures(note: bytes, cosigners: Iterable[Cosigner]) -> dict[Cosigner, int]:
    """Which of `cosigners` have signed the checkpoint in `note`, and when; other signatures are passed over.

    Raises:
        LedgerError: malformed, or a signature under the name and key id of one of them is not valid, or without a time.
    """
    text, signatures = split_note(note)
    checkpoint = Checkpoint.parse(text)
    known = {(cosigner.name, cosigner.key_id): cosigner for cosigner in cosigners}
    found: dict[Cosigner, int] = {}
    for name, signature in signatures:
        cosigner = known.get((name, signature[:4]))
        if cosigner is None:
            continue
        found[cosigner] = cosigner.verify(checkpoint, signature[4:])
        if not found[cosigner]:
            raise LedgerError(
                f"the cosignature of {name} has no time, so it does not say that it had seen nothing newer"
            )
    return found


def _with_time(checkpoint: Checkpoint, timestamp: int) -> bytes:
    return f"cosignature/v1\ntime {timestamp}\n{checkpoint.to_text()}".encode()


def _as_subtree(name: str, checkpoint: Checkpoint, timestamp: int) -> bytes:
    """LedgerError where the message cannot say all that the checkpoint does."""
    if checkpoint.extensions:
        raise LedgerError("the checkpoint has extension lines, which an ML-DSA-44 cosignature does not cover")
    parts = [b"subtree/v1\n\0", _short(name), _number(timestamp), _short(checkpoint.origin), _number(0)]
    return b"".join([*parts, _number(checkpoint.size), checkpoint.root])


def _short(text: str) -> bytes:
    raw = text.encode()
    if not 0 < len(raw) <= _MAX_NAME:
        raise LedgerError(f"a name of more than {_MAX_NAME} bytes cannot be cosigned")
    return bytes([len(raw)]) + raw


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")

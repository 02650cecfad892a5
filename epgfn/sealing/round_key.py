"""The key a round's uploads are encrypted to: HPKE (RFC 9180), made for one round and destroyed after it.

Suite "ML-KEM-768+X25519" (default) is the hybrid KEM MLKEM768-X25519, safe as long as one of the two is; suite
"X25519" is for those who may not use it. Both go with HKDF-SHA-256 and AES-256-GCM.

    raw public key    hybrid: ML-KEM-768 encapsulation key (1184 bytes) ‖ X25519 (32)     X25519: 32 bytes
    private key file  the suite's name, a newline, raw seeds. Hybrid: ML-KEM (64) ‖ X25519 (32). X25519: 32 bytes
    key id            SHA-256 of the suite's name ‖ 0 ‖ raw public key, in hexadecimal
"""

from __future__ import annotations

from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_hex

HYBRID: Final = "ML-KEM-768+X25519"
CLASSICAL: Final = "X25519"
SUITES: Final = (HYBRID, CLASSICAL)

_MLKEM_PUBLIC, _MLKEM_SEED, _MLKEM_ENCAPSULATION, _X25519 = 1184, 64, 1088, 32
_PUBLIC_BYTES = {HYBRID: _MLKEM_PUBLIC + _X25519, CLASSICAL: _X25519}
_PRIVATE_BYTES = {HYBRID: _MLKEM_SEED + _X25519, CLASSICAL: _X25519}
_ENCAPSULATION_BYTES = {HYBRID: _MLKEM_ENCAPSULATION + _X25519, CLASSICAL: _X25519}
_KEMS = {HYBRID: hpke.KEM.MLKEM768_X25519, CLASSICAL: hpke.KEM.X25519}
_TAG_BYTES = 16


def wrapped_size(suite: str, size: int) -> int:
    """Bytes of the encapsulation and the ciphertext together, for a plaintext of `size` bytes."""
    return _ENCAPSULATION_BYTES[suite] + size + _TAG_BYTES


class RoundPublicKey:
    """What a node encrypts to. It comes out of the signed round manifest."""

    def __init__(self, suite: str, raw: bytes) -> None:
        """See `from_bytes`."""
        _require_suite(suite)
        try:
            if len(raw) != _PUBLIC_BYTES[suite]:
                raise ValueError
            self._key = _public_key(suite, raw)
        except ValueError:
            raise _bad_key() from None
        self.suite = suite
        self.raw = raw

    @classmethod
    def from_bytes(cls, suite: str, raw: bytes) -> Self:
        """Read a raw public key.

        Raises:
            RefusedError: "wrong-suite" for a suite we do not know, "bad-key" if the bytes are no such key.
        """
        return cls(suite, raw)

    @property
    def key_id(self) -> str:
        """SHA-256 over suite and key, 64 lower-case hexadecimal digits."""
        return sha256_hex(self.suite.encode("ascii") + b"\0" + self.raw)

    def wrap(self, secret: bytes, info: bytes) -> bytes:
        """HPKE base mode, one message: encapsulation ‖ ciphertext of `secret`, bound to `info`.

        Raises:
            RefusedError: "bad-key": nothing can be encrypted to this key (a point of small order).
        """
        try:
            return _hpke(self.suite).encrypt(secret, self._key, info)
        except ValueError:
            raise _bad_key() from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RoundPublicKey) and (self.suite, self.raw) == (other.suite, other.raw)

    def __hash__(self) -> int:
        return hash((self.suite, self.raw))

    def __repr__(self) -> str:
        return f"RoundPublicKey({self.suite}, {self.key_id})"


class RoundPrivateKey:
    """What opens a round's uploads. Destroy its file after aggregation unless the study keeps it for an auditor."""

    def __init__(self, suite: str, seeds: bytes) -> None:
        """See `from_bytes`; `seeds` is what stands behind the suite's line."""
        _require_suite(suite)
        if len(seeds) != _PRIVATE_BYTES[suite]:
            raise _bad_private_key()
        self.suite = suite
        self._seeds = seeds
        self._x25519 = X25519PrivateKey.from_private_bytes(seeds[-_X25519:])
        self._mlkem = MLKEM768PrivateKey.from_seed_bytes(seeds[:_MLKEM_SEED]) if suite == HYBRID else None

    @classmethod
    def generate(cls, suite: str = HYBRID) -> Self:
        """A fresh random key.

        Raises:
            RefusedError: "wrong-suite" for a suite we do not know.
        """
        _require_suite(suite)
        seeds = X25519PrivateKey.generate().private_bytes_raw()
        if suite == HYBRID:
            seeds = MLKEM768PrivateKey.generate().private_bytes_raw() + seeds
        return cls(suite, seeds)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read what `to_bytes` gave.

        Raises:
            RefusedError: "wrong-suite" for a suite we do not know, "bad-key" for anything else.
        """
        line, newline, seeds = raw.partition(b"\n")
        suite = line.decode("ascii", "replace")
        if not newline:
            raise _bad_private_key()
        return cls(suite, seeds)

    def to_bytes(self) -> bytes:
        """The secret in the form of a file: suite, newline, raw seeds. Write it with `epgfn.base.files.write_secret`."""
        return self.suite.encode("ascii") + b"\n" + self._seeds

    @property
    def public(self) -> RoundPublicKey:
        """The public half."""
        raw = self._x25519.public_key().public_bytes_raw()
        if self._mlkem is not None:
            raw = self._mlkem.public_key().public_bytes_raw() + raw
        return RoundPublicKey(self.suite, raw)

    @property
    def key_id(self) -> str:
        """The same as `public.key_id`."""
        return self.public.key_id

    def unwrap(self, wrapped: bytes, info: bytes) -> bytes:
        """The secret that `RoundPublicKey.wrap` sealed with this `info`.

        Raises:
            RefusedError: "cannot-decrypt": changed bytes, another key or another `info`.
        """
        key = (
            self._x25519 if self._mlkem is None else hpke.MLKEM768X25519PrivateKey(self._mlkem, self._x25519)
        )
        try:
            return _hpke(self.suite).decrypt(wrapped, key, info)
        except (InvalidTag, ValueError):
            raise RefusedError(
                "cannot-decrypt",
                "the sealed key does not open with this round's key: it was damaged, or belongs to another node, "
                "round or study; ask the sender to seal and send again",
            ) from None

    def __repr__(self) -> str:
        return f"RoundPrivateKey({self.suite}, {self.key_id})"


def _public_key(suite: str, raw: bytes) -> X25519PublicKey | hpke.MLKEM768X25519PublicKey:
    x25519 = X25519PublicKey.from_public_bytes(raw[-_X25519:])
    # ValueError for a point of small order, to which nothing can be encrypted: told when the key is read, before anyone keeps it.
    X25519PrivateKey.generate().exchange(x25519)
    if suite == CLASSICAL:
        return x25519
    return hpke.MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC]), x25519)


def _hpke(suite: str) -> hpke.Suite:
    return hpke.Suite(_KEMS[suite], hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def _require_suite(suite: str) -> None:
    if suite not in SUITES:
        raise RefusedError(
            "wrong-suite",
            f"the encryption suite is not one of {', '.join(SUITES)}; compare it with the study",
        )


def _bad_key() -> RefusedError:
    return RefusedError(
        "bad-key", "the round's public key is not valid; fetch the signed round manifest again"
    )


def _bad_private_key() -> RefusedError:
    return RefusedError("bad-key", "the round's private key is not valid; restore its file from a backup")

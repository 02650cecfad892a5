"""Signing keys: ECDSA over P-256 with SHA-256, which every outside verifier supports.

A private key is a PKCS#8 PEM file with mode 0600, encrypted if a passphrase is given. A public key is an SPKI PEM
file; its fingerprint is the SHA-256 of the SPKI DER, as `openssl pkey -pubin -outform DER | sha256sum` prints it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import MAX_KEY_BYTES, read_secret, sha256_hex, write_secret
from epgfn.base.private_keys import to_pem

_ALGORITHM = ec.ECDSA(hashes.SHA256())
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256, FIPS 186-4 D.1.2.3
_MAX_PEM_BYTES = 4096


class VerifyKey:
    """A public P-256 key. Equal keys are equal objects."""

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key = key
        self._der = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read an SPKI PEM.

        Raises:
            RefusedError: "bad-key": no P-256 key, or other bytes than the ones `pem` would give for it.
        """
        try:
            if len(pem) > _MAX_PEM_BYTES:
                raise ValueError
            key = serialization.load_pem_public_key(pem)
        except Exception:
            key = None  # the library raises several kinds, and none of them helps the reader more than our sentence
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            result = cls(key)
            if result.pem == pem:
                return result
        raise RefusedError(
            "bad-key", "the public key is not a P-256 key in PEM form; ask its owner for it again"
        )

    @property
    def pem(self) -> bytes:
        """SPKI PEM, the only form `from_pem` takes."""
        return self._key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def der(self) -> bytes:
        """SPKI DER."""
        return self._der

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the SPKI DER, 64 lower-case hexadecimal digits."""
        return sha256_hex(self._der)

    def verify(self, data: bytes, signature: bytes) -> None:
        """Check a DER signature of `data` with the smaller of the two possible values of s.

        Raises:
            RefusedError: "bad-signature".
        """
        try:
            r, s = decode_dss_signature(signature)
            # Who has (r, s) can write (r, −s) without the key. Taking only one keeps a signed file's bytes unique.
            if s > _ORDER // 2 or encode_dss_signature(r, s) != signature:
                raise ValueError
            self._key.verify(signature, data, _ALGORITHM)
        except (InvalidSignature, ValueError):
            raise RefusedError(
                "bad-signature",
                "the signature does not fit: the bytes were changed or another key signed them; "
                "ask the sender for the original and compare key fingerprints",
            ) from None

    def as_cryptography(self) -> ec.EllipticCurvePublicKey:
        """The key for use with the `cryptography` package."""
        return self._key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyKey) and self._der == other._der

    def __hash__(self) -> int:
        return hash(self._der)

    def __repr__(self) -> str:
        return f"VerifyKey({self.fingerprint})"


def open_private(path: Path, passphrase: str | None = None) -> PrivateKeyTypes:
    """The private key of any kind in a PEM file.

    Raises:
        EpgfnError: missing, readable by others, wrong or missing passphrase, or no key.
    """
    raw = read_secret(path, MAX_KEY_BYTES)
    password = passphrase.encode("utf-8") if passphrase else None
    try:
        return serialization.load_pem_private_key(raw, password)
    except TypeError:
        # The library says so when one of passphrase and encryption is there without the other.
        advice = "is not encrypted: leave the passphrase out" if password else "needs its passphrase"
        raise EpgfnError(f"the key file {path} {advice}") from None
    except Exception:
        raise EpgfnError(
            f"the key file {path} does not open; check the passphrase, or restore the file from a backup"
        ) from None


class SigningKey:
    """A private P-256 key, for signatures or for a TLS certificate (use a key of its own for each)."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> Self:
        """A fresh random key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, path: Path, passphrase: str | None = None) -> Self:
        """Read a PKCS#8 PEM file.

        Raises:
            EpgfnError: missing, readable by others, wrong or missing passphrase, or no P-256 key.
        """
        key = open_private(path, passphrase)
        if not (isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)):
            raise EpgfnError(f"the key file {path} holds no P-256 key; name the file that init made")
        return cls(key)

    def save(self, path: Path, passphrase: str | None = None) -> None:
        """Write a PKCS#8 PEM file with mode 0600, encrypted if there is a passphrase.

        Raises:
            EpgfnError: the file cannot be written.
        """
        write_secret(path, self.private_pem(passphrase))

    def private_pem(self, passphrase: str | None = None) -> bytes:
        """PKCS#8 PEM: a secret, unless a good passphrase encrypts it."""
        return to_pem(self._key, passphrase)

    @property
    def public(self) -> VerifyKey:
        """The public half."""
        return VerifyKey(self._key.public_key())

    def sign(self, data: bytes) -> bytes:
        """A DER signature of `data` that `VerifyKey.verify` takes."""
        r, s = decode_dss_signature(self._key.sign(data, _ALGORITHM))
        return encode_dss_signature(r, min(s, _ORDER - s))

    def as_cryptography(self) -> ec.EllipticCurvePrivateKey:
        """The key for use with the `cryptography` package."""
        return self._key

    def __repr__(self) -> str:
        return f"SigningKey({self.public.fingerprint})"

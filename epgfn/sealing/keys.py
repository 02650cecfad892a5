"""Signing keys: ECDSA over P-256 with SHA-256, which every outside verifier supports, and beside it, where its owner wants that, ML-DSA-65
(FIPS 204), which stands where P-256 falls.

A private key is a PKCS#8 PEM file with mode 0600, encrypted if a passphrase is given. A public key is an SPKI PEM
file; its fingerprint is the SHA-256 of the SPKI DER, as `openssl pkey -pubin -outform DER | sha256sum` prints it.

A double key is both in one: two PEM blocks in one file, P-256 first; its fingerprint is the SHA-256 of both DERs, one after the other. It
signs with both, and verifies only what both have signed. Whoever knows a party by such a key, or by its fingerprint, therefore takes no
signature of it with one half missing, and no other second half.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import MAX_KEY_BYTES, read_secret, sha256_hex, write_secret
from epgfn.base.private_keys import to_pem

_ALGORITHM = ec.ECDSA(hashes.SHA256())
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256, FIPS 186-4 D.1.2.3
_MAX_PEM_BYTES = 4096
_ML_DSA_BYTES: Final = 3309  # of a signature by ML-DSA-65
_BEGIN: Final = re.compile(rb"-----BEGIN (?:(?:ENCRYPTED )?PRIVATE|PUBLIC) KEY-----")


class VerifyKey:
    """A public key: P-256, or double. Equal keys are equal objects."""

    def __init__(self, key: ec.EllipticCurvePublicKey, second: MLDSA65PublicKey | None = None) -> None:
        """`second`: the other half of a double key."""
        self._key, self._second = key, second
        self._ders = [_spki(half, serialization.Encoding.DER) for half in (key, second) if half is not None]

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read an SPKI PEM, or two of a double key.

        Raises:
            RefusedError: "bad-key": no P-256 key, nor double, or other bytes than the ones `pem` would give for it.
        """
        try:
            if len(pem) > _MAX_PEM_BYTES:
                raise ValueError
            key, *further = [serialization.load_pem_public_key(block) for block in _blocks(pem)]
            second = further[0] if further else None
            if (
                len(further) < 2
                and isinstance(key, ec.EllipticCurvePublicKey)
                and isinstance(key.curve, ec.SECP256R1)
                and isinstance(second, MLDSA65PublicKey | None)
            ):
                result = cls(key, second)
                if result.pem == pem:
                    return result
        except Exception:
            pass  # the library raises several kinds, and none of them helps the reader more than our sentence
        raise RefusedError(
            "bad-key", "the public key is not a P-256 key in PEM form; ask its owner for it again"
        )

    @property
    def pem(self) -> bytes:
        """SPKI PEM, the only form `from_pem` takes; of a double key both, one after the other."""
        halves = [half for half in (self._key, self._second) if half is not None]
        return b"".join(_spki(half, serialization.Encoding.PEM) for half in halves)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the SPKI DER, of a double key of both, 64 lower-case hexadecimal digits."""
        return sha256_hex(b"".join(self._ders))

    @property
    def is_double(self) -> bool:
        """Whether ML-DSA-65 signs beside P-256."""
        return self._second is not None

    @property
    def keyids(self) -> list[str]:
        """What the signatures of this key are called: SHA-256 of the SPKI DER of each half, P-256 first."""
        return [sha256_hex(der) for der in self._ders]

    @property
    def first(self) -> VerifyKey:
        """The P-256 key alone, for outside tools."""
        return VerifyKey(self._key)

    @property
    def algorithms(self) -> str:
        """What signs, for people."""
        return "P-256 and ML-DSA-65" if self.is_double else "P-256"

    def verify(self, data: bytes, signature: bytes) -> None:
        """Check what `SigningKey.sign` gave.

        Raises:
            RefusedError: "bad-signature".
        """
        if self._second is None:
            self.verify_each(data, [signature])
        else:
            self.verify_each(data, [signature[:-_ML_DSA_BYTES], signature[-_ML_DSA_BYTES:]])

    def verify_each(self, data: bytes, signatures: Sequence[bytes]) -> None:
        """Check the signatures of `data` by each half: a DER signature with the smaller of the two possible values of s; by ML-DSA-65.

        Raises:
            RefusedError: "bad-signature"; "signature-missing": one is not there.
        """
        if len(signatures) != len(self._ders):
            raise RefusedError(
                "signature-missing",
                f"{len(self._ders)} signatures belong here ({self.algorithms}), and there are {len(signatures)}; ask for the original",
            )
        try:
            r, s = decode_dss_signature(signatures[0])
            # Who has (r, s) can write (r, −s) without the key. Taking only one keeps a signed file's bytes unique.
            if s > _ORDER // 2 or encode_dss_signature(r, s) != signatures[0]:
                raise ValueError
            self._key.verify(signatures[0], data, _ALGORITHM)
            if self._second is not None:
                self._second.verify(signatures[1], data)
        except (InvalidSignature, ValueError):
            raise RefusedError(
                "bad-signature",
                "the signature does not fit: the bytes were changed or another key signed them; "
                "ask the sender for the original and compare key fingerprints",
            ) from None

    def as_cryptography(self) -> ec.EllipticCurvePublicKey:
        """The P-256 key for use with the `cryptography` package."""
        return self._key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyKey) and self._ders == other._ders

    def __hash__(self) -> int:
        return hash(tuple(self._ders))

    def __repr__(self) -> str:
        return f"VerifyKey({self.fingerprint})"


def open_private(path: Path, passphrase: str | None = None) -> PrivateKeyTypes:
    """The private key of any kind in a PEM file that holds one.

    Raises:
        EpgfnError: missing, readable by others, wrong or missing passphrase, or no key.
    """
    return _open_private(path, passphrase)[0]


def reencrypted(path: Path, passphrase: str | None, new: str | None) -> bytes:
    """The file at `path`, of a key or a double one, under another passphrase.

    Raises:
        EpgfnError: as `open_private`.
    """
    return b"".join(to_pem(key, new) for key in _open_private(path, passphrase))


def _open_private(path: Path, passphrase: str | None) -> list[PrivateKeyTypes]:
    blocks = _blocks(read_secret(path, MAX_KEY_BYTES))
    password = passphrase.encode("utf-8") if passphrase else None
    try:
        return [serialization.load_pem_private_key(block, password) for block in blocks]
    except TypeError:
        # The library says so when one of passphrase and encryption is there without the other.
        advice = "is not encrypted: leave the passphrase out" if password else "needs its passphrase"
        raise EpgfnError(f"the key file {path} {advice}") from None
    except Exception:
        raise EpgfnError(
            f"the key file {path} does not open; check the passphrase, or restore the file from a backup"
        ) from None


class SigningKey:
    """A private key, for signatures or, P-256 alone, for a TLS certificate (use a key of its own for each)."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, second: MLDSA65PrivateKey | None = None) -> None:
        """`second`: the other half of a double key."""
        self._key, self._second = key, second

    @classmethod
    def generate(cls, *, double: bool = False) -> Self:
        """A fresh random key; `double`: with ML-DSA-65 beside P-256."""
        return cls(ec.generate_private_key(ec.SECP256R1()), MLDSA65PrivateKey.generate() if double else None)

    @classmethod
    def load(cls, path: Path, passphrase: str | None = None) -> Self:
        """Read a PKCS#8 PEM file.

        Raises:
            EpgfnError: missing, readable by others, wrong or missing passphrase, or no P-256 key, nor double.
        """
        key, *further = _open_private(path, passphrase)
        second = further[0] if further else None
        if (
            len(further) < 2
            and isinstance(key, ec.EllipticCurvePrivateKey)
            and isinstance(key.curve, ec.SECP256R1)
            and isinstance(second, MLDSA65PrivateKey | None)
        ):
            return cls(key, second)
        raise EpgfnError(f"the key file {path} holds no P-256 key; name the file that init made")

    def save(self, path: Path, passphrase: str | None = None) -> None:
        """Write a PKCS#8 PEM file with mode 0600, encrypted if there is a passphrase.

        Raises:
            EpgfnError: the file cannot be written.
        """
        write_secret(path, self.private_pem(passphrase))

    def private_pem(self, passphrase: str | None = None) -> bytes:
        """PKCS#8 PEM: a secret, unless a good passphrase encrypts it; of a double key both, one after the other."""
        return b"".join(to_pem(half, passphrase) for half in (self._key, self._second) if half is not None)

    @property
    def public(self) -> VerifyKey:
        """The public half."""
        return VerifyKey(self._key.public_key(), None if self._second is None else self._second.public_key())

    @property
    def first(self) -> SigningKey:
        """The P-256 key alone, for outside tools."""
        return SigningKey(self._key)

    def sign(self, data: bytes) -> bytes:
        """A signature of `data` that `VerifyKey.verify` takes: DER, and of a double key that of ML-DSA-65 after it."""
        return b"".join(self.sign_each(data))

    def sign_each(self, data: bytes) -> list[bytes]:
        """The signatures of `data` that `VerifyKey.verify_each` takes."""
        r, s = decode_dss_signature(self._key.sign(data, _ALGORITHM))
        signed = [encode_dss_signature(r, min(s, _ORDER - s))]
        return signed if self._second is None else [*signed, self._second.sign(data)]

    def as_cryptography(self) -> ec.EllipticCurvePrivateKey:
        """The P-256 key for use with the `cryptography` package."""
        return self._key

    def __repr__(self) -> str:
        return f"SigningKey({self.public.fingerprint})"


def _spki(key: ec.EllipticCurvePublicKey | MLDSA65PublicKey, encoding: serialization.Encoding) -> bytes:
    return key.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)


def _blocks(pem: bytes) -> list[bytes]:
    """The blocks of a double key's file, each for itself; of any other, the whole file."""
    starts = [match.start() for match in _BEGIN.finditer(pem)]
    if len(starts) < 2:
        return [pem]
    return [pem[start:end] for start, end in zip(starts, [*starts[1:], len(pem)], strict=True)]

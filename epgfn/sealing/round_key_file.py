"""A private key for sealed files on disk, mode 0600: as it is, or under a passphrase: salt (16), then C2SP chunked encryption."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import read_secret, write_secret
from epgfn.sealing import chunked
from epgfn.sealing.round_key import RoundPrivateKey

_SALT_BYTES: Final = 16
_CONTEXT: Final = b"epgfn round key file v1"


def write_private_key(path: Path, key: RoundPrivateKey, passphrase: str | None) -> None:
    """Keep the key, encrypted if there is a passphrase.

    Raises:
        EpgfnError: the file cannot be written.
    """
    write_secret(path, private_key_bytes(key, passphrase))


def private_key_bytes(key: RoundPrivateKey, passphrase: str | None) -> bytes:
    """The key's file: a secret, unless a good passphrase encrypts it."""
    raw = key.to_bytes()
    if not passphrase:
        return raw
    salt = os.urandom(_SALT_BYTES)
    return salt + chunked.encrypt(raw, _stretch(passphrase, salt), _CONTEXT)


def read_private_key(path: Path, passphrase: str | None, what: str) -> RoundPrivateKey:
    """The key that `write_private_key` kept; `what` it is, for the error.

    Raises:
        EpgfnError: it is missing, others can read it, or it does not open.
    """
    raw = read_secret(path)
    try:
        if passphrase:
            salt, sealed = raw[:_SALT_BYTES], raw[_SALT_BYTES:]
            raw = chunked.decrypt(sealed, _stretch(passphrase, salt), _CONTEXT)
        return RoundPrivateKey.from_bytes(raw)
    except (RefusedError, ValueError):
        # Our own file does not open, which must never count as a refusal of what somebody sent.
        raise EpgfnError(
            f"the {what} {path} does not open; check the passphrase, or restore the file from a backup"
        ) from None


def _stretch(passphrase: str, salt: bytes) -> bytes:
    raw = passphrase.encode("utf-8")
    return hashlib.scrypt(raw, salt=salt, n=1 << 15, r=8, p=1, maxmem=1 << 26, dklen=32)

"""Private keys as PKCS#8 PEM: as they are, or under a passphrase (PBES2 with scrypt and AES-256-CBC, RFC 8018 and RFC 7914).

`cryptography` and openssl read that. `cryptography` would write PBKDF2 with 2,048 rounds, and offers no choice: that is guessed at a
thousand times faster, so the few bytes around the ciphertext are put together here.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Final, TypeVar

from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from epgfn.base.errors import EpgfnError

K = TypeVar("K", bound=PrivateKeyTypes)

ENCRYPTED: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
"""How such a file begins."""
# 16 MiB, five times over: OWASP's advice, and as much memory as openssl gives scrypt unless told otherwise.
_N: Final = 1 << 14
_R: Final = 8
_P: Final = 5
_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
_SCRYPT: Final = bytes.fromhex("06092b06010401da47040b")
_AES_256_CBC: Final = bytes.fromhex("060960864801650304012a")
_SALT_BYTES: Final = 16
_AES_BITS: Final = 128
_LINE: Final = 64


def to_pem(key: PrivateKeyTypes, passphrase: str | None = None) -> bytes:
    """PKCS#8 PEM: a secret, unless a good passphrase encrypts it."""
    if not passphrase:
        return _pkcs8(key, serialization.Encoding.PEM)
    salt, start = os.urandom(_SALT_BYTES), os.urandom(16)
    secret = Scrypt(salt=salt, length=32, n=_N, r=_R, p=_P).derive(passphrase.encode("utf-8"))
    padder = padding.PKCS7(_AES_BITS).padder()
    plain = padder.update(_pkcs8(key, serialization.Encoding.DER)) + padder.finalize()
    encryptor = Cipher(algorithms.AES(secret), modes.CBC(start)).encryptor()
    hidden = encryptor.update(plain) + encryptor.finalize()
    stretching = _sequence(_SCRYPT, _sequence(_octets(salt), _integer(_N), _integer(_R), _integer(_P)))
    hiding = _sequence(_AES_256_CBC, _octets(start))
    der = _sequence(_sequence(_PBES2, _sequence(stretching, hiding)), _octets(hidden))
    text = base64.b64encode(der)
    lines = [text[place : place + _LINE] for place in range(0, len(text), _LINE)]
    return b"\n".join([ENCRYPTED, *lines, ENCRYPTED.replace(b"BEGIN", b"END"), b""])


def named_pem(title: str, name: str, key: PrivateKeyTypes, passphrase: str) -> bytes:
    """A line of `title` and the key's name, which has to be known without the passphrase, then PKCS#8 PEM under it."""
    return f"{title}{name}\n".encode() + to_pem(key, passphrase)


def open_named(raw: bytes, title: str, kind: type[K], path: Path, passphrase: str | None) -> tuple[str, K]:
    """The name and the key of a file that `named_pem` gave; `path` is for the error.

    Raises:
        EpgfnError: the passphrase is missing or wrong, or it is no such key.
    """
    head, _, pem = raw.partition(b"\n")
    if not passphrase:
        raise EpgfnError(f"the key file {path} needs its passphrase")
    try:
        key = serialization.load_pem_private_key(pem, passphrase.encode("utf-8"))
        if not isinstance(key, kind):
            raise ValueError
        return head.decode("utf-8").removeprefix(title), key
    except Exception:  # the library raises several kinds
        raise EpgfnError(
            f"the key file {path} does not open; check the passphrase, or restore the file from a backup"
        ) from None


def _pkcs8(key: PrivateKeyTypes, encoding: serialization.Encoding) -> bytes:
    return key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _element(tag: int, content: bytes) -> bytes:
    """DER: tag, length in its shortest form, content."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    raw = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(raw)]) + raw + content


def _sequence(*parts: bytes) -> bytes:
    return _element(0x30, b"".join(parts))


def _octets(raw: bytes) -> bytes:
    return _element(0x04, raw)


def _integer(value: int) -> bytes:
    return _element(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))

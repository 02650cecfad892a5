"""The coordinator's private keys, each for one thing: certificates, TLS, statements, the ledger, this round's uploads."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace

from epgfn.base import failpoints
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import read_secret, remove, sync_directory, write_secret
from epgfn.base.passphrase import key_passphrase
from epgfn.ledger.note import NoteSigner
from epgfn.sealing import chunked
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.pki import CertificateAuthority
from epgfn.sealing.round_key import RoundPrivateKey
from epgfn_coordinator.home import Home

TLS_KEY, TLS_CERTIFICATE = "tls.key", "tls.pem"
SIGNING_KEY, SIGNING_PUBLIC = "signing.key", "coordinator.pem"
LEDGER_KEY, LEDGER_PUBLIC = "ledger.key", "ledger.vkey"
ROUND_KEY = "round.key"
_SALT_BYTES = 16
_ROUND_KEY_CONTEXT = b"epgfn round key file v1"
HEALTH_KEY, HEALTH_CERTIFICATE = "health.key", "health.pem"


@dataclass(frozen=True)
class Keys:
    """What `serve` signs with. The round key is read only while artifacts are verified or aggregated."""

    authority: CertificateAuthority
    signing: SigningKey
    ledger: NoteSigner

    @classmethod
    def load(cls, home: Home) -> Keys:
        """Read them from keys/.

        Raises:
            EpgfnError: one is missing, readable by others, or its passphrase is wrong.
        """
        secret = key_passphrase()
        return cls(
            CertificateAuthority.load(home.keys, secret),
            SigningKey.load(home.key(SIGNING_KEY), secret),
            NoteSigner.load(home.key(LEDGER_KEY)),
        )

    def of(self, home: Home) -> Keys:
        """Those of another round of the same coordinator: its ledger has a key of its own.

        Raises:
            EpgfnError: that is missing, or readable by others.
        """
        return replace(self, ledger=NoteSigner.load(home.key(LEDGER_KEY)))


def read_round_key(home: Home) -> RoundPrivateKey:
    """The key that opens this round's uploads.

    Raises:
        EpgfnError: it was destroyed, or others can read it.
    """
    path, secret = home.key(ROUND_KEY), key_passphrase()
    raw = read_secret(path)
    try:
        if secret:
            salt, sealed = raw[:_SALT_BYTES], raw[_SALT_BYTES:]
            raw = chunked.decrypt(sealed, _stretch(secret, salt), _ROUND_KEY_CONTEXT)
        return RoundPrivateKey.from_bytes(raw)
    except (RefusedError, ValueError):
        # Our own file does not open, which must never count as a refusal of what a node sent.
        raise EpgfnError(
            f"the round key {path} does not open; check the passphrase, or restore the file from a backup"
        ) from None


def write_round_key(home: Home, key: RoundPrivateKey) -> None:
    """Keep the round key in keys/, encrypted if there is a passphrase: salt (16), then C2SP chunked encryption."""
    raw, secret = key.to_bytes(), key_passphrase()
    if secret:
        salt = os.urandom(_SALT_BYTES)
        raw = salt + chunked.encrypt(raw, _stretch(secret, salt), _ROUND_KEY_CONTEXT)
    write_secret(home.key(ROUND_KEY), raw)


def _stretch(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode("utf-8"), salt=salt, n=1 << 15, r=8, p=1, maxmem=1 << 26, dklen=32)


def destroy_round_key(home: Home) -> None:
    """Overwrite the round key's file and remove it; a second call does nothing.

    After this no file in this directory opens the round's uploads. It cannot reach copies made elsewhere: backups,
    snapshots, swap, or old blocks that a flash drive or a copy-on-write file system still keeps.
    """
    path = home.key(ROUND_KEY)
    if not path.exists():
        return
    try:
        with path.open("r+b") as target:
            target.write(os.urandom(path.stat().st_size))
            target.flush()
            os.fsync(target.fileno())
        failpoints.at("overwritten", path)
        remove(path)
        sync_directory(path.parent)
    except OSError as error:
        raise EpgfnError(
            f"cannot destroy the round key {path}: {error.strerror}; remove the file by hand and run serve again"
        ) from None

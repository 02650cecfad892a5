"""The coordinator's private keys, each for one thing: certificates, TLS, statements, the ledger, this round's uploads."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from epgfn.base import failpoints
from epgfn.base.errors import EpgfnError
from epgfn.base.files import remove, sync_directory
from epgfn.base.passphrase import key_passphrase
from epgfn.ledger.note import NoteSigner
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.pki import CertificateAuthority
from epgfn.sealing.round_key import RoundPrivateKey
from epgfn.sealing.round_key_file import read_private_key, write_private_key
from epgfn_coordinator.home import Home
from epgfn_coordinator.signing import SIGNING_KEY, load_signing_of, round_key_of

TLS_KEY, TLS_CERTIFICATE = "tls.key", "tls.pem"
LEDGER_KEY, LEDGER_PUBLIC = "ledger.key", "ledger.vkey"
ROUND_KEY = "round.key"
HEALTH_KEY, HEALTH_CERTIFICATE = "health.key", "health.pem"


@dataclass(frozen=True)
class Keys:
    """What `serve` signs a round with. The round key is read only while artifacts are verified or aggregated. `still_there`: the key that
    has signed the round so far; None where it was replaced, and deleted since."""

    authority: CertificateAuthority
    still_there: SigningKey | None
    ledger: NoteSigner

    @property
    def signing(self) -> SigningKey:
        """What this round's statements are signed with.

        Raises:
            EpgfnError: it was deleted.
        """
        if self.still_there is None:
            raise EpgfnError(
                "the signing key of this round was replaced, and has been deleted since, so nothing can be signed in it; restore "
                "keys/signing-before-*.key from a backup"
            )
        return self.still_there

    @classmethod
    def load(cls, home: Home) -> Keys:
        """Read them from keys/.

        Raises:
            EpgfnError: one is missing, readable by others, or its passphrase is wrong; or nodes do not trust the signing key.
        """
        secret = key_passphrase(home.key(SIGNING_KEY))
        return cls(
            CertificateAuthority.load(home.keys, secret),
            load_signing_of(home),
            NoteSigner.load(home.key(LEDGER_KEY), secret),
        )

    def of(self, home: Home) -> Keys:
        """Those of another round of the same coordinator: its ledger has a key of its own, and it keeps the signing key with which it was
        opened.

        Raises:
            EpgfnError: one is missing, readable by others, or does not open.
        """
        own = self.still_there
        return replace(
            self,
            still_there=own
            if own is not None and round_key_of(home) == own.public
            else load_signing_of(home),
            ledger=NoteSigner.load(home.key(LEDGER_KEY), key_passphrase()),
        )


def read_round_key(home: Home) -> RoundPrivateKey:
    """The key that opens this round's uploads.

    Raises:
        EpgfnError: it was destroyed, or others can read it.
    """
    return read_private_key(home.key(ROUND_KEY), key_passphrase(), "round key")


def write_round_key(home: Home, key: RoundPrivateKey) -> None:
    """Keep the round key in keys/, encrypted if there is a passphrase."""
    write_private_key(home.key(ROUND_KEY), key, key_passphrase())


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

"""The passphrase of a coordinator's private keys: another one, one where there was none, or none. All keys at once."""

from __future__ import annotations

from pathlib import Path

from epgfn.base.passphrase import key_passphrase
from epgfn.base.replacing import replace_together
from epgfn.ledger.note import NoteSigner
from epgfn.sealing.keys import reencrypted
from epgfn.sealing.pki import CA_KEY
from epgfn.sealing.round_key_file import private_key_bytes, read_private_key
from epgfn_coordinator import keys, rounds
from epgfn_coordinator.home import Home
from epgfn_coordinator.signing import SIGNING_KEY, replaced_keys


def change_passphrase(home: Home, new: str | None) -> list[Path]:
    """Encrypt every private key of the coordinator and its rounds with `new`, or with nothing; which files these are. The key of the health
    check stays as it is: it is read where nobody types anything, and is good for nothing else.

    Raises:
        UsageError: there is no coordinator.
        EpgfnError: it is served, a key does not open with the passphrase of now, or a file cannot be written; nothing is changed then.
    """
    home.require()
    with home.served(), home.adding():
        old = key_passphrase(home.key(SIGNING_KEY))
        shared = (home.keys / CA_KEY, home.key(keys.TLS_KEY), home.key(SIGNING_KEY), *replaced_keys(home))
        files = {path: reencrypted(path, old, new) for path in shared}
        for each in rounds.all_rounds(home):
            ledger, sealed = each.key(keys.LEDGER_KEY), each.key(keys.ROUND_KEY)
            files[ledger] = NoteSigner.load(ledger, old).private_bytes(new)
            if sealed.exists():
                files[sealed] = private_key_bytes(read_private_key(sealed, old, "round key"), new)
        replace_together(home.shared, files)
    return list(files)

"""The node's two private keys: one is its identity in TLS, the other signs what it sends."""

from __future__ import annotations

from typing import NamedTuple

from epgfn.base.errors import RefusedError
from epgfn.base.files import read_bytes, write_atomic
from epgfn.base.passphrase import key_passphrase, new_passphrase
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn_node.home import NodeHome


class NodeKeys(NamedTuple):
    """`tls` for the channel, `signing` for statements."""

    tls: SigningKey
    signing: SigningKey


def create_keys(home: NodeHome, *, no_passphrase: bool = False) -> None:
    """Make the keys that are missing; keys that exist stay, so this may run again after an interruption. A person at the terminal is asked
    for a passphrase, unless on `no_passphrase`.

    Raises:
        EpgfnError: a file cannot be written, or an existing key does not open.
        UsageError: no good passphrase was typed.
    """
    paths = (home.tls_key, home.signing_key)
    there = next((path for path in paths if path.exists()), None)
    passphrase = new_passphrase(decline=no_passphrase) if there is None else key_passphrase(there)
    for path in paths:
        if not path.exists():
            SigningKey.generate().save(path, passphrase)
    write_atomic(home.signing_public, SigningKey.load(home.signing_key, passphrase).public.pem)


def load_keys(home: NodeHome) -> NodeKeys:
    """Both keys.

    Raises:
        EpgfnError: a key file is missing, can be read by others, or does not open.
        RefusedError: "wrong-key": signing.pem is not the public half of signing.key.
    """
    passphrase = key_passphrase(home.signing_key)
    keys = NodeKeys(SigningKey.load(home.tls_key, passphrase), SigningKey.load(home.signing_key, passphrase))
    if keys.signing.public != VerifyKey.from_pem(read_bytes(home.signing_public, "public key")):
        raise RefusedError(
            "wrong-key",
            f"{home.signing_public} does not belong to {home.signing_key}; restore both from one backup",
        )
    return keys

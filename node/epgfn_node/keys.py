"""The node's two private keys: one is its identity in TLS, the other signs what it sends."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from epgfn.base.errors import RefusedError
from epgfn.base.files import read_bytes, write_atomic
from epgfn.base.passphrase import key_passphrase, new_passphrase
from epgfn.sealing.bundle import read_unverified, verify_bundle
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.sealing.rotation import MAX_BYTES, MOST, follow, read_rotation
from epgfn_node.home import NodeHome


class NodeKeys(NamedTuple):
    """`tls` for the channel, `signing` for statements. `earlier`: public keys in whose place it came, with which this node has
    signed before."""

    tls: SigningKey
    signing: SigningKey
    earlier: tuple[VerifyKey, ...] = ()

    def verify_own(self, bundle: bytes) -> bytes:
        """The payload of a bundle that this node has signed, now or with an earlier key.

        Raises:
            RefusedError: it has not.
        """
        _, signer = read_unverified(bundle)
        known = (self.signing.public, *self.earlier)
        return verify_bundle(bundle, next((key for key in known if key.keyids[0] == signer), known[0]))


def create_keys(home: NodeHome, *, no_passphrase: bool = False, double: bool = False) -> None:
    """Make the keys that are missing; keys that exist stay, so this may run again after an interruption. A person at the terminal is asked
    for a passphrase, unless on `no_passphrase`. `double`: sign with ML-DSA-65 beside P-256.

    Raises:
        EpgfnError: a file cannot be written, or an existing key does not open.
        UsageError: no good passphrase was typed.
    """
    paths = (home.tls_key, home.signing_key)
    there = next((path for path in paths if path.exists()), None)
    passphrase = new_passphrase(decline=no_passphrase) if there is None else key_passphrase(there)
    for path in paths:
        if not path.exists():
            SigningKey.generate(double=double and path == home.signing_key).save(path, passphrase)
    write_atomic(home.signing_public, SigningKey.load(home.signing_key, passphrase).public.pem)


def load_keys(home: NodeHome) -> NodeKeys:
    """Both keys.

    Raises:
        EpgfnError: a key file is missing, can be read by others, or does not open.
        RefusedError: "wrong-key": signing.pem is not the public half of signing.key.
    """
    passphrase = key_passphrase(home.signing_key)
    keys = NodeKeys(
        SigningKey.load(home.tls_key, passphrase),
        SigningKey.load(home.signing_key, passphrase),
        earlier_keys(home),
    )
    if keys.signing.public != VerifyKey.from_pem(read_bytes(home.signing_public, "public key")):
        raise RefusedError(
            "wrong-key",
            f"{home.signing_public} does not belong to {home.signing_key}; restore both from one backup",
        )
    return keys


def rotation_file(home: NodeHome, number: int) -> Path:
    """Where the statement lies by which this node changed its signing key for the n-th time."""
    return NodeHome(home.base).signing_key.with_name(f"rotation-{number}.sigstore.json")


def rotation_statements(home: NodeHome) -> list[bytes]:
    """The statements by which this node's signing keys took the place of one another, the oldest first."""
    found = []
    for number in range(1, MOST + 1):
        path = rotation_file(home, number)
        if not path.exists():
            break
        found.append(read_bytes(path, "change of keys", MAX_BYTES))
    return found


def earlier_keys(home: NodeHome) -> tuple[VerifyKey, ...]:
    """The keys in whose place the present one came, the oldest first.

    Raises:
        RefusedError: "wrong-key": the statements do not lead to the present one.
    """
    statements = rotation_statements(home)
    if not statements:
        return ()
    first = read_rotation(statements[0])
    chain = follow(first.old, statements, first.said.party)
    if chain.keys[-1] != VerifyKey.from_pem(read_bytes(home.signing_public, "public key")):
        raise RefusedError(
            "wrong-key",
            f"the changes of keys beside {home.signing_public} do not lead to it; restore all of keys/ from one backup",
        )
    return chain.keys[:-1]

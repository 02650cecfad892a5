"""The coordinator's signing key, those that it took the place of, and which of them signs which round.

A round keeps the key that signed its manifest. `rotate` puts another key in the place of the present one for rounds that are opened from
then on, by a statement that both keys sign; the old private key stays as long as its rounds may have to sign something.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import read_bytes
from epgfn.base.passphrase import key_passphrase
from epgfn.base.replacing import replace_together
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.sealing.predicates import COORDINATOR
from epgfn.sealing.rotation import MAX_BYTES, MOST, Chain, Rotation, follow, read_rotation, sign_rotation
from epgfn_coordinator import clock
from epgfn_coordinator.clock import spelled
from epgfn_coordinator.home import Home

SIGNING_KEY, SIGNING_PUBLIC = "signing.key", "coordinator.pem"
_STATEMENT: Final = re.compile(r"rotation-([1-9][0-9]?)\.sigstore\.json")


def rotation_files(home: Home) -> list[Path]:
    """The statements by which keys took the place of others, the oldest first."""
    found = {
        int(match[1]): path for path in home.keys.iterdir() if (match := _STATEMENT.fullmatch(path.name))
    }
    return [found[number] for number in sorted(found)]


def replaced_keys(home: Home) -> list[Path]:
    """Private keys that were replaced and are still there, the oldest first."""
    return [path for number in range(1, MOST + 1) if (path := _replaced(home, number)).exists()]


def load_signing(home: Home) -> SigningKey:
    """The key that signs rounds opened from now on. Nodes follow to it from the one they have pinned, so another one in its place signs
    what they all refuse.

    Raises:
        EpgfnError: it is missing, readable by others, or does not open; or it is not the one that signed the first round, nor that one's
            successor.
    """
    path, first = home.key(SIGNING_KEY), Home(home.shared).round_bundle
    key = SigningKey.load(path, key_passphrase(path))
    try:
        chain = chain_to(home, key.public)
        verify_bundle(read_bytes(first, "round manifest"), chain.start)
    except RefusedError:
        raise EpgfnError(
            f"{path} is not the key that signed {first}, nor its successor by the statements beside it, and nodes trust no other; restore "
            "it from a backup, or, where it is lost or stolen, begin a new coordinator in another home, with new invitations"
        ) from None
    return key


def chain_to(home: Home, newest: VerifyKey) -> Chain:
    """All keys that this coordinator has had, from its first to `newest`.

    Raises:
        RefusedError: the statements in keys/ do not lead there.
    """
    bundles = [read_bytes(path, "change of keys", MAX_BYTES) for path in rotation_files(home)]
    if not bundles:
        return Chain(newest)
    chain = follow(read_rotation(bundles[0]).old, bundles, COORDINATOR)
    if chain.keys[-1] != newest:
        raise RefusedError("wrong-key", "the changes of keys do not lead to the signing key")
    return chain


def round_key_of(home: Home) -> VerifyKey:
    """The public key that signs the round in `home`.

    Raises:
        EpgfnError: none that this coordinator has had, by keys/.
    """
    manifest = read_bytes(home.round_bundle, "round manifest")
    newest = VerifyKey.from_pem(read_bytes(home.key(SIGNING_PUBLIC), "public key"))
    for key in reversed(chain_to(home, newest).keys):
        try:
            verify_bundle(manifest, key)
        except RefusedError:
            continue
        return key
    raise EpgfnError(f"no key in {home.keys} has signed {home.round_bundle}; restore keys/ from a backup")


def load_signing_of(home: Home) -> SigningKey | None:
    """The private key that signs the round in `home`; None where it was replaced, and its operator has deleted it since.

    Raises:
        EpgfnError: as `load_signing`; or another lies in its place.
    """
    newest = load_signing(home)
    wanted = round_key_of(home)
    if wanted == newest.public:
        return newest
    keys = chain_to(home, newest.public).keys
    path = _replaced(home, keys.index(wanted) + 1)
    if not path.exists():
        return None
    key = SigningKey.load(path, key_passphrase(path))
    if key.public != wanted:
        raise EpgfnError(f"{path} is not the key that signed {home.round_bundle}; restore it from a backup")
    return key


def rotate(home: Home, reason: str, *, double: bool = False) -> Rotation:
    """Make another signing key, under the passphrase of the present one, and have it sign every round that is opened from now on. Whenever
    this is killed, either the old key is in place or the new one. `double`: from now on with ML-DSA-65 beside P-256, which stays so.

    Raises:
        UsageError: there is no coordinator in `home`, the reason is none, or keys were changed too often.
        EpgfnError: it is served, the key does not open, or a file cannot be written; then nothing is changed.
    """
    home.require()
    with home.served(), home.adding():
        path = home.key(SIGNING_KEY)
        secret = key_passphrase(path)
        old = load_signing(home)
        new = SigningKey.generate(double=double or old.public.is_double)
        number = len(rotation_files(home)) + 1
        if number > MOST:
            raise UsageError(
                f"this coordinator has changed its key {MOST} times, which is the most; begin a new one"
            )
        try:
            bundle = sign_rotation(COORDINATOR, old, new, spelled(clock.now()), reason)
        except RefusedError:
            raise UsageError("a reason is one line of 1 to 200 printable characters") from None
        replace_together(
            home.shared,
            {
                path: new.private_pem(secret),
                home.key(SIGNING_PUBLIC): new.public.pem,
                home.keys / f"rotation-{number}.sigstore.json": bundle,
                _replaced(home, number): old.private_pem(secret),
            },
        )
        return read_rotation(bundle, COORDINATOR)


def _replaced(home: Home, number: int) -> Path:
    """The private key that change `number` put another in the place of."""
    return home.keys / f"signing-before-{number}.key"

"""Another signing key in the place of one that others trust: a statement that both sign, and the chain of such statements.

    sign_rotation("coordinator", old, new, "2030-01-31T12:00:00Z", "a key a year")
    follow(pinned, statements, "coordinator").keys[-1]

The old key's signature says who succeeds it, the new one's that whoever signs has it. A chain is followed forwards only, from a key that
somebody trusts already. Two successors of one key are a fork: one of them is somebody else's, and neither is followed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_hex
from epgfn.sealing.bundle import read_unverified, sign_statement, verify_bundle
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.sealing.predicates import COORDINATOR, ROTATION, RotationPredicate
from epgfn.sealing.statement import make_statement, parse_statement, predicate_of

SUBJECT: Final = "signing.pem"
MOST: Final = 64
"""Statements of one chain: longer ones are refused, so that nobody has us verify without end."""
MAX_BYTES: Final = 64 << 10


@dataclass(frozen=True)
class Rotation:
    """One statement that was read: both signatures on it are good. Whether the old key is to be trusted is another question."""

    bundle: bytes
    said: RotationPredicate

    @property
    def old(self) -> VerifyKey:
        """The key that was trusted before."""
        return VerifyKey.from_pem(self.said.old_key.encode())

    @property
    def new(self) -> VerifyKey:
        """The key in its place."""
        return VerifyKey.from_pem(self.said.new_key.encode())

    @property
    def whose(self) -> str:
        """The party, for people."""
        return in_words(self.said.party)

    @property
    def in_words(self) -> str:
        """Which key came in whose place, when and why, as a clause."""
        said = self.said
        return (
            f"{said.new_fingerprint} in the place of {said.old_fingerprint}, on {said.time} ({said.reason})"
        )


@dataclass(frozen=True)
class Chain:
    """From a key that is trusted to the one that counts now, over `rotations`."""

    start: VerifyKey
    rotations: tuple[Rotation, ...] = ()

    @property
    def keys(self) -> tuple[VerifyKey, ...]:
        """All of them, the newest last."""
        return (self.start, *(each.new for each in self.rotations))

    def find(self, fingerprint: str) -> VerifyKey | None:
        """The key of the chain with that fingerprint."""
        return next((key for key in self.keys if key.fingerprint == fingerprint), None)

    def signer(self, keyid: str) -> VerifyKey | None:
        """The key of the chain that a bundle calls its signer."""
        return next((key for key in self.keys if key.keyids[0] == keyid), None)


class ForkError(RefusedError):
    """One key has signed two successors; `statements` are both."""

    def __init__(self, one: Rotation, other: Rotation) -> None:
        super().__init__(
            "rotation-fork",
            f"the key {one.said.old_fingerprint} of {one.whose} has signed two successors, {one.said.new_fingerprint} on "
            f"{one.said.time} and {other.said.new_fingerprint} on {other.said.time}: somebody else has that key; trust neither, and ask "
            "its owner by telephone",
        )
        self.statements = (one.bundle, other.bundle)


def in_words(party: str) -> str:
    """A party for people: the coordinator, or a node by its id."""
    return "the coordinator" if party == COORDINATOR else party.removeprefix("node/")


def sign_rotation(party: str, old: SigningKey, new: SigningKey, time: str, reason: str) -> bytes:
    """The bundle file by which `new` takes the place of `old`, signed with both. `time`: in UTC, such as 2030-01-31T12:00:00Z.

    Raises:
        RefusedError: "malformed": the party is none, the reason is empty, too long or no line, or both keys are one.
    """
    predicate = {
        "party": party,
        "old_key": old.public.pem.decode("ascii"),
        "old_fingerprint": old.public.fingerprint,
        "new_key": new.public.pem.decode("ascii"),
        "new_fingerprint": new.public.fingerprint,
        "time": time,
        "reason": reason,
    }
    return sign_statement(
        make_statement({SUBJECT: sha256_hex(new.public.pem)}, ROTATION, predicate), old, new
    )


def read_rotation(bundle: bytes, party: str | None = None) -> Rotation:
    """What `sign_rotation` gave, with both signatures verified under the keys that it names.

    Raises:
        RefusedError: "malformed": no such statement; "wrong-party": another than `party` has signed it; "signature-missing",
            "bad-signature", "wrong-key": not both have.
    """
    if len(bundle) > MAX_BYTES:
        raise RefusedError("malformed", f"a change of keys has at most {MAX_BYTES} bytes, this one has more")
    claimed = predicate_of(parse_statement(read_unverified(bundle)[0]), RotationPredicate)
    found = Rotation(bundle, claimed)
    statement = parse_statement(verify_bundle(bundle, found.old, found.new))
    if statement.subjects != {SUBJECT: sha256_hex(found.new.pem)}:
        raise RefusedError("malformed", "the change of keys is about another key than it names")
    if party is not None and claimed.party != party:
        raise RefusedError(
            "wrong-party", f"the change of keys is of {found.whose}, and was to be of {in_words(party)}"
        )
    return found


def follow(start: VerifyKey, bundles: Iterable[bytes], party: str) -> Chain:
    """The chain from `start` over those of the statements that come after it, which stand in their order.

    Raises:
        ForkError: two of them name different successors of one key.
        RefusedError: as `read_rotation`; "broken-chain": one does not go on where the one before it ended; "rotation-back": one goes back
            to a key that was replaced; "too-many".
    """
    listed = list(dict.fromkeys(bundles))
    if len(listed) > MOST:
        raise RefusedError("too-many", f"a key was changed more than {MOST} times, which nobody follows")
    found = [read_rotation(bundle, party) for bundle in listed]
    successors: dict[str, Rotation] = {}
    for each in found:
        other = successors.setdefault(each.said.old_fingerprint, each)
        if other.said.new_fingerprint != each.said.new_fingerprint:
            raise ForkError(other, each)
    seen = {found[0].said.old_fingerprint} if found else set[str]()
    for before, after in itertools.pairwise(found):
        if before.said.new_fingerprint != after.said.old_fingerprint:
            raise RefusedError(
                "broken-chain",
                f"the key {after.said.old_fingerprint} is replaced by another, and nothing says that it took the place of "
                f"{before.said.new_fingerprint}; ask its owner for all changes of the key",
            )
    for each in found:
        if each.said.new_fingerprint in seen:
            raise RefusedError(
                "rotation-back",
                f"the key {each.said.new_fingerprint} was replaced before, and never comes back; ask its owner which key is right",
            )
        seen.add(each.said.new_fingerprint)
    places = [number for number, each in enumerate(found) if each.said.old_fingerprint == start.fingerprint]
    return Chain(start, tuple(found[places[0] :]) if places else ())

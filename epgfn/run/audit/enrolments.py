"""Which key a node signed with at what time, by the ledger: keys may be replaced, or revoked and others enrolled in their place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from epgfn.ledger.entries import EnrolledEntry, Entry, RevokedEntry, RotatedEntry
from epgfn.sealing.keys import VerifyKey


@dataclass(frozen=True)
class Enrolment:
    """A key counts from ledger entry `since` to entry `until`; None: to the end. `replaced`: the node itself put another in its place
    there; otherwise it was revoked."""

    since: int
    until: int | None
    entry: EnrolledEntry | RotatedEntry
    replaced: bool = False

    @property
    def pem(self) -> bytes:
        """The key as its file holds it."""
        return self.entry.signing_key.encode("ascii")

    @property
    def is_revoked(self) -> bool:
        """Whether the coordinator ended what it is good for."""
        return self.until is not None and not self.replaced


def enrolments(entries: Iterable[Entry]) -> dict[str, list[Enrolment]]:
    """Of each node that ever enrolled, in order. The same key again, with no revocation between, is no new enrolment."""
    found: dict[str, list[Enrolment]] = {}
    for index, entry in enumerate(entries):
        if isinstance(entry, EnrolledEntry):
            of_node = found.setdefault(entry.node_id, [])
            if (
                not of_node
                or of_node[-1].until is not None
                or of_node[-1].entry.fingerprint != entry.fingerprint
            ):
                of_node.append(Enrolment(index, None, entry))
        elif isinstance(entry, RotatedEntry) and found.get(entry.node_id):
            last = found[entry.node_id].pop()
            found[entry.node_id] += [replace(last, until=index, replaced=True), Enrolment(index, None, entry)]
        elif isinstance(entry, RevokedEntry) and found.get(entry.node_id):
            last = found[entry.node_id].pop()
            found[entry.node_id].append(replace(last, until=index))
    return found


def enrolled_at(entries: Iterable[Entry], node: str, index: int) -> Enrolment | None:
    """What counted for a node at a ledger entry."""
    for each in reversed(enrolments(entries).get(node, [])):
        if each.since < index and (each.until is None or index < each.until):
            return each
    return None


def named(entries: Iterable[Entry], node: str, keyid: str) -> Enrolment | None:
    """The enrolment of a key of a node that was not revoked, by what a bundle calls its signer; the newest where none is called so, and
    None of a node without any."""
    of_node = enrolments(entries).get(node, [])
    good = [
        each for each in of_node if not each.is_revoked and VerifyKey.from_pem(each.pem).keyids[0] == keyid
    ]
    found = good or of_node
    return found[-1] if found else None


def in_words(entries: Iterable[Entry]) -> list[str]:
    """What there is to say of revocations, a clause each."""
    said = []
    for node, of_node in sorted(enrolments(entries).items()):
        for place, each in enumerate(of_node):
            if not each.is_revoked:
                continue
            after = of_node[place + 1 : place + 2]
            then = f"enrolled again by entry {after[0].since}" if after else "not enrolled again"
            said.append(
                f"the key {each.entry.fingerprint[:16]} of {node}, revoked by ledger entry {each.until}, {then}"
            )
    return said

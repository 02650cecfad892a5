"""Which key a node signed with at what time, by the ledger: keys may be revoked, and others enrolled in their place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from epgfn.ledger.entries import EnrolledEntry, Entry, RevokedEntry


@dataclass(frozen=True)
class Enrolment:
    """A key counts from ledger entry `since` to entry `until`; None: to the end."""

    since: int
    until: int | None
    entry: EnrolledEntry

    @property
    def pem(self) -> bytes:
        """The key as its file holds it."""
        return self.entry.signing_key.encode("ascii")


def enrolments(entries: Iterable[Entry]) -> dict[str, list[Enrolment]]:
    """Of each node that ever enrolled, in order. The same key again, with no revocation between, is no new enrolment."""
    found: dict[str, list[Enrolment]] = {}
    for index, entry in enumerate(entries):
        if isinstance(entry, EnrolledEntry):
            of_node = found.setdefault(entry.node_id, [])
            if not of_node or of_node[-1].until is not None or of_node[-1].entry != entry:
                of_node.append(Enrolment(index, None, entry))
        elif isinstance(entry, RevokedEntry) and found.get(entry.node_id):
            last = found[entry.node_id].pop()
            found[entry.node_id].append(Enrolment(last.since, index, last.entry))
    return found


def enrolled_at(entries: Iterable[Entry], node: str, index: int) -> Enrolment | None:
    """What counted for a node at a ledger entry."""
    for each in reversed(enrolments(entries).get(node, [])):
        if each.since < index and (each.until is None or index < each.until):
            return each
    return None


def in_words(entries: Iterable[Entry]) -> list[str]:
    """What there is to say of revocations, a clause each."""
    said = []
    for node, of_node in sorted(enrolments(entries).items()):
        for place, each in enumerate(of_node):
            if each.until is None:
                continue
            after = of_node[place + 1 : place + 2]
            then = f"enrolled again by entry {after[0].since}" if after else "not enrolled again"
            said.append(
                f"the key {each.entry.fingerprint[:16]} of {node}, revoked by ledger entry {each.until}, {then}"
            )
    return said

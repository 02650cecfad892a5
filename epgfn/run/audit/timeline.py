"""The ledger's entries in words, in their order: the story of a round that everybody reads the same."""

from __future__ import annotations

from collections.abc import Sequence

from epgfn.ledger.entries import (
    AcceptedEntry,
    CoordinatorRotatedEntry,
    DeadlineEntry,
    EnrolledEntry,
    Entry,
    ExcludedEntry,
    GlobalEntry,
    KeyDestroyedEntry,
    LeaveOneOutEntry,
    RefusedEntry,
    RevokedEntry,
    RotatedEntry,
    RoundEntry,
    StateEntry,
    StudyEntry,
    SumListEntry,
    WithdrawnByNodeEntry,
    WithdrawnEntry,
)

SHOWN = 16
"""Digits of a digest that are shown where all 64 are in the entry."""


def entry_in_words(entry: Entry) -> str:
    """One entry as a clause; of digests the first digits."""
    match entry:
        case StudyEntry():
            return f"the coordinator enters the signed study {_short(entry.study_digest)}"
        case RoundEntry():
            return f"the coordinator opens round {entry.round_id}"
        case CoordinatorRotatedEntry():
            return (
                f"before this round the coordinator's key {_short(entry.new_fingerprint)} took the place of "
                f"{_short(entry.old_fingerprint)}"
            )
        case EnrolledEntry():
            return f"{entry.node_id} enrols with the key {_short(entry.fingerprint)}"
        case RotatedEntry():
            new, old = _short(entry.fingerprint), _short(entry.old_fingerprint)
            return f"{entry.node_id} signs with the key {new} from now on, in the place of {old}"
        case RevokedEntry():
            return f"the key {_short(entry.fingerprint)} of {entry.node_id} is revoked"
        case AcceptedEntry():
            return (
                f"a model of {entry.node_id} is accepted: {_short(entry.sealed_sha256)}, {entry.size} bytes"
            )
        case RefusedEntry():
            return f"an upload of {entry.node_id} is refused: {entry.reason}"
        case WithdrawnEntry():
            return f"the model of {entry.node_id} is withdrawn, by the coordinator's word: {_short(entry.sealed_sha256)}"
        case WithdrawnByNodeEntry():
            return f"{entry.node_id} withdraws its model: {_short(entry.sealed_sha256)}"
        case ExcludedEntry():
            return f"the model of {entry.node_id} is excluded: {entry.reason}"
        case StateEntry():
            detail = ", ".join(f"{key} {value}" for key, value in sorted(entry.detail.items()))
            return f"the round is {entry.state}" + (f" ({detail})" if detail else "")
        case DeadlineEntry():
            return f"the deadline is extended to {entry.deadline}"
        case SumListEntry():
            return f"of the masked sum's {entry.step} count those of {', '.join(entry.statements)}"
        case GlobalEntry():
            return f"a global model is signed: {_short(entry.model_sha256)}"
        case LeaveOneOutEntry():
            return f"a model without that of {entry.node_id} is signed: {_short(entry.model_sha256)}"
        case KeyDestroyedEntry():
            return "the coordinator says that it has destroyed the round key"


def timeline(entries: Sequence[Entry]) -> list[str]:
    """A line an entry, with its index."""
    width = len(str(max(len(entries) - 1, 0)))
    return [f"{index:>{width}}  {entry_in_words(entry)}" for index, entry in enumerate(entries)]


def _short(digest: str) -> str:
    return f"{digest[:SHOWN]}…"

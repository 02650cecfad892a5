"""Which stories a ledger may tell: what may follow what, from the entries alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

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
    RevokedEntry,
    RotatedEntry,
    RoundEntry,
    StateEntry,
    StudyEntry,
    SumListEntry,
    SumStep,
    WithdrawnByNodeEntry,
    WithdrawnEntry,
)
from epgfn.run.audit.rules import require
from epgfn.run.layout import ABANDONED, AGGREGATING, FAILED, OPEN, PUBLISHED, WAITING
from epgfn.sealing.predicates import RoundPredicate
from epgfn.study import Study
from epgfn.study.parameters import is_masked

NEXT = {
    OPEN: {OPEN, AGGREGATING, WAITING, FAILED, ABANDONED},
    AGGREGATING: {PUBLISHED, WAITING, FAILED, ABANDONED},
    WAITING: {OPEN, FAILED, ABANDONED},
    PUBLISHED: set[str](),
    FAILED: set[str](),
    ABANDONED: set[str](),
}
"""The states a round may enter from each; its ledger says "open" once more at the beginning."""
STEPS: tuple[SumStep, ...] = ("keys", "shares", "uploads", "signing", "unmasking")
"""The lists of a masked sum, in the order in which they close."""


def require_story(entries: list[Entry], study: Study, manifest: RoundPredicate) -> None:
    """After study and round: which keys the coordinator's took the place of, if any, the oldest first; then nodes of the roster enrol, then
    send once while the round is open, then one result.

    A node's key may be replaced by another, as the old one says: one that counts, and one that never counted before.
    A node's keys may be revoked: from then on it sends nothing until it has enrolled again, with another key. What was accepted stands.
    A node may take an upload back before it is aggregated, by its signed word, and send another one then, but never the same again.

    Uploads may be excluded while they are aggregated, by name, and do not count from then on. With fewer uploads than the quorum, or where
    they cannot be aggregated, a round may wait for its operator; only an extended deadline opens it again. One that has a result does not.
    Where the study takes late models, nodes may send after the result, too, and more results follow; where it asks for it,
    models without each node come between the first result and its publication. A round key is destroyed once: after the last
    model that needs it and before the result is published, or after the round ended without one.

    Where sums are masked, the lists of the sum close once each, in their order and with a quorum at least, each of nodes of the one before:
    keys and shares before any upload, uploads with the round and of exactly those accepted, the rest before the result.

    Raises:
        Failed: an entry that has no place in such a story.
    """
    told = _Round(study, manifest, study.aggregation.deadline)
    for place, entry in enumerate(entries, start=2):
        told.go_on(entry, f"ledger entry {place}")
    told.require_own_key()


@dataclass
class _Round:
    """What a round has come to by the entries so far. Each method takes one more, which `where` names."""

    study: Study
    manifest: RoundPredicate
    deadline: datetime | None
    state: str = OPEN
    extended: bool = False
    """Whether the deadline was extended since the round entered its state."""
    results: int = 0
    """Global models."""
    destroyed: bool = False
    """Whether the round key was."""
    enrolled: dict[str, str] = field(default_factory=dict)
    """Fingerprint of the key that counts, by node."""
    revoked: set[str] = field(default_factory=set)
    """Fingerprints; of keys that were replaced, too."""
    coordinator: list[str] = field(default_factory=list)
    """Fingerprints of the coordinator's keys, where it has changed them: the newest last."""
    begun: bool = False
    """Whether anything has happened but such changes."""
    accepted: dict[str, str] = field(default_factory=dict)
    """SHA-256 of what was sent, by node; excluded ones remain."""
    taken_back: set[str] = field(default_factory=set)
    """SHA-256 of what its node has withdrawn."""
    excluded: set[str] = field(default_factory=set)
    """Nodes, like the next."""
    left_out: set[str] = field(default_factory=set)
    sent: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the signed statement of each upload in `accepted`."""
    lists: dict[SumStep, set[str]] = field(default_factory=dict)
    """Nodes of each closed list of a masked sum."""

    def go_on(self, entry: Entry, where: str) -> None:
        require(not isinstance(entry, StudyEntry | RoundEntry), f"{where} begins a second study or round")
        node = getattr(entry, "node_id", None)
        require(
            node is None or node in self.study.roster, f"{where} is about a node that is not in the roster"
        )
        round_id = getattr(entry, "round_id", self.manifest.round_id)
        require(round_id == self.manifest.round_id, f"{where} is about another round")
        match entry:
            case CoordinatorRotatedEntry():
                self._succeed(entry, where)
                return
            case RotatedEntry():
                self._replace_key(entry, where)
            case EnrolledEntry():
                self._enrol(entry, where)
            case RevokedEntry():
                self._revoke(entry, where)
            case AcceptedEntry():
                self._accept(entry, where)
            case WithdrawnEntry():
                self._withdraw(entry, where)
            case WithdrawnByNodeEntry():
                self._take_back(entry, where)
            case ExcludedEntry():
                self._exclude(entry, where)
            case StateEntry():
                self._enter(entry, where)
            case DeadlineEntry():
                self._extend(entry, where)
            case SumListEntry():
                self._close_list(entry, where)
            case GlobalEntry():
                self._publish(where)
            case LeaveOneOutEntry():
                self._leave_out(entry, where)
            case KeyDestroyedEntry():
                self._destroy_key(entry, where)
        self.begun = True

    def require_own_key(self) -> None:
        """The round's manifest is signed with the last of the keys that the coordinator is said to have had."""
        require(
            not self.coordinator or self.coordinator[-1] == self.manifest.coordinator_fingerprint,
            "the ledger says that the coordinator changed its key to another than the one that signs this round",
        )

    def _succeed(self, entry: CoordinatorRotatedEntry, where: str) -> None:
        require(
            not self.begun,
            f"{where} changes the coordinator's key in the middle of the round, which keeps its key",
        )
        known = self.coordinator or [entry.old_fingerprint]
        require(
            known[-1] == entry.old_fingerprint and entry.new_fingerprint not in known,
            f"{where} replaces a key of the coordinator that does not count, or by one that was replaced before",
        )
        self.coordinator = [*known, entry.new_fingerprint]

    def _replace_key(self, entry: RotatedEntry, where: str) -> None:
        require(
            self.enrolled.get(entry.node_id) == entry.old_fingerprint,
            f"{where} replaces a key of {entry.node_id} that does not count",
        )
        used = self.revoked | set(self.enrolled.values())
        require(
            entry.fingerprint not in used,
            f"{where} replaces a key of {entry.node_id} by one that was used before",
        )
        self.revoked.add(entry.old_fingerprint)
        self.enrolled[entry.node_id] = entry.fingerprint

    @property
    def _takes_late(self) -> bool:
        """Whether models may come, and others be made, after the first one."""
        return self.state == PUBLISHED and self.study.aggregation.late == "new-aggregate"

    def _enrol(self, entry: EnrolledEntry, where: str) -> None:
        require(entry.fingerprint not in self.revoked, f"{where} enrols a key that was revoked")
        require(
            self.enrolled.setdefault(entry.node_id, entry.fingerprint) == entry.fingerprint,
            f"{where} enrols {entry.node_id} with two keys, of which neither is revoked",
        )

    def _revoke(self, entry: RevokedEntry, where: str) -> None:
        require(
            self.enrolled.pop(entry.node_id, None) == entry.fingerprint,
            f"{where} revokes a key of {entry.node_id} that does not count",
        )
        self.revoked.add(entry.fingerprint)

    def _accept(self, entry: AcceptedEntry, where: str) -> None:
        require(
            self.state == OPEN or self._takes_late, f"{where} accepts an upload after the round was closed"
        )
        require(
            entry.node_id in self.enrolled,
            f"{where} accepts an upload of a node that had not enrolled, or whose key was revoked",
        )
        require(entry.node_id not in self.accepted, f"{where} accepts a second upload of {entry.node_id}")
        require(
            entry.sealed_sha256 not in self.taken_back,
            f"{where} accepts an upload that its node has withdrawn",
        )
        if is_masked(self.study):
            require(
                entry.node_id in self.lists.get("shares", ()) and "uploads" not in self.lists,
                f"{where} accepts masked numbers of {entry.node_id} that could not be summed",
            )
        self.accepted[entry.node_id] = entry.sealed_sha256
        self.sent[entry.node_id] = entry.bundle_sha256

    def _withdraw(self, entry: WithdrawnEntry, where: str) -> None:
        require(
            self.state == OPEN and "uploads" not in self.lists,
            f"{where} withdraws an upload after the round was closed",
        )
        require(
            self.accepted.pop(entry.node_id, None) == entry.sealed_sha256,
            f"{where} withdraws what was not accepted",
        )

    def _take_back(self, entry: WithdrawnByNodeEntry, where: str) -> None:
        require(
            self.state in (OPEN, WAITING) and "uploads" not in self.lists,
            f"{where} withdraws an upload of a round that is {self.state}",
        )
        require(
            entry.node_id in self.enrolled,
            f"{where} withdraws an upload by the word of a node that had not enrolled, or whose key was revoked",
        )
        require(
            self.accepted.pop(entry.node_id, None) == entry.sealed_sha256
            and entry.node_id not in self.excluded,
            f"{where} withdraws what was not accepted, or was excluded before",
        )
        self.taken_back.add(entry.sealed_sha256)

    def _exclude(self, entry: ExcludedEntry, where: str) -> None:
        fits = (self.state == AGGREGATING and not self.results) or self._takes_late
        require(fits, f"{where} excludes an upload while nothing is aggregated")
        require(not is_masked(self.study), f"{where} excludes an upload from a total that it is in")
        require(
            self.accepted.get(entry.node_id) == entry.sealed_sha256 and entry.node_id not in self.excluded,
            f"{where} excludes what was not accepted, or was excluded before",
        )
        self.excluded.add(entry.node_id)

    def _enter(self, entry: StateEntry, where: str) -> None:
        before, state = self.state, entry.state
        require(state in NEXT[before], f"{where} takes the round from {before} to {state}")
        if is_masked(self.study):
            fits = (state == AGGREGATING) <= ("uploads" in self.lists) and (
                (state, before) != (WAITING, AGGREGATING)
            )
            require(
                fits,
                f"{where} takes a masked sum from {before} to {state} without, or after, its list of uploads",
            )
        counted = len(self.accepted) - len(self.excluded)
        enough = before == OPEN and counted >= self.study.aggregation.quorum
        require(state != WAITING or not enough, f"{where} lets a round wait that has enough uploads")
        require(state != WAITING or not self.results, f"{where} lets a round wait that has a global model")
        require(state != PUBLISHED or self.results > 0, f"{where} publishes a round that has no global model")
        require(
            before != WAITING or state != OPEN or self.extended,
            f"{where} opens a round again without a new deadline",
        )
        self.state, self.extended = state, False

    def _extend(self, entry: DeadlineEntry, where: str) -> None:
        later, deadline = datetime.fromisoformat(entry.deadline), self.deadline
        fits = (self.state == OPEN and deadline is not None) or self.state == WAITING
        require(fits, f"{where} extends the deadline of a round that is {self.state}, or has none")
        require(deadline is None or later > deadline, f"{where} puts the deadline earlier than it was")
        self.deadline, self.extended = later, True

    def _close_list(self, entry: SumListEntry, where: str) -> None:
        step, nodes = entry.step, set(entry.statements)
        require(is_masked(self.study), f"{where} is of a masked sum, and the study has none")
        fits = len(self.lists) < len(STEPS) and STEPS[len(self.lists)] == step
        require(fits, f"{where} closes the masked sum's list of {step} out of its order")
        state = AGGREGATING if step in ("signing", "unmasking") else OPEN
        require(
            self.state == state and not self.results,
            f"{where} closes the masked sum's list of {step} in a round that is {self.state}",
        )
        before = self.lists[STEPS[len(self.lists) - 1]] if self.lists else set(self.enrolled)
        among = self.lists["uploads"] if step == "unmasking" else before
        require(
            nodes <= among and len(nodes) >= self.study.aggregation.quorum,
            f"{where} closes the masked sum's list of {step} with nodes that have no part in it, or with too few",
        )
        if step == "uploads":
            sent = {node: self.sent[node] for node in self.accepted}
            require(
                dict(entry.statements) == sent, f"{where} sums other uploads than those that are accepted"
            )
        self.lists[step] = nodes

    def _publish(self, where: str) -> None:
        require(
            not is_masked(self.study) or "unmasking" in self.lists,
            f"{where} publishes the result of a masked sum that has no total",
        )
        fits = self._takes_late if self.results else self.state == AGGREGATING
        require(fits, f"{where} publishes a second result, or one of a round that is not aggregating")
        self.results += 1

    def _leave_out(self, entry: LeaveOneOutEntry, where: str) -> None:
        asked = self.study.aggregation.leave_one_out and not self.destroyed
        fits = self.state == AGGREGATING and self.results == 1 and asked
        require(fits, f"{where} leaves a node out where the study or the round does not ask for it")
        require(
            entry.node_id in self.accepted and entry.node_id not in self.left_out | self.excluded,
            f"{where} leaves out {entry.node_id}, which is not in the result or was left out before",
        )
        self.left_out.add(entry.node_id)

    def _destroy_key(self, entry: KeyDestroyedEntry, where: str) -> None:
        require(entry.round_key_id == self.manifest.round_key_id, f"{where} is about another round key")
        require(
            not self.destroyed, f"{where} says that the round key was destroyed, as an entry before it does"
        )
        require(
            self.state != PUBLISHED,
            f"{where} says that the round key was destroyed only after the result was published",
        )
        require(
            self.state in (FAILED, ABANDONED) or (self.state == AGGREGATING and self.results == 1),
            f"{where} says that the round key was destroyed before the uploads were aggregated, which needs it",
        )
        self.destroyed = True

"""Any order of what nodes, operator, clock and power can do to one round, against what the protocol promises of it."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordinator_client import Upload, tiny_study
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import sha256_hex
from epgfn.ledger.checkpoint import open_checkpoint
from epgfn.ledger.merkle import MerkleTree, leaf_hash
from epgfn.ledger.note import NoteVerifier
from epgfn.ledger.proof import verify_proof
from epgfn.run.audit.audit import audit_run
from epgfn.run.layout import ABANDONED, AGGREGATING, FAILED, OPEN, PUBLISHED, WAITING
from epgfn_coordinator import clock
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Home
from epgfn_coordinator.round import accepted_nodes, round_state
from epgfn_coordinator.schedule import deadline_of, due
from without_network import LocalCoordinator, LocalNode

ROSTER, QUORUM = ("a", "b", "c"), 2
DEADLINE = datetime(2100, 1, 1, tzinfo=UTC)
STUDY = tiny_study(
    roster=json.dumps(ROSTER), quorum=QUORUM, deadline=f"deadline = {DEADLINE:%Y-%m-%dT%H:%M:%SZ}"
)
CLOSED = (AGGREGATING, PUBLISHED, FAILED, ABANDONED)
ALLOWED: Final = {
    OPEN: {AGGREGATING, WAITING, ABANDONED},
    WAITING: {OPEN, FAILED, ABANDONED},
    AGGREGATING: {PUBLISHED, ABANDONED},
    PUBLISHED: set(),
    FAILED: set(),
    ABANDONED: set(),
}
NODES = st.sampled_from(ROSTER)
SELDOM = st.sampled_from([False] * 4 + [True])
STEPS = st.sampled_from([*[None] * 40, *range(1, 41)])
"""At which step from now, of those that change something on disk, the coordinator dies, if it does."""


class RoundMachine(RuleBasedStateMachine):
    """`counts` holds, by node, the digest of the sealed model that counts, as far as a client can know it."""

    @initialize(enrolled=st.sampled_from([0, 3, 3, 3]))
    def begin(self, enrolled: int) -> None:
        """A fresh round, a day before its deadline, most often with everybody enrolled."""
        self.folder = Path(tempfile.mkdtemp(prefix="round-"))
        self.time = DEADLINE - timedelta(days=1)
        self.clock = mock.patch.object(clock, "now", lambda: self.time)
        self.clock.start()
        self.coordinator = LocalCoordinator(Home(self.folder / "home"), STUDY)
        self.ledger_key = NoteVerifier.from_vkey(self.coordinator.home.key("ledger.vkey").read_text().strip())
        self.nodes: dict[str, LocalNode] = {}
        self.stolen: list[LocalNode] = []
        self.uploads: dict[str, Upload] = {}
        self.senders: dict[str, LocalNode] = {}
        self.counts: dict[str, str] = {}
        self.taken_back: set[str] = set()
        self.acknowledged: list[tuple[bytes, bytes]] = []
        self.entries: list[bytes] = []
        self.heads: list[bytes] = []
        self.frozen: dict[str, str] | None = None
        self.made = 0
        self._tick()
        for name in ROSTER[:enrolled]:
            self.enrol(name, None)

    def teardown(self) -> None:
        """A published round passes the audit, with exactly what was counted."""
        if not hasattr(self, "coordinator"):
            return
        try:
            if self.state == PUBLISHED:
                self.coordinator.close()
                assert export(self.coordinator.home, self.folder / "run") == "published"
                report = audit_run(self.folder / "run")
                assert report.ok, report.findings
                summary = json.loads((self.coordinator.home.result / "summary.json").read_text())
                assert summary["aggregated"] == sorted(self.counts)
        finally:
            self.coordinator.close()
            self.clock.stop()
            shutil.rmtree(self.folder)

    @property
    def state(self) -> str:
        """What the round is now, by its state on disk."""
        return self._last_state

    # What can happen

    @rule(name=NODES, dies=STEPS)
    def enrol(self, name: str, dies: int | None) -> None:
        """With a new invitation; whoever is enrolled asks again, and gets the same certificate."""
        before = self.nodes.get(name)
        node = before or LocalNode.at(self.coordinator, name)
        certificate = self._do(dies, node.enroll)
        if certificate is None:
            certificate = node.enroll()  # nobody was told, and the same invitation still works
        if before is not None:
            assert certificate == node.enroll()
        self.nodes[name] = node

    @precondition(lambda self: len(self.counts) < len(self.nodes))
    @rule(dies=STEPS)
    def submit_the_next(self, dies: int | None) -> None:
        """A model of a node that has none."""
        for name in sorted(set(self.nodes) - set(self.counts))[:1]:
            self.submit(name, False, dies)

    @rule(name=NODES, again=st.booleans(), dies=STEPS)
    def submit(self, name: str, again: bool, dies: int | None) -> None:
        """A new model, or the last one once more."""
        node = self.nodes.get(name)
        if node is None:
            return
        self.made += 1
        if not again or name not in self.uploads:
            self.uploads[name], self.senders[name] = node.make_upload(STUDY, seed=self.made), node
        upload = self.uploads[name]
        digest = sha256_hex(upload.sealed)
        expected = self._expected_of(name, digest)
        try:
            answer = self._do(dies, lambda: node.send(upload))
        except RefusedError as error:
            assert error.reason == expected, (error.reason, expected)
            return
        if answer is None:  # it died; it counts now or does not, and nobody has been told
            if self._counted(name) == digest and expected == "":
                self.counts[name] = digest
            return
        assert expected == "", expected
        self.counts[name] = digest
        self._acknowledge(bytes(answer.receipt), bytes(answer.entry), "accepted", digest)
        assert node.commit(node.begin(upload.bundle).upload_id).receipt == answer.receipt

    def _expected_of(self, name: str, digest: str) -> str:
        """The reason with which a model is refused; empty where it is taken."""
        if self.counts.get(name) == digest:
            return ""
        if self.senders[name] is not self.nodes[name]:
            return "wrong-key"  # of before its keys were revoked
        if digest in self.taken_back:
            return "withdrawn"
        if name in self.counts:
            return "already-accepted"
        if self.state == WAITING:
            return "waiting"
        return "round-closed" if self.state in CLOSED else ""

    @rule(name=NODES, dies=STEPS)
    def withdraw(self, name: str, dies: int | None) -> None:
        """What counts of a node no longer does, unless it is too late."""
        node, digest = self.nodes.get(name), self.counts.get(name)
        upload = self.uploads.get(name)
        if node is None or upload is None or digest != sha256_hex(upload.sealed):
            return
        bundle = node.make_withdrawal(STUDY, upload.sealed)
        late = self.state in CLOSED
        try:
            answer = self._do(dies, lambda: node.withdraw(bundle))
        except RefusedError as error:
            assert late and error.reason == "too-late", error.reason
            return
        if answer is None and self._counted(name) == digest:
            return
        assert not late
        del self.counts[name]
        self.taken_back.add(digest)
        answer = answer or node.withdraw(bundle)  # a reply that was lost
        self._acknowledge(bytes(answer.receipt), bytes(answer.entry), "withdrawn-by-node", digest)

    @rule(name=NODES, dies=STEPS, sure=SELDOM)
    def revoke(self, name: str, dies: int | None, sure: bool) -> None:
        """Its keys open nothing any more; what was accepted of it stands."""
        if name not in self.nodes or not sure:
            return
        self._do(dies, lambda: self.coordinator.live.revocation.revoke(name))
        if self.coordinator.live.store.row("SELECT 1 FROM nodes WHERE node_id = ?", name) is not None:
            assert dies is not None
            return
        self.stolen.append(self.nodes.pop(name))

    @rule(far=SELDOM, dies=STEPS)
    def time_passes(self, far: bool, dies: int | None) -> None:
        """A minute, or all that is left until the clock decides something."""
        moment = due(STUDY, self.coordinator.live.store)
        if far and moment is not None:
            self.time = max(self.time, moment - timedelta(minutes=1))  # nobody believes a leap over it
            self._tick()
        self.time += timedelta(minutes=1)
        self._do(dies, self._tick)

    @rule(dies=STEPS)
    def extend(self, dies: int | None) -> None:
        """The operator does, by an hour."""
        standing = deadline_of(STUDY, self.coordinator.live.store)
        assert standing is not None
        later = max(standing, self.time) + timedelta(hours=1)
        may = self.state in (OPEN, WAITING)
        try:
            self._do(dies, lambda: self.coordinator.live.round.extend(later))
        except EpgfnError:
            assert not may
            return
        assert may

    @rule(dies=STEPS)
    def close(self, dies: int | None) -> None:
        """The operator asks for it; below the quorum the answer is no."""
        before = self.state
        self.coordinator.live.store.write("INSERT INTO requests (done) VALUES (NULL)")
        self._do(dies, self._tick)
        if dies is None and before == OPEN:
            assert (self._look() == AGGREGATING) == (len(self.counts) >= QUORUM)

    @rule(dies=STEPS, sure=SELDOM)
    def abandon(self, dies: int | None, sure: bool) -> None:
        """The operator gives it up, seldom; not what is published."""
        if not sure:
            return
        may = self.state != PUBLISHED
        try:
            self._do(dies, self.coordinator.live.abandon)
        except EpgfnError:
            assert not may
            return
        assert may or dies is not None
        if dies is None:
            assert self._look() in (ABANDONED, FAILED)
            assert not self.coordinator.home.key("round.key").exists()

    @precondition(lambda self: self.state == AGGREGATING)
    @rule(dies=STEPS)
    def aggregate(self, dies: int | None) -> None:
        """What a round that has closed does next, again after each death."""
        self._do(dies, lambda: self.coordinator.live._publication.run(threading.Event()))

    @rule()
    def restart(self) -> None:
        """Opened again from what is on disk."""
        self.coordinator.restart()

    # What holds whatever happens

    @invariant()
    def promises_are_kept(self) -> None:
        """See the docstring of this file."""
        self._tick()
        store = self.coordinator.live.store
        assert accepted_nodes(store) == sorted(self.counts), "what was acknowledged counts, and nothing else"
        for name, digest in self.counts.items():
            assert self._counted(name) == digest
            assert self.coordinator.home.artifact(digest).exists()
        self._require_ledger()
        for old in self.stolen:
            try:
                old.checkpoint()
            except RefusedError as error:
                assert error.reason == "revoked", error.reason
            else:
                raise AssertionError("revoked keys open the door")
        if self.state in CLOSED:
            if self.frozen is None:
                self.frozen = dict(self.counts)
                for name in sorted(set(self.nodes) - set(self.counts)):
                    self.submit(name, False, None)  # which is refused
            assert self.frozen == self.counts, "a closed round has taken something"
        if self.state == AGGREGATING:
            assert len(self.counts) >= QUORUM

    def _require_ledger(self) -> None:
        live = self.coordinator.live
        live.log.publish()
        entries = live.store.entries()
        assert entries[: len(self.entries)] == self.entries, "the ledger was rewritten"
        self.entries = entries
        note, _ = live.log.proof_since(0)
        if not self.heads or self.heads[-1] != note:
            self.heads.append(note)
            tree = MerkleTree([leaf_hash(entry) for entry in entries])
            for head in self.heads:
                seen = open_checkpoint(head, self.ledger_key)
                assert tree.root(seen.size) == seen.root
        for receipt, entry in self.acknowledged:
            index, _ = verify_proof(receipt, entry, self.ledger_key, strict=True)
            assert entries[index] == entry, "an acknowledged entry is gone"
        said = [json.loads(entry) for entry in entries]
        states = [each["state"] for each in said if each["kind"] == "state"]
        assert states[-1] == self.state and states[0] == OPEN
        for earlier, later in itertools.pairwise(states):
            assert later in ALLOWED[earlier], states
        counted: dict[str, str] = {}
        for each in said:  # as whoever has nothing but the ledger counts
            if each["kind"] == "accepted":
                assert each["node_id"] not in counted, "counted twice"
                counted[each["node_id"]] = each["sealed_sha256"]
            elif each["kind"] == "withdrawn-by-node":
                assert counted.pop(each["node_id"]) == each["sealed_sha256"]
        assert counted == self.counts

    # How it is done

    def _do(self, dies: int | None, work: Callable[[], Any]) -> Any:
        """`work`, with the coordinator dying in the middle if it is to; None if it did."""
        try:
            return work() if dies is None else self.coordinator.killed_at(dies, work)
        finally:
            self._look()

    def _tick(self) -> None:
        self.coordinator.live.round.tick()
        self._look()

    def _look(self) -> str:
        self._last_state = round_state(self.coordinator.live.store)
        return self._last_state

    def _counted(self, name: str) -> str | None:
        """The digest of what counts of a node, by the state."""
        row = self.coordinator.live.store.row("SELECT sealed_sha256 FROM artifacts WHERE node_id = ?", name)
        return None if row is None else str(row["sealed_sha256"])

    def _acknowledge(self, receipt: bytes, entry: bytes, kind: str, digest: str) -> None:
        said = json.loads(entry)
        assert (said["kind"], said["sealed_sha256"]) == (kind, digest)
        self.acknowledged.append((receipt, entry))

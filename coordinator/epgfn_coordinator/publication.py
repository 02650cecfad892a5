"""From an aggregating round to a published one, in steps that can each be the last before a kill.

1. train, write the files in global/          a restart trains again; whose model cannot be combined is excluded, and it begins anew
2. sign the files, enter "global"             one transaction; from here on this model is fixed
3. the same for each node left out            if the study asks for it; a restart goes on with the next node
4. destroy the round key                      unless the study keeps it
5. enter "key-destroyed", state published     one transaction; only now nodes can fetch

Where the study takes late models, a published round goes through 1 and 2 once more for everybody so far, in a folder of its own.
"""

from __future__ import annotations

import threading
from functools import cache, partial
from typing import Any, Final

from torch import Tensor

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import sha256_file, sha256_hex, write_atomic
from epgfn.gflownet.training.loop import TrainingEnded, TrainingProgress
from epgfn.learn.aggregate import UnusableModels
from epgfn.ledger.checkpoint import Checkpoint
from epgfn.ledger.entries import ExcludedEntry, GlobalEntry, KeyDestroyedEntry, LeaveOneOutEntry, encode
from epgfn.run import layout
from epgfn.run.layout import (
    FAILED,
    MODEL,
    MODEL_BUNDLE,
    MODEL_SIGNATURE,
    PUBLISHED,
    SAMPLES,
    SUMMARY,
    TOTAL,
    WAITING,
)
from epgfn.sealing.bundle import sign_statement
from epgfn.sealing.model_signing import sign_model
from epgfn.sealing.predicates import LEAVE_ONE_OUT, LeaveOneOutPredicate
from epgfn.sealing.statement import (
    GLOBAL,
    AggregatedUpload,
    CheckpointRef,
    GlobalPredicate,
    RoundPredicate,
    make_statement,
)
from epgfn.study import Study
from epgfn_coordinator import places
from epgfn_coordinator.aggregation import open_artifacts, open_total, software, write_result, write_total
from epgfn_coordinator.home import Home
from epgfn_coordinator.influence import add_change
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.keys import Keys, destroy_round_key
from epgfn_coordinator.masked_sum import MaskedSum
from epgfn_coordinator.published_ledger import PublishedLog
from epgfn_coordinator.round import ABANDONED_FACT, Round, awaited_nodes, excluded_nodes
from epgfn_coordinator.store import Store
from epgfn_coordinator.together import Trainer
from epgfn_coordinator.verify import Verifier

NO_TOTAL: Final = frozenset({"share-wrong", "statistic-not-sound"})
"""Why a masked sum has no total, or one that no records have: what a node sent cannot be taken back."""


class Publication:
    """Aggregates a closed round and publishes the result. Its methods may be called again after any interruption."""

    def __init__(
        self,
        home: Home,
        study: Study,
        manifest: RoundPredicate,
        store: Store,
        log: PublishedLog,
        keys: Keys,
        verifier: Verifier,
        current: Round,
        journal: Journal,
        trainer: Trainer,
        masked: MaskedSum | None = None,
    ) -> None:
        """`masked`: the round's masked sum, of which the total is there, of a study that has one."""
        self._masked = masked
        self._home, self._study, self._manifest, self._store = home, study, manifest, store
        self._log, self._keys, self._verifier = log, keys, verifier
        self._round, self._journal, self._trainer = current, journal, trainer

    def run(self, stop: threading.Event) -> None:
        """Take the round from aggregating to published; or let it wait for its operator, where what is left of it cannot be combined; or
        let it fail, where a masked sum has no total that records can have.

        Models that cannot be combined with the others are excluded by name, and it begins anew without them.

        Raises:
            Interrupted: `stop` was set; a later call goes on.
            EpgfnError: a file cannot be read or written, or training failed.
        """
        while True:
            checkpoint = self._log.publish()
            nodes = self._nodes(checkpoint)
            models = cache(partial(self._open, nodes))
            if places.made(self._store, layout.GLOBAL) is not None:
                break
            quorum = self._study.aggregation.quorum
            if len(nodes) < quorum:
                self._wait(f"{len(nodes)} models can be combined, fewer than the quorum of {quorum}")
                return
            try:
                self._train(layout.GLOBAL, models(), "aggregating", stop, nodes=nodes)
                if self._masked is not None:
                    write_total(self._home.aggregate(layout.GLOBAL), self._study, models())
            except UnusableModels as error:
                if self._masked is not None:  # the total is of exactly these uploads
                    raise EpgfnError(str(error)) from None
                self._exclude(error)
                continue
            except TrainingEnded as error:
                if self._masked is not None:  # there is no other total, however long the round is open
                    raise
                self._wait(f"the models cannot be combined: {error}")
                return
            except RefusedError as error:
                if self._masked is None or error.reason not in NO_TOTAL:
                    raise
                self._fail(f"the masked sum has no total: {error}")
                return
            self._sign(layout.GLOBAL, nodes, checkpoint)
            break
        if self._study.aggregation.leave_one_out:
            for node in nodes if len(nodes) > 1 else []:
                if places.made(self._store, places.without(node)) is None:
                    self._leave_out(node, models(), checkpoint, stop)
        self._finish(len(nodes))

    def _open(self, nodes: list[str]) -> dict[str, dict[str, Tensor]]:
        """What the model is made of: the nodes' policies, or the total of their masked numbers."""
        if self._masked is None:
            return open_artifacts(self._home, self._store, self._verifier, nodes)
        return open_total(self._home, self._store, self._verifier, self._masked, self._study, nodes)

    def run_late(self, stop: threading.Event) -> None:
        """Make one more global model, of everybody whose model is accepted by now; those before stay as they are.

        Raises:
            Interrupted: `stop` was set; a later call begins anew.
            EpgfnError: a file cannot be read or written, or training failed.
        """
        checkpoint = self._log.publish()
        nodes, before = self._nodes(checkpoint), places.count(self._store)
        place = places.later(before + 1)
        try:
            models = open_artifacts(self._home, self._store, self._verifier, nodes)
            self._train(place, models, "aggregating-late", stop, number=before + 1)
        except UnusableModels as error:
            self._exclude(error)  # and whoever else came late is aggregated when this is called again
            return
        mean = add_change(self._home, place, places.later(before))
        self._sign(place, nodes, checkpoint)
        total = len(awaited_nodes(self._study, self._store))
        self._journal.decision(
            "published-late",
            f"global model {before + 1}, of {len(nodes)} of {total} nodes, is published beside the first",
            number=before + 1,
            aggregated=len(nodes),
            mean_change=round(mean, 4),
        )

    def _nodes(self, checkpoint: Checkpoint) -> list[str]:
        """Whose models are accepted in the ledger up to `checkpoint`: a later one belongs to the next aggregate."""
        rows = self._store.rows(
            "SELECT node_id FROM artifacts WHERE position < ? AND node_id NOT IN (SELECT node_id FROM exclusions) ORDER BY node_id",
            checkpoint.size,
        )
        return [row["node_id"] for row in rows]

    def _exclude(self, error: UnusableModels) -> None:
        """Enter in the ledger whose models do not count, and why."""
        for node, reason in error.reasons.items():
            row = self._store.row("SELECT sealed_sha256 FROM artifacts WHERE node_id = ?", node)
            assert row is not None
            entry = ExcludedEntry(
                round_id=self._manifest.round_id,
                node_id=node,
                sealed_sha256=row["sealed_sha256"],
                reason=reason,
            )
            with self._store.transaction():
                position = self._store.append_entry(encode(entry))
                self._store.write(
                    "INSERT INTO exclusions (node_id, reason, position) VALUES (?, ?, ?)",
                    node,
                    reason,
                    position,
                )
            self._journal.decision(
                "excluded",
                f"the model of {node} cannot be combined with the others and does not count",
                warn=True,
                node=node,
                reason=reason,
            )
        self._log.publish()

    def _wait(self, why: str) -> None:
        why = f"{why}; the round waits for the coordinator's operator, who can extend the deadline or abandon the round"
        self._round.advance(WAITING, why)
        self._journal.decision("waiting", why, warn=True)

    def _fail(self, why: str) -> None:
        """There is no other total of the same uploads, however often and by whomever it is computed."""
        self._round.advance(FAILED, why)
        self._journal.decision("failed", why, warn=True)

    def _leave_out(
        self, node: str, models: dict[str, dict[str, Tensor]], checkpoint: Checkpoint, stop: threading.Event
    ) -> None:
        place = places.without(node)
        others = {name: model for name, model in models.items() if name != node}
        self._train(place, others, "leaving-out", stop, node=node)
        self._sign(place, list(others), checkpoint, left_out=node)

    def _train(
        self,
        place: str,
        models: dict[str, dict[str, Tensor]],
        phase: str,
        stop: threading.Event,
        nodes: list[str] | None = None,
        **said: Any,
    ) -> None:
        """Train one model and write its files; `nodes` are in it, if `models` are not theirs one by one; `said` goes into every event and
        into the summary."""

        def report(at: TrainingProgress) -> None:
            self._journal.progress(phase, at.step, at.steps, f"loss {at.loss:.3f}", loss=at.loss, **said)

        self._journal.progress(phase, 0, self._study.parts_of(self._study.aggregation)[0], **said)
        more = {"left_out": said["node"]} if "node" in said else said
        write_result(
            self._home.aggregate(place),
            self._study,
            self._manifest.round_id,
            models,
            report,
            stop,
            trainer=self._trainer,
            nodes=nodes,
            samples="node" not in said,
            more=more,
        )

    def _sign(
        self, place: str, nodes: list[str], checkpoint: Checkpoint, left_out: str | None = None
    ) -> None:
        """Sign the files at `place`, which nobody may change from here on, and enter them in the ledger; `nodes` are in the model."""
        folder = self._home.aggregate(place)
        write_atomic(
            folder / MODEL_SIGNATURE, sign_model(MODEL, sha256_file(folder / MODEL), self._keys.signing)
        )
        names = (MODEL, MODEL_SIGNATURE, SUMMARY) + ((SAMPLES,) if left_out is None else ())
        names += (TOTAL,) if self._masked is not None else ()
        subjects = {name: sha256_file(folder / name) for name in names}
        predicate = self._predicate(nodes, checkpoint, left_out)
        kind = GLOBAL if left_out is None else LEAVE_ONE_OUT
        bundle = sign_statement(make_statement(subjects, kind, predicate), self._keys.signing)
        write_atomic(folder / MODEL_BUNDLE, bundle)
        entry = self._entry(sha256_hex(bundle), subjects[MODEL], left_out)
        with self._store.transaction():
            position = self._store.append_entry(entry)
            self._store.write(
                "INSERT INTO aggregates (place, size, bundle, position) VALUES (?, ?, ?, ?)",
                place,
                checkpoint.size,
                bundle,
                position,
            )
        self._log.publish()

    def _entry(self, bundle_sha256: str, model_sha256: str, left_out: str | None) -> bytes:
        round_id = self._manifest.round_id
        if left_out is None:
            return encode(
                GlobalEntry(round_id=round_id, bundle_sha256=bundle_sha256, model_sha256=model_sha256)
            )
        return encode(
            LeaveOneOutEntry(
                round_id=round_id,
                node_id=left_out,
                bundle_sha256=bundle_sha256,
                model_sha256=model_sha256,
            )
        )

    def _predicate(self, nodes: list[str], checkpoint: Checkpoint, left_out: str | None) -> GlobalPredicate:
        """Exactly who is in the model: uploads that were accepted before `checkpoint`."""
        rows = self._store.rows(
            "SELECT node_id, sealed_sha256, bundle_sha256 FROM artifacts ORDER BY node_id"
        )
        uploads = tuple(AggregatedUpload(**dict(row)) for row in rows if row["node_id"] in nodes)
        predicate = GlobalPredicate(
            study_digest=self._study.digest,
            round_id=self._manifest.round_id,
            aggregated=uploads,
            absent=tuple(node for node in self._study.roster if node not in nodes),
            seed=self._study.seed,
            software=software(),
            checkpoint=CheckpointRef(**checkpoint.as_dict()),
        )
        return predicate if left_out is None else LeaveOneOutPredicate(**dict(predicate), left_out=left_out)

    def _finish(self, aggregated: int) -> None:
        self._log.fill_receipts()
        total = len(awaited_nodes(self._study, self._store))
        why = f"the global model of {aggregated} of {total} nodes is published"
        if excluded := excluded_nodes(self._store):
            names = ", ".join(f"{node} ({reason})" for node, reason in excluded.items())
            why += f"; excluded, since their models cannot be combined with the others: {names}"
        self._round.advance(PUBLISHED, why, self._without_key())
        self._journal.decision("published", why, aggregated=aggregated)

    def abandon(self) -> None:
        """Destroy the round key of a round that ends without a result: nothing will ever be aggregated. May be called again."""
        if self._store.fact(ABANDONED_FACT) is not None:
            return
        with self._store.transaction():
            for entry in self._without_key():
                self._store.append_entry(entry)
            self._store.set_fact(ABANDONED_FACT, b"")
        self._log.publish()

    def _without_key(self) -> list[bytes]:
        """Destroy the round key, unless the study keeps it; the ledger entry that says so."""
        if self._study.transport.keep_round_key:
            return []
        destroy_round_key(self._home)
        entry = KeyDestroyedEntry(round_id=self._manifest.round_id, round_key_id=self._manifest.round_key_id)
        return [encode(entry)]

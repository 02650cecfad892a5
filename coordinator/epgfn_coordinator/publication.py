"""From an aggregating round to a published one, in steps that can each be the last before a kill.

1. train, write the files in global/          a restart trains again
2. sign the statement, enter "global"         one transaction; from here on the result is fixed
3. destroy the round key                      unless the study keeps it
4. enter "key-destroyed", state published     one transaction; only now nodes can fetch
"""

from __future__ import annotations

import threading

from epgfn.files import sha256_file, sha256_hex, write_atomic
from epgfn.ledger.entries import GlobalEntry, KeyDestroyedEntry, encode
from epgfn.sealing.bundle import sign_statement
from epgfn.sealing.statement import (
    GLOBAL,
    AggregatedUpload,
    CheckpointRef,
    GlobalPredicate,
    RoundPredicate,
    make_statement,
)
from epgfn.study import Study
from epgfn.training import TrainingProgress
from epgfn_coordinator.aggregate import MODEL, SAMPLES, open_artifacts, software, write_result
from epgfn_coordinator.home import Home
from epgfn_coordinator.journal import Journal
from epgfn_coordinator.keys import Keys, destroy_round_key
from epgfn_coordinator.log import PublishedLog
from epgfn_coordinator.round import PUBLISHED, Round, accepted_nodes
from epgfn_coordinator.store import Store
from epgfn_coordinator.verify import Verifier

BUNDLE = "model.sigstore.json"
_BUNDLE_FACT, _POSITION_FACT, _ABANDONED_FACT = "global_bundle", "global_position", "abandoned"


def published_bundle(store: Store) -> bytes:
    """The signed statement about the global model."""
    return store.fact(_BUNDLE_FACT) or b""


def published_entry(store: Store) -> int:
    """Index of its ledger entry."""
    return int(store.text(_POSITION_FACT))


class Publication:
    """Aggregates a closed round and publishes the result. `run` may be called again after any interruption."""

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
    ) -> None:
        self._home, self._study, self._manifest, self._store = home, study, manifest, store
        self._log, self._keys, self._verifier = log, keys, verifier
        self._round, self._journal = current, journal

    def run(self, stop: threading.Event) -> None:
        """Take the round from aggregating to published.

        Raises:
            Interrupted: `stop` was set; a later call goes on.
            EpgfnError: a file cannot be read or written, or training failed.
        """
        if self._store.fact(_BUNDLE_FACT) is None:
            self._journal.progress("aggregating", 0, self._study.aggregation.steps)
            models = open_artifacts(self._home, self._store, self._verifier)
            write_result(self._home.result, self._study, self._manifest.round_id, models, self._report, stop)
            self._sign()
        self._finish()

    def _report(self, at: TrainingProgress) -> None:
        self._journal.progress("aggregating", at.step, at.steps, f"loss {at.loss:.3f}", loss=at.loss)

    def _sign(self) -> None:
        checkpoint = self._log.publish()
        uploads = [
            AggregatedUpload(**dict(row))
            for row in self._store.rows(
                "SELECT node_id, sealed_sha256, bundle_sha256 FROM artifacts ORDER BY node_id"
            )
        ]
        nodes = {upload.node_id for upload in uploads}
        predicate = GlobalPredicate(
            study_digest=self._study.digest,
            round_id=self._manifest.round_id,
            aggregated=tuple(uploads),
            absent=tuple(node for node in self._study.roster if node not in nodes),
            seed=self._study.seed,
            software=software(),
            checkpoint=CheckpointRef(**checkpoint.as_dict()),
        )
        subjects = {name: sha256_file(self._home.result / name) for name in (MODEL, SAMPLES)}
        bundle = sign_statement(make_statement(subjects, GLOBAL, predicate), self._keys.signing)
        write_atomic(self._home.result / BUNDLE, bundle)
        with self._store.transaction():
            position = self._store.append_entry(
                encode(
                    GlobalEntry(
                        round_id=self._manifest.round_id,
                        bundle_sha256=sha256_hex(bundle),
                        model_sha256=subjects[MODEL],
                    )
                )
            )
            self._store.set_fact(_BUNDLE_FACT, bundle)
            self._store.set_fact(_POSITION_FACT, str(position))
        self._log.publish()

    def _finish(self) -> None:
        self._log.fill_receipts()
        nodes = accepted_nodes(self._store)
        why = f"the global model of {len(nodes)} of {len(self._study.roster)} nodes is published"
        self._round.advance(PUBLISHED, why, self._without_key())
        self._journal.decision("published", why, aggregated=len(nodes))

    def abandon(self) -> None:
        """Destroy the round key of a round that failed: nothing will ever be aggregated. May be called again."""
        if self._store.fact(_ABANDONED_FACT) is not None:
            return
        with self._store.transaction():
            for entry in self._without_key():
                self._store.append_entry(entry)
            self._store.set_fact(_ABANDONED_FACT, b"")
        self._log.publish()

    def _without_key(self) -> list[bytes]:
        """Destroy the round key, unless the study keeps it; the ledger entry that says so."""
        if self._study.transport.keep_round_key:
            return []
        destroy_round_key(self._home)
        entry = KeyDestroyedEntry(round_id=self._manifest.round_id, round_key_id=self._manifest.round_key_id)
        return [encode(entry)]

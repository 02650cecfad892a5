"""What lies where in a run directory, and what the states of a round are called: the one place that spells either.

    study.toml  study.sigstore.json  round.sigstore.json  keys/
    uploads/<node>/{model.sealed, upload.sigstore.json, receipt.tlog-proof}
    withdrawals/<ledger index>.sigstore.json
    rotations/<ledger index>.sigstore.json
    witnesses/<node>.sigstore.json
    ledger/
    global/{model.safetensors, model.sigstore.json, samples.parquet, summary.json, report.html, *.png}
    global/total.safetensors   sums/<node>.sigstore.json       of a study whose sums are masked
    global/{comparison.json, comparison.sigstore.json}       of a simulation
    aggregates/<number>/…   leave-one-out/<node>/…          the same files, where the study asks for further models
    participant.json                                          only in a node's copy, which holds no other node's sealed model

docs/formats/run-directory.md says what each file holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

STUDY: Final = "study.toml"
STUDY_BUNDLE: Final = "study.sigstore.json"
ROUND_BUNDLE: Final = "round.sigstore.json"
KEYS: Final = "keys"
NODE_KEYS: Final = "nodes"
COORDINATOR_KEY: Final = "coordinator.pem"
LEDGER_KEY: Final = "ledger.vkey"
LEDGER: Final = "ledger"

UPLOADS: Final = "uploads"
SEALED: Final = "model.sealed"
UPLOAD_BUNDLE: Final = "upload.sigstore.json"
RECEIPT: Final = "receipt.tlog-proof"

WITHDRAWALS: Final = "withdrawals"
"""What nodes signed to take an upload back."""

ROTATIONS: Final = "rotations"
"""What a party signed, with both keys, to put another signing key in the place of its old one."""

SUMS: Final = "sums"
"""What nodes signed to agree whose total a masked sum is."""

WITNESSES: Final = "witnesses"
"""What nodes signed to name the keys with which they cosigned the ledger."""
WITNESS_KEY: Final = "witness.vkey"

PARTICIPANT: Final = "participant.json"
"""Says that this is the copy of a node that took part, and whose."""
RESULT: Final = "result"
"""Where a node's home has its copy."""

GLOBAL: Final = "global"
"""The model of everybody who had sent when the round closed."""
AGGREGATES: Final = "aggregates"
"""Later models, from number 2 on."""
LEAVE_ONE_OUT: Final = "leave-one-out"
MODEL: Final = "model.safetensors"
MODEL_BUNDLE: Final = "model.sigstore.json"
MODEL_SIGNATURE: Final = "model.sig"
"""The model's signature as OpenSSF Model Signing has it, for other people's tools."""
SAMPLES: Final = "samples.parquet"
TOTAL: Final = "total.safetensors"
"""Of a masked sum: the sums over all records, which the model was made of."""
SUMMARY: Final = "summary.json"
REPORT: Final = "report.html"
COMPARISON: Final = "comparison.json"
"""How far the first model is from the exact posterior, by a simulation, which holds all records: `epgfn simulate`."""
COMPARISON_BUNDLE: Final = "comparison.sigstore.json"
EDGES_PNG: Final = "edge_marginals.png"
POOLED_PNG: Final = "pooled_score.png"
TRAINING_PNG: Final = "training.png"
INFLUENCE_PNG: Final = "influence.png"
MARGINALS_PNG: Final = "marginals.png"
"""Pictures that a report leaves beside it: of graphs, of a simulation, of any, where nodes are left out, of other objects."""

OPEN: Final = "open"
AGGREGATING: Final = "aggregating"
WAITING: Final = "waiting"
PUBLISHED: Final = "published"
FAILED: Final = "failed"
ABANDONED: Final = "abandoned"


@dataclass(frozen=True)
class RunLayout:
    """The paths in the run directory at `root`, whether or not they are there."""

    root: Path

    @property
    def study(self) -> Path:
        return self.root / STUDY

    @property
    def ledger(self) -> Path:
        return self.root / LEDGER

    @property
    def coordinator_key(self) -> Path:
        return self.root / KEYS / COORDINATOR_KEY

    @property
    def ledger_key(self) -> Path:
        return self.root / KEYS / LEDGER_KEY

    def node_key(self, node: str) -> Path:
        return self.root / KEYS / NODE_KEYS / f"{node}.pem"

    def upload(self, node: str) -> Path:
        """The folder of what one node sent."""
        return self.root / UPLOADS / node

    def withdrawal(self, index: int) -> Path:
        """What the node signed whose withdrawal has that ledger index."""
        return self.root / WITHDRAWALS / f"{index}.sigstore.json"

    def rotation(self, index: int) -> Path:
        """What a party signed to change its key whose entry has that ledger index."""
        return self.root / ROTATIONS / f"{index}.sigstore.json"

    def witness(self, node: str) -> Path:
        """What a node signed to name the key with which it cosigns the ledger."""
        return self.root / WITNESSES / f"{node}.sigstore.json"

    def sum_part(self, node: str) -> Path:
        """What a node signed to agree whose total a masked sum is."""
        return self.root / SUMS / f"{node}.sigstore.json"

    def aggregate(self, number: int) -> Path:
        """The folder of the global model with that number; the first has number 1."""
        return self.root / GLOBAL if number == 1 else self.root / AGGREGATES / str(number)

    @property
    def model(self) -> Path:
        return self.root / GLOBAL / MODEL

    @property
    def samples(self) -> Path:
        return self.root / GLOBAL / SAMPLES

    @property
    def summary(self) -> Path:
        return self.root / GLOBAL / SUMMARY

    @property
    def comparison(self) -> Path:
        return self.root / GLOBAL / COMPARISON

    @property
    def comparison_bundle(self) -> Path:
        return self.root / GLOBAL / COMPARISON_BUNDLE

    @property
    def report(self) -> Path:
        return self.root / GLOBAL / REPORT

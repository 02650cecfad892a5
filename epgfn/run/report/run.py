"""What the report needs to know of a run directory, read once: audited first, and then taken from files that verify."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.files import read_bytes, sha256_file
from epgfn.ledger.entries import (
    AcceptedEntry,
    DeadlineEntry,
    Entry,
    ExcludedEntry,
    RefusedEntry,
    StateEntry,
    WithdrawnByNodeEntry,
    WithdrawnEntry,
    parse,
)
from epgfn.ledger.log import LogView, read_log
from epgfn.ledger.note import NoteVerifier
from epgfn.ledger.proof import MAX_PROOF_BYTES, verify_proof
from epgfn.run.audit.aggregates import live, published
from epgfn.run.audit.audit import Finding
from epgfn.run.audit.enrolments import enrolments, in_words
from epgfn.run.comparison.file import AnyComparison, read_comparison
from epgfn.run.comparison.graphs import Array, Comparison
from epgfn.run.comparison.objects import ObjectComparison
from epgfn.run.directions import compelled_probabilities
from epgfn.run.layout import COMPARISON, GLOBAL, MODEL, RECEIPT, SAMPLES, SEALED, RunLayout
from epgfn.run.report.found import Found, read_found
from epgfn.run.report.influence import Influence, read_influence
from epgfn.run.report.later import Later, read_later
from epgfn.run.report.privacy import Promise, read_promises
from epgfn.run.report.verified import Verified, verify
from epgfn.run.samples import adjacency, counted
from epgfn.sealing.bundle import MAX_BYTES as MAX_BUNDLE_BYTES
from epgfn.sealing.keys import VerifyKey
from epgfn.study import Study

History = list[dict[str, Any]]


@dataclass(frozen=True)
class Upload:
    """What one node of the roster sent. `sealed_sha256` is computed from the file, in a node's copy of another's what that has signed; None
    where there is nothing of it."""

    node_id: str
    aggregated: bool
    size: int | None = None
    sealed_sha256: str | None = None
    ledger_index: int | None = None
    """Index of the `accepted` entry with that node id and digest."""
    receipt: str = "none"
    """"valid": it proves that entry; "invalid", or "none"."""
    fingerprint: str | None = None
    problem: str = ""
    """Why what lies there does not verify."""


@dataclass(frozen=True)
class Ledger:
    """The log, verified; or, in `problem`, why it does not verify."""

    view: LogView | None
    entries: list[Entry]
    verifier: NoteVerifier | None
    vkey: str
    problem: str = ""

    def numbered(self, kind: type[Any]) -> list[tuple[int, Any]]:
        """Entries of one kind with their indices."""
        return [(index, entry) for index, entry in enumerate(self.entries) if isinstance(entry, kind)]


@dataclass(frozen=True)
class Run:
    """What verifies of a run directory, read. Of graphs `edges` and, on the same basis, `compelled`, (V, V); where the truth is known,
    their `comparison`; of other objects `found`. What there is no signed file for is None or empty."""

    study: Study
    edges: Array | None
    summary: dict[str, Any]
    uploads: list[Upload]
    ledger: Ledger
    coordinator_fingerprint: str | None
    comparison: Comparison | None
    history: History
    local_histories: dict[str, History] = field(default_factory=dict)
    influence: Influence | None = None
    later: list[Later] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)
    found: Found | None = None
    compelled: Array | None = None
    counts: dict[str, int] = field(default_factory=dict)
    """How often each object is among the signed samples."""
    findings: list[Finding] = field(default_factory=list)
    """What the audit checked, passed or not."""
    failures: list[str] = field(default_factory=list)
    """What did not verify, a sentence each."""
    copy_of: str | None = None
    """The node whose copy of the run this is."""
    left_out: list[str] = field(default_factory=list)
    """What lies in the run directory and is not shown, with the reason."""

    @property
    def has_result(self) -> bool:
        """Whether a signed file says how probable anything is."""
        return self.edges is not None or (
            self.found is not None and bool(self.found.marginals or self.found.top)
        )

    @property
    def aggregated(self) -> list[str]:
        """Nodes whose model is part of the product, by the ledger."""
        return [upload.node_id for upload in self.uploads if upload.aggregated]

    @property
    def absent(self) -> list[str]:
        """Nodes of the roster that are not part of the product."""
        return [upload.node_id for upload in self.uploads if not upload.aggregated]

    @property
    def refused(self) -> list[tuple[int, RefusedEntry]]:
        """Refused uploads with their ledger index."""
        return self.ledger.numbered(RefusedEntry)

    @property
    def withdrawn(self) -> list[tuple[int, WithdrawnEntry]]:
        """Withdrawn uploads with their ledger index."""
        return self.ledger.numbered(WithdrawnEntry)

    @property
    def taken_back(self) -> list[tuple[int, WithdrawnByNodeEntry]]:
        """Uploads that their nodes have withdrawn by their signed word, with their ledger index."""
        return self.ledger.numbered(WithdrawnByNodeEntry)

    @property
    def excluded(self) -> list[tuple[int, ExcludedEntry]]:
        """Accepted uploads that could not be combined with the others, with their ledger index."""
        return self.ledger.numbered(ExcludedEntry)

    @property
    def deadlines(self) -> list[tuple[int, DeadlineEntry]]:
        """Deadlines that the operator has set instead of the study's, with their ledger index."""
        return self.ledger.numbered(DeadlineEntry)

    @property
    def revocations(self) -> list[str]:
        """Which nodes' keys were revoked, and what followed, a clause each."""
        return in_words(self.ledger.entries)

    @property
    def earlier_keys(self) -> list[tuple[str, str]]:
        """Whose key it was and how it ended, and its fingerprint, of each that has a successor: that is the node's key then."""
        found = enrolments(self.ledger.entries).items()
        return [
            (f"{node}, {'replaced' if each.replaced else 'revoked'}", each.entry.fingerprint)
            for node, of_node in found
            for each in of_node[:-1]
        ]

    @property
    def states(self) -> list[tuple[int, StateEntry]]:
        """The round's states with their ledger index."""
        return self.ledger.numbered(StateEntry)


def read_run(run_dir: Path) -> Run:
    """Audit `run_dir` and read what verifies.

    Raises:
        UsageError: study.toml is missing or malformed.
        RefusedError: study and round do not verify.
    """
    study = Study.load(RunLayout(run_dir).study)
    verified = verify(run_dir)
    ledger = _read_ledger(run_dir, verified)
    models = published(ledger.entries)
    nodes = aggregated_nodes(ledger.entries)
    summary = verified.summary(GLOBAL)
    counts = _counted(verified, study)
    compared, local_histories, left_out = _compared(verified, study)
    among_graphs, among_objects = _by_kind(compared)
    found = read_found(study, summary, counts, among_objects)
    edges = None if found else _edges(study, summary, counts)
    return Run(
        study=study,
        failures=verified.failures,
        findings=verified.audit.findings,
        counts=counts,
        edges=edges,
        summary=summary or {},
        uploads=[_upload(run_dir, node, node in nodes, ledger, verified) for node in study.roster],
        ledger=ledger,
        coordinator_fingerprint=_fingerprint(RunLayout(run_dir).coordinator_key),
        comparison=among_graphs,
        found=found,
        compelled=None if edges is None else compelled_probabilities(summary or {}, counts, edges, study),
        history=_history((summary or {}).get("history")),
        local_histories={node: _history(rows) for node, rows in local_histories.items()},
        influence=read_influence(verified, study, nodes) if models else None,
        promises=read_promises(verified, study),
        later=read_later(verified, models),
        copy_of=None if verified.audit.about is None else verified.audit.about.copy_of,
        left_out=[*left_out, *_unsigned(verified, summary, bool(models))],
    )


def aggregated_nodes(entries: list[Entry]) -> list[str]:
    """Nodes whose model is in the first global one, by the ledger; none before there is one."""
    models = published(entries)
    return sorted(entry.node_id for entry in live(entries, before=models[0].index).values()) if models else []


def _unsigned(verified: Verified, summary: dict[str, Any] | None, is_published: bool) -> list[str]:
    """What the page does not show although the run directory may hold it, and why."""
    if not is_published or summary is not None:
        return []
    problem = verified.problem(GLOBAL)
    if problem:
        return [f"Everything that the model, its samples and its summary say: {problem}."]
    return [
        "Diagnostics, training curves and whatever else only summary.json says: it was not signed in this run, which was made by an "
        "earlier version. Probabilities are counted among the signed samples."
    ]


def _compared(
    verified: Verified, study: Study
) -> tuple[AnyComparison | None, dict[str, list[Any]], list[str]]:
    """The comparison, the local histories that lie with it, and what was left out of either."""
    if f"{GLOBAL}/{MODEL}" not in verified.audit.vouched:
        return None, {}, []
    raw = verified.read(f"{GLOBAL}/{COMPARISON}")
    if raw is None:
        problem = verified.problem("comparison")
        return None, {}, [f"A comparison with the exact posterior: {problem}."] if problem else []
    compared = read_comparison(raw, study)
    return compared.comparison, compared.local_histories, []


def _by_kind(comparison: AnyComparison | None) -> tuple[Comparison | None, ObjectComparison | None]:
    if isinstance(comparison, ObjectComparison):
        return None, comparison
    return comparison, None


def _counted(verified: Verified, study: Study) -> dict[str, int]:
    """How often each object is among the signed samples; empty if there are none."""
    raw = verified.read(f"{GLOBAL}/{SAMPLES}")
    return {} if raw is None else counted(raw, study.kind.column)


def _read_ledger(run_dir: Path, verified: Verified) -> Ledger:
    vkey = ""
    try:
        problem = verified.problem("ledger", "ledger-entries")
        if problem:
            raise RefusedError("not-verified", problem)
        vkey = (
            read_bytes(RunLayout(run_dir).ledger_key, "ledger key", MAX_BUNDLE_BYTES)
            .decode("utf-8", "replace")
            .strip()
        )
        verifier = NoteVerifier.from_vkey(vkey)
        view = read_log(RunLayout(run_dir).ledger, verifier)
        return Ledger(view, [parse(entry) for entry in view.entries], verifier, vkey)
    except EpgfnError as error:
        # A report of a run whose ledger is damaged must say so, loudly, rather than not exist.
        return Ledger(None, [], None, vkey, problem=str(error))


def _upload(run_dir: Path, node: str, aggregated: bool, ledger: Ledger, verified: Verified) -> Upload:
    folder = RunLayout(run_dir).upload(node)
    known = not verified.problem("ledger", "ledger-entries", "node-keys")
    fingerprint = _fingerprint(RunLayout(run_dir).node_key(node)) if known else None
    sealed, problem = folder / SEALED, verified.problem(f"upload {node}")
    signed = _signed(node, ledger, verified)
    if problem or not (sealed.is_file() or signed):
        return Upload(node, aggregated, fingerprint=fingerprint, problem=problem)
    digest, size = signed or (sha256_file(sealed), sealed.stat().st_size)
    index = next(
        (i for i, entry in ledger.numbered(AcceptedEntry) if (entry.node_id, entry.sealed_sha256) == (node, digest)), None
    )  # fmt: skip
    receipt = _receipt(folder / RECEIPT, index, ledger)
    return Upload(node, aggregated, size, digest, index, receipt, fingerprint)


def _signed(node: str, ledger: Ledger, verified: Verified) -> tuple[str, int] | None:
    """In a node's copy, digest and size of what a node sent, as it has signed them and the ledger has accepted."""
    about = verified.audit.about
    if about is None or about.copy_of is None:
        return None
    found = [entry for entry in live(ledger.entries).values() if entry.node_id == node]
    return (found[0].sealed_sha256, found[0].size) if found else None


def _receipt(path: Path, index: int | None, ledger: Ledger) -> str:
    if not path.is_file():
        return "none"
    if index is None or ledger.view is None or ledger.verifier is None:
        return "invalid"
    try:
        proved, _ = verify_proof(
            read_bytes(path, "receipt", MAX_PROOF_BYTES), ledger.view.entries[index], ledger.verifier
        )
    except EpgfnError:
        return "invalid"
    return "valid" if proved == index else "invalid"


def _fingerprint(path: Path) -> str | None:
    try:
        return VerifyKey.from_pem(read_bytes(path, "node's key", MAX_BUNDLE_BYTES)).fingerprint
    except EpgfnError:
        return None


def _edges(study: Study, summary: dict[str, Any] | None, counts: dict[str, int]) -> Array | None:
    """(V, V) as the signed summary has them, else shares among the signed samples; None where neither is there."""
    if summary is not None:
        return np.asarray(summary["edge_probabilities"], dtype=np.float64)
    if not counts:
        return None
    graphs = adjacency(list(counts), study.variable_names, study.space.max_parents).numpy()
    weight = np.array(list(counts.values()), dtype=np.float64)
    edges: Array = np.einsum("b,bij->ij", weight / weight.sum(), graphs.astype(np.float64))
    return edges


def _history(value: Any) -> History:
    if not isinstance(value, list):
        return []
    return [row for row in value if isinstance(row, dict) and _is_finite(row.get("loss"))]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)

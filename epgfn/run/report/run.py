"""What the report needs to know of a run directory, read once. It checks the ledger, and leaves the rest to `epgfn audit`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import read_bytes, sha256_file
from epgfn.ledger.entries import (
    AcceptedEntry,
    Entry,
    GlobalEntry,
    RefusedEntry,
    StateEntry,
    WithdrawnEntry,
    parse,
)
from epgfn.ledger.log import LogView, read_log
from epgfn.ledger.note import NoteVerifier
from epgfn.ledger.proof import verify_proof
from epgfn.run.comparison.graphs import Array, Comparison
from epgfn.run.comparison.objects import ObjectComparison
from epgfn.run.directions import compelled_probabilities
from epgfn.run.layout import RECEIPT, SEALED, RunLayout
from epgfn.run.report.found import Found, read_found
from epgfn.run.report.influence import Influence, read_influence
from epgfn.run.report.later import Later, read_later
from epgfn.run.report.privacy import Promise, read_promises
from epgfn.sealing.keys import VerifyKey
from epgfn.study import Study

History = list[dict[str, Any]]


@dataclass(frozen=True)
class Upload:
    """What one node of the roster sent. `sealed_sha256` is computed from the file; None where there is no such file."""

    node_id: str
    aggregated: bool
    size: int | None = None
    sealed_sha256: str | None = None
    ledger_index: int | None = None
    """Index of the `accepted` entry with that node id and digest."""
    receipt: str = "none"
    """"valid": it proves that entry; "invalid", or "none"."""
    fingerprint: str | None = None


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
    """A run directory, read. Of graphs `edges` (V, V), `compelled` (V, V) by the samples, and, where the truth is known, `comparison`;
    of other objects `found`, and `edges` is (0, 0)."""

    study: Study
    edges: Array
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

    @property
    def aggregated(self) -> list[str]:
        """Nodes whose model is part of the product, as the summary names them."""
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
    def states(self) -> list[tuple[int, StateEntry]]:
        """The round's states with their ledger index."""
        return self.ledger.numbered(StateEntry)


def read_run(run_dir: Path, comparison: Comparison | ObjectComparison | None = None) -> Run:
    """Read `run_dir`. Without `comparison`, the one that a simulation left in summary.json is used, if any.

    Raises:
        UsageError: study.toml or global/summary.json is missing or not of the expected form.
    """
    study = Study.load(RunLayout(run_dir).study)
    summary_file = RunLayout(run_dir).summary
    raw = read_bytes(summary_file, "summary")
    try:
        summary: dict[str, Any] = _json_object(json.loads(raw))
        among_graphs, among_objects = _comparisons(comparison)
        found = read_found(run_dir, study, summary, among_objects)
        edges = np.zeros((0, 0)) if found else _edges(summary["edge_probabilities"], len(study.variables))
        aggregated = {str(node) for node in summary["aggregated"]}
        if found is None and among_graphs is None and summary.get("comparison") is not None:
            among_graphs = Comparison.from_json(summary["comparison"])
        influence = read_influence(summary.get("leave_one_out"), study.roster)
        local_histories = {
            str(k): _history(v) for k, v in _json_object(summary.get("local_histories")).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(
            f"{summary_file} is not the summary of a run of this study; export the run directory again"
        ) from None
    if among_graphs is not None and among_graphs.variables != study.variable_names:
        raise UsageError(
            f"the comparison in {summary_file} has other variables than {RunLayout(run_dir).study}"
        )
    ledger = _read_ledger(run_dir)
    return Run(
        study=study,
        edges=edges,
        summary=summary,
        uploads=[_upload(run_dir, node, node in aggregated, ledger) for node in study.roster],
        ledger=ledger,
        coordinator_fingerprint=_fingerprint(RunLayout(run_dir).coordinator_key),
        comparison=among_graphs,
        found=found,
        compelled=None
        if found
        else compelled_probabilities(RunLayout(run_dir).samples, study.variable_names),
        history=_history(summary.get("history")),
        local_histories=local_histories,
        influence=influence,
        promises=read_promises(run_dir, study),
        later=read_later(run_dir, [index for index, _ in ledger.numbered(GlobalEntry)][1:]),
    )


def _comparisons(
    comparison: Comparison | ObjectComparison | None,
) -> tuple[Comparison | None, ObjectComparison | None]:
    if isinstance(comparison, ObjectComparison):
        return None, comparison
    return comparison, None


def _read_ledger(run_dir: Path) -> Ledger:
    vkey = ""
    try:
        vkey = read_bytes(RunLayout(run_dir).ledger_key, "ledger key").decode("utf-8", "replace").strip()
        verifier = NoteVerifier.from_vkey(vkey)
        view = read_log(RunLayout(run_dir).ledger, verifier)
        return Ledger(view, [parse(entry) for entry in view.entries], verifier, vkey)
    except EpgfnError as error:
        # A report of a run whose ledger is damaged must say so, loudly, rather than not exist.
        return Ledger(None, [], None, vkey, problem=str(error))


def _upload(run_dir: Path, node: str, aggregated: bool, ledger: Ledger) -> Upload:
    folder = RunLayout(run_dir).upload(node)
    fingerprint = _fingerprint(RunLayout(run_dir).node_key(node))
    sealed = folder / SEALED
    if not sealed.is_file():
        return Upload(node, aggregated, fingerprint=fingerprint)
    digest = sha256_file(sealed)
    index = next(
        (i for i, entry in ledger.numbered(AcceptedEntry) if (entry.node_id, entry.sealed_sha256) == (node, digest)), None
    )  # fmt: skip
    receipt = _receipt(folder / RECEIPT, index, ledger)
    return Upload(node, aggregated, sealed.stat().st_size, digest, index, receipt, fingerprint)


def _receipt(path: Path, index: int | None, ledger: Ledger) -> str:
    if not path.is_file():
        return "none"
    if index is None or ledger.view is None or ledger.verifier is None:
        return "invalid"
    try:
        proved, _ = verify_proof(path.read_bytes(), ledger.view.entries[index], ledger.verifier)
    except RefusedError:
        return "invalid"
    return "valid" if proved == index else "invalid"


def _fingerprint(path: Path) -> str | None:
    try:
        return VerifyKey.from_pem(path.read_bytes()).fingerprint
    except (OSError, EpgfnError):
        return None


def _edges(value: Any, variables: int) -> Array:
    edges = np.asarray(value, dtype=np.float64)
    if edges.shape != (variables, variables) or not np.isfinite(edges).all():
        raise ValueError("edge probabilities of another shape")
    return edges


def _json_object(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError("not an object")
    return dict(value)


def _history(value: Any) -> History:
    if not isinstance(value, list):
        return []
    return [row for row in value if isinstance(row, dict) and _is_finite(row.get("loss"))]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)

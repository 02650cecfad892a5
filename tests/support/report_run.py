"""A run directory made by hand, with a real ledger, real keys and receipts, and made-up models: what a report is written from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from epgfn.base.files import sha256_hex
from epgfn.ledger.entries import AcceptedEntry, Entry, RefusedEntry, RoundEntry, StudyEntry, encode
from epgfn.ledger.log import TileLog
from epgfn.ledger.note import NoteSigner
from epgfn.run.comparison.graphs import Comparison
from epgfn.sealing.keys import SigningKey
from epgfn.study import Study

ROUND = "round-1"


def make_comparison(study: Study, seed: int = 0, *, exact: bool = True, error: float = 0.01) -> Comparison:
    """Made-up matrices: about a fifth of the edges certain, learned = exact + noise of size `error`."""
    draw = np.random.default_rng(seed)
    names = study.variable_names
    truth = _edges(draw, len(names))
    local = {node: _edges(draw, len(names)) for node in study.roster}
    return Comparison(
        variables=names,
        samples=20_000,
        global_edges=_noisy(draw, truth, error),
        local_edges={node: _noisy(draw, edges, error) for node, edges in local.items()},
        exact_edges=truth if exact else None,
        exact_local_edges=local if exact else {},
        reference_edges=[(names[0], names[1]), (names[-1], names[0])],
        pooled_global=draw.normal(-17_000, 4, 500),
        pooled_local={node: draw.normal(-17_060 - 9 * k, 14, 500) for k, node in enumerate(study.roster)},
    )


def make_run(
    root: Path,
    study: Study,
    comparison: Comparison | None = None,
    absent: tuple[str, ...] = (),
    local: bool = False,
) -> Path:
    """A run directory in `root`; nodes in `absent` sent nothing, and one upload of the first node was refused."""
    bundle = "0" * 64
    entries: list[Entry] = [
        StudyEntry(study_digest=study.digest, bundle_sha256=bundle),
        RoundEntry(round_id=ROUND, bundle_sha256=bundle),
        RefusedEntry(
            round_id=ROUND, node_id=study.roster[0], sealed_sha256="1" * 64, bundle_sha256=bundle, reason="bad-signature"
        ),
    ]  # fmt: skip
    places = {}
    for node in study.roster:
        if node in absent:
            continue
        sealed = f"sealed model of {node}".encode() * 9000
        places[node] = len(entries)
        digest = sha256_hex(sealed)
        entries.append(
            AcceptedEntry(round_id=ROUND, node_id=node, sealed_sha256=digest, bundle_sha256=bundle, size=len(sealed))
        )  # fmt: skip
        _write(root / "uploads" / node / "model.sealed", sealed)
        _write(root / "keys" / "nodes" / f"{node}.pem", SigningKey.generate().public.pem)
    signer = NoteSigner.generate("ledger.example/small")
    log = TileLog(root / "ledger", signer)
    log.publish([encode(entry) for entry in entries])
    for node, index in places.items():
        _write(root / "uploads" / node / "receipt.tlog-proof", log.receipt(index))
    _write(root / "keys" / "ledger.vkey", f"{signer.verifier.vkey}\n".encode())
    _write(root / "keys" / "coordinator.pem", SigningKey.generate().public.pem)
    _write(root / "study.toml", study.raw)
    summary = _summary(study, comparison, absent, local)
    _write(root / "global" / "summary.json", json.dumps(summary).encode())
    return root


def _summary(
    study: Study, comparison: Comparison | None, absent: tuple[str, ...], local: bool
) -> dict[str, Any]:
    draw = np.random.default_rng(1)
    learned = _edges(draw, len(study.variables)) if comparison is None else comparison.global_edges
    summary: dict[str, Any] = {
        "round_id": ROUND,
        "aggregated": [node for node in study.roster if node not in absent],
        "absent": list(absent),
        "seed": study.seed,
        "edge_probabilities": learned.tolist(),
        "history": _history(draw),
        "diagnostics": {
            "objects": 256,
            "effective_share": 0.31,
            "nodes": {node: {"spread_nats": 1.25, "disagreement_nats": 8.5} for node in study.roster},
        },
        "software": {"epgfn": "0.1.0", "torch": "2.13.0"},
    }
    if comparison is not None:
        summary["comparison"] = comparison.to_json()
    if local:
        summary["local_histories"] = {node: _history(draw) for node in study.roster}
    return summary


def _history(draw: np.random.Generator, steps: int = 60) -> list[dict[str, Any]]:
    loss = 40 * np.exp(-np.arange(steps) / 12) * draw.lognormal(0, 0.2, steps) + 0.8
    ess = np.clip(0.6 * (1 - np.exp(-np.arange(steps) / 20)) + draw.normal(0, 0.03, steps), 0, 1)
    return [
        {"step": k + 1, "steps": steps, "loss": float(loss[k]), "gradient_norm": 1.0, "ess": float(ess[k])} for k in range(steps)
    ]  # fmt: skip


def _edges(draw: np.random.Generator, count: int) -> np.ndarray:
    edges = draw.beta(0.12, 0.6, (count, count))
    np.fill_diagonal(edges, 0.0)
    return edges


def _noisy(draw: np.random.Generator, edges: np.ndarray, error: float) -> np.ndarray:
    noisy = np.clip(edges + draw.normal(0, error, edges.shape) * (edges > 0.01), 0, 1)
    np.fill_diagonal(noisy, 0.0)
    return noisy


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)

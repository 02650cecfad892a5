"""A run directory that verifies, with an untrained model and a made-up comparison: what a report is written from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from epgfn.learn.policy import family_of, initial_policy
from epgfn.ledger.entries import RefusedEntry, StateEntry
from epgfn.run.comparison.file import write_comparison
from epgfn.run.comparison.graphs import Comparison
from epgfn.run.comparison.objects import ObjectComparison
from epgfn.sealing.model_file import write_model
from epgfn.study import Study
from epgfn.study.objects import space_of
from run_directory import ROUND_ID, RunDirectory


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
    comparison: Comparison | ObjectComparison | None = None,
    absent: tuple[str, ...] = (),
    local: bool = False,
    summary: Mapping[str, Any] | None = None,
    **more: Any,
) -> Path:
    """A run directory in `root` that verifies; nodes in `absent` sent nothing, and one upload of the first node was refused. `summary`:
    what is signed in it beside or instead of the truth; `more`: fields of `RunDirectory`."""
    run = RunDirectory(root, study, **more)
    run.open_round()
    run.log(
        RefusedEntry(
            round_id=ROUND_ID, node_id=study.roster[0], sealed_sha256="1" * 64, bundle_sha256="0" * 64, reason="bad-signature"
        )
    )  # fmt: skip
    for node in study.roster:
        if node not in absent:
            run.send(node)
    run.made = made_model(study)
    draw = np.random.default_rng(1)
    run.summary = {
        "history": _history(draw),
        "diagnostics": {
            "objects": 256,
            "effective_share": 0.31,
            "nodes": {node: {"spread_nats": 1.25, "disagreement_nats": 8.5} for node in study.roster},
        },
        "software": {"epgfn": "0.1.0", "torch": "2.13.0"},
        **(summary or {}),
    }
    run.log(StateEntry(round_id=ROUND_ID, state="aggregating"))
    run.aggregate("global")
    if study.aggregation.leave_one_out:
        for number, node in enumerate(sorted(run.uploads)):
            run.made = made_model(study, seed=2 + number)
            run.aggregate(f"leave-one-out/{node}", left_out=node)
    run.end()
    run.finish()
    if comparison is not None:
        histories = {node: _history(draw) for node in study.roster} if local else {}
        write_comparison(root, study, ROUND_ID, comparison, histories, run.coordinator)
    return root


@cache
def _made(raw: bytes, seed: int) -> bytes:
    study, draw = Study.from_bytes(raw), torch.Generator().manual_seed(seed)
    scores = None
    if study.kind.has_edges and family_of(study).scores:
        space = space_of(study)
        scores = 2 * torch.randn((space.n_variables, space.n_sets), generator=draw, dtype=torch.float64)
    return write_model(initial_policy(study, scores, draw), {"study_digest": study.digest, "role": "global"})


def made_model(study: Study, seed: int = 1) -> bytes:
    """The file of an untrained global model, around scores that make some edges probable."""
    return _made(study.raw, seed)


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

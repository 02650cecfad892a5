"""How far one model's edge probabilities are from another's: what leaving a node out changes, or a late one adds.

Influence, not honesty: a node with many or unusual records moves the posterior as much as one that cheats.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from epgfn.errors import EpgfnError
from epgfn.files import read_bytes, write_atomic
from epgfn_coordinator import aggregates
from epgfn_coordinator.aggregate import EDGE_SAMPLES, SUMMARY
from epgfn_coordinator.home import Home

Array = npt.NDArray[np.float64]

TOO_FEW = "only one node's model is in the global one, so there is nothing left when it is left out"


def edge_distance(one: Array, other: Array, names: list[str]) -> dict[str, Any]:
    """Mean and largest |one - other| over the V (V - 1) ordered pairs of variables, and the edge where it is largest."""
    change = np.abs(one - other)
    np.fill_diagonal(change, 0.0)
    count = len(names)
    i, j = np.unravel_index(int(change.argmax()), change.shape)
    return {
        "mean": float(change.sum() / (count * (count - 1))),
        "largest": float(change.max()),
        "edge": [names[int(i)], names[int(j)]],
    }


def sampling_noise(edges: Array, samples: int) -> float:
    """Mean over edges of E|difference| of two shares among `samples` graphs each, if nothing but chance differs:
    sqrt(2 p (1 - p) / n) sqrt(2 / pi)."""
    p = edges[~np.eye(len(edges), dtype=bool)]
    return float(np.sqrt(2 * p * (1 - p) / samples).mean() * np.sqrt(2 / np.pi))


def read_edges(home: Home, place: str) -> tuple[Array, list[str]]:
    """Edge probabilities and variable names that the summary of a model holds.

    Raises:
        EpgfnError: the file is missing or damaged.
    """
    summary = _summary(home, place)
    return np.array(summary["edge_probabilities"], dtype=np.float64), list(summary["variables"])


def add_change(home: Home, place: str, before: str) -> float:
    """Put how far the model at `place` is from the one `before` into its summary; the mean change.

    Raises:
        EpgfnError: a summary is missing or damaged, or cannot be written.
    """
    summary = _summary(home, place)
    edges, names = read_edges(home, place)
    change = edge_distance(edges, read_edges(home, before)[0], names)
    summary["change"] = {
        "from": before,
        "samples": EDGE_SAMPLES,
        "sampling_noise": sampling_noise(edges, EDGE_SAMPLES),
        **change,
    }
    _write(home, place, summary)
    return float(change["mean"])


def add_leave_one_out(home: Home, nodes: list[str]) -> None:
    """Put how far each of `nodes` moves the edge probabilities into global/summary.json, or why that is not known.

    Raises:
        EpgfnError: a summary is missing or damaged, or cannot be written.
    """
    summary = _summary(home, aggregates.FIRST)
    if len(nodes) < 2:
        summary["leave_one_out"] = {"skipped": TOO_FEW}
    else:
        whole, names = read_edges(home, aggregates.FIRST)
        summary["leave_one_out"] = {
            "samples": EDGE_SAMPLES,
            "sampling_noise": sampling_noise(whole, EDGE_SAMPLES),
            "nodes": {
                node: edge_distance(whole, read_edges(home, aggregates.without(node))[0], names)
                for node in nodes
            },
        }
    _write(home, aggregates.FIRST, summary)


def _summary(home: Home, place: str) -> dict[str, Any]:
    path = home.aggregate(place) / SUMMARY
    try:
        value: dict[str, Any] = json.loads(read_bytes(path, "summary"))
        value["edge_probabilities"], value["variables"]
    except (ValueError, KeyError, TypeError):
        raise EpgfnError(f"{path} is damaged; restore it from a backup, then run serve again") from None
    return value


def _write(home: Home, place: str, summary: dict[str, Any]) -> None:
    write_atomic(home.aggregate(place) / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode("utf-8"))

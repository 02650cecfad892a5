"""How far one model's probabilities are from another's: what leaving a node out changes, or a late one adds.

Of graphs the probabilities of their edges, of other objects all marginals that a summary holds.
Influence, not honesty: a node with many or unusual records moves the posterior as much as one that cheats.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from epgfn.base.errors import EpgfnError
from epgfn.base.files import read_bytes, write_atomic
from epgfn.run.layout import GLOBAL, SUMMARY
from epgfn_coordinator import places
from epgfn_coordinator.aggregation import MARGINAL_SAMPLES
from epgfn_coordinator.home import Home

Name = str | tuple[str, str]
"""What a probability is of: parent and child of an edge, or the name of another marginal."""

TOO_FEW = "only one node's model is in the global one, so there is nothing left when it is left out"


def distance(one: Mapping[Name, float], other: Mapping[Name, float]) -> dict[str, Any]:
    """Mean and largest |one - other| over all names, one that is missing on a side being 0 there, and the name where it is
    largest: of an edge as `edge`, of anything else as `question`."""
    change = {name: abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in {**one, **other}}
    name = max(change, key=lambda found: change[found])
    return {
        "mean": math.fsum(change.values()) / len(change),
        "largest": change[name],
        **({"question": name} if isinstance(name, str) else {"edge": list(name)}),
    }


def sampling_noise(probabilities: Mapping[Name, float], samples: int) -> float:
    """Mean over names of E|difference| of two shares among `samples` objects each, if nothing but chance differs:
    sqrt(2 p (1 - p) / n) sqrt(2 / pi)."""
    p = np.clip(np.array(list(probabilities.values()), dtype=np.float64), 0, 1)
    return float(np.sqrt(2 * p * (1 - p) / samples).mean() * np.sqrt(2 / np.pi))


def read_probabilities(home: Home, place: str) -> dict[Name, float]:
    """What the summary of a model says of its edges or, where the objects are not graphs, its marginals.

    Raises:
        EpgfnError: the file is missing or damaged.
    """
    return _probabilities(_summary(home, place))


def add_change(home: Home, place: str, before: str) -> float:
    """Put how far the model at `place` is from the one `before` into its summary; the mean change.

    Raises:
        EpgfnError: a summary is missing or damaged, or cannot be written.
    """
    summary = _summary(home, place)
    found = _probabilities(summary)
    change = distance(found, read_probabilities(home, before))
    summary["change"] = {
        "from": before,
        "samples": MARGINAL_SAMPLES,
        "sampling_noise": _noise(summary),
        **change,
    }
    _write(home, place, summary)
    return float(change["mean"])


def add_leave_one_out(home: Home, nodes: list[str]) -> None:
    """Put how far each of `nodes` moves the probabilities into global/summary.json, or why that is not known.

    Raises:
        EpgfnError: a summary is missing or damaged, or cannot be written.
    """
    summary = _summary(home, GLOBAL)
    if len(nodes) < 2:
        summary["leave_one_out"] = {"skipped": TOO_FEW}
    else:
        whole = _probabilities(summary)
        summary["leave_one_out"] = {
            "samples": MARGINAL_SAMPLES,
            "sampling_noise": _noise(summary),
            "nodes": {
                node: distance(whole, read_probabilities(home, places.without(node))) for node in nodes
            },
        }
    _write(home, GLOBAL, summary)


def _noise(summary: Mapping[str, Any]) -> float:
    """Of two such summaries; none where probabilities are exact."""
    exact = summary.get("probabilities_from") in ("exact", "product")
    return 0.0 if exact else sampling_noise(_probabilities(summary), MARGINAL_SAMPLES)


def _summary(home: Home, place: str) -> dict[str, Any]:
    path = home.aggregate(place) / SUMMARY
    try:
        value: dict[str, Any] = json.loads(read_bytes(path, "summary"))
        _probabilities(value)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise EpgfnError(f"{path} is damaged; restore it from a backup, then run serve again") from None
    return value


def _probabilities(summary: Mapping[str, Any]) -> dict[Name, float]:
    if "marginals" in summary:
        found: dict[Name, float] = {str(name): float(p) for name, p in summary["marginals"].items()}
    else:
        rows = zip(summary["variables"], summary["edge_probabilities"], strict=True)
        pairs = [(parent, zip(summary["variables"], row, strict=True)) for parent, row in rows]
        found = {(parent, child): float(p) for parent, row in pairs for child, p in row if parent != child}
    if not found:
        raise ValueError("no probabilities")
    return found


def _write(home: Home, place: str, summary: dict[str, Any]) -> None:
    write_atomic(home.aggregate(place) / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode("utf-8"))

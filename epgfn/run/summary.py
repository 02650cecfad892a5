"""summary.json, what a coordinator says of a model and signs with it: its form, its probabilities, and how far those of two models
are from each other.

Of graphs the probabilities of their edges, of other objects all marginals. How far a model is from another is influence, not honesty:
a node with many or unusual records moves the posterior as much as one that cheats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from epgfn.base.canonical import parse_json

MARGINAL_SAMPLES: Final = 10_000
"""Objects behind the probabilities of edges, clades and so on in a summary: a standard error of at most .005 each."""

MAX_SUMMARY_BYTES: Final = 64 << 20
"""Of any study's summary."""
COMPELLED: Final = "compelled_probabilities"
"""Of a summary of graphs, (V, V) like `edge_probabilities`: that the edge is there and compelled, on the same basis."""
TOP: Final = "most_probable"
"""Of a summary of other objects, where all are listed: the most probable ones, each an `object` and its `probability`. Earlier versions
wrote neither."""

SAMPLES_FROM: Final = "samples_from"
"""What the objects in samples.parquet are drawn from, in the words of `probabilities_from`: "samples" are the model's own, as they all were
in earlier versions, which did not say it."""

Name = str | tuple[str, str]
"""What a probability is of: parent and child of an edge, or the name of another marginal."""


def read_summary(raw: bytes) -> dict[str, Any]:
    """The summary in the bytes of a file.

    Raises:
        ValueError: it is no JSON object, or says a key twice.
    """
    value = parse_json(raw)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def probabilities_of(summary: Mapping[str, Any]) -> dict[Name, float]:
    """What a summary says of its edges or, where the objects are not graphs, its marginals.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is of another form, or a probability is none.
    """
    found: dict[Name, float]
    if "marginals" in summary:
        found = {str(name): _probability(p) for name, p in summary["marginals"].items()}
    else:
        rows = zip(summary["variables"], summary["edge_probabilities"], strict=True)
        pairs = [(parent, list(zip(summary["variables"], row, strict=True))) for parent, row in rows]
        found = {
            (parent, child): _probability(p) for parent, row in pairs for child, p in row if parent != child
        }
    if not found:
        raise ValueError("no probabilities")
    return found


def compelled_of(summary: Mapping[str, Any]) -> list[list[float]] | None:
    """What a summary of graphs says of edges that are compelled, which is no more than it says of them; None where it says nothing.

    Raises:
        ValueError, KeyError, TypeError: it is of another form, or more probable than the edge.
    """
    if COMPELLED not in summary:
        return None
    edges, rows = summary["edge_probabilities"], summary[COMPELLED]
    return [
        [_at_most(p, most) for p, most in zip(row, whole, strict=True)]
        for row, whole in zip(rows, edges, strict=True)
    ]


def top_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """The most probable objects by text, best first; empty where a summary names none.

    Raises:
        ValueError, KeyError, TypeError: it is of another form.
    """
    rows = summary.get(TOP, [])
    found = {str(row["object"]): _probability(row["probability"]) for row in rows}
    if not isinstance(rows, list) or len(found) < len(rows) or sum(found.values()) > 1 + 1e-6:
        raise ValueError("not the most probable objects")
    return found


def _at_most(value: Any, most: Any) -> float:
    if _probability(value) > _probability(most) + 1e-9:
        raise ValueError("compelled more often than there")
    return float(value)


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


def noise_of(summary: Mapping[str, Any]) -> float:
    """The mean distance of two such summaries by chance alone; none where probabilities are exact. Two of Markov chains are that of their
    halves apart, each of which has half as many, over sqrt 2."""
    basis = summary.get("probabilities_from")
    if basis == "chains":
        diagnostics: Any = summary.get("diagnostics") or {}
        return _probability((diagnostics.get("trust") or {}).get("chains_apart_mean", 0.0)) / math.sqrt(2)
    return (
        0.0 if basis in ("exact", "product") else sampling_noise(probabilities_of(summary), MARGINAL_SAMPLES)
    )


def _probability(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e-6 <= value <= 1 + 1e-6:
        raise ValueError("not a probability")
    return float(value)

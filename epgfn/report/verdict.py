"""The report's first sentence: how far the global posterior is from the exact one, in words that follow from figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from epgfn.comparison import Comparison
from epgfn.report.run import Run
from epgfn.report.text import number

CLOSE_MEAN, CLOSE_MAX = 0.01, 0.10
"""What counts as close: mean and largest error of the edge probabilities."""


@dataclass(frozen=True)
class Verdict:
    """`tone` colours the box; `headline` is one sentence, `detail` the figures behind it (plain text)."""

    tone: Literal["good", "fair", "poor", "open"]
    headline: str
    detail: str


def verdict(run: Run) -> Verdict:
    """What to say first about `run`."""
    comparison = run.comparison
    if comparison is None or comparison.exact_edges is None:
        return _without_truth(run)
    mean, largest = comparison.global_edge_mae, comparison.global_edge_max_error
    null = comparison.null_edge_mae
    tone: Literal["good", "fair", "poor"]
    if mean <= CLOSE_MEAN and largest <= CLOSE_MAX:
        tone, headline = "good", "The global model is close to the exact posterior."
    elif mean <= null / 2:
        tone, headline = "fair", "The global model finds most of the exact posterior, with visible errors."
    elif mean < 0.9 * null:
        tone, headline = "poor", "The global model is far from the exact posterior."
    else:
        tone, headline = "poor", "The global model says no more about the edges than an empty graph would."
    cause, effect, learned, exact = worst_edge(comparison)
    detail = (
        f"Its edge probabilities differ from the exact ones by {number(mean, 4)} on average; an empty graph's differ by {number(null, 4)}. "
        f"The largest error is {number(largest)}, at {cause} → {effect}: learned {number(learned)}, exact {number(exact)}. "
        "The exact posterior is the product of what each node's own records say; no node shared a record."
    )
    return Verdict(tone, headline, detail)


def worst_edge(comparison: Comparison) -> tuple[str, str, float, float]:
    """Cause, effect, learned and exact probability where they differ most. The exact marginals must be known."""
    assert comparison.exact_edges is not None
    errors = np.abs(comparison.global_edges - comparison.exact_edges)
    np.fill_diagonal(errors, -1.0)
    i, j = (int(k) for k in np.unravel_index(errors.argmax(), errors.shape))
    names = comparison.variables
    return names[i], names[j], float(comparison.global_edges[i, j]), float(comparison.exact_edges[i, j])


def _without_truth(run: Run) -> Verdict:
    off_diagonal = ~np.eye(len(run.edges), dtype=bool)
    probable = int((run.edges[off_diagonal] >= 0.5).sum())
    edges = "1 edge is" if probable == 1 else f"{probable} edges are"
    nodes = f"{len(run.aggregated)} of {len(run.uploads)} nodes"
    why = (
        "the exact posterior takes everyone's records, which nobody has"
        if run.comparison is None
        else f"with {len(run.edges)} variables the exact posterior is out of reach"
    )
    if run.study.caution:
        return Verdict(
            "poor",
            f"Do not rely on this result: {run.study.caution}.",
            f"How far off it is is not known here: {why}.",
        )
    return Verdict(
        "open",
        f"{edges} more probable than not in the joint posterior of {nodes}.",
        f"How far these probabilities are from the exact ones is not known here: {why}. "
        "What can be said is under Training and diagnostics.",
    )

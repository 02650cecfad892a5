"""Whether the nodes of a run contradict one another, and who whom: from what the coordinator found of their models' overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from epgfn.run.report.run import Run
from epgfn.run.report.text import number
from epgfn.run.report.words import words_of

MOST_CLAUSES = 4


def contradictions(run: Run) -> list[tuple[str, str]]:
    """Pairs of nodes that contradict one another, as the summary has them; none where it says nothing that can be read."""
    pairs = _overlap(run).get("contradictions")
    if not isinstance(pairs, list):
        return []
    roster = set(run.study.roster)
    good = [
        pair for pair in pairs if isinstance(pair, list) and len(pair) == 2 and set(map(str, pair)) <= roster
    ]
    return [(str(one), str(other)) for one, other in good]


def in_words(pairs: Sequence[tuple[str, str]]) -> str:
    """Who contradicts whom, each pair once: "c contradicts a and b"."""
    nodes = sorted({node for pair in pairs for node in pair})
    if len(nodes) > 2 and len(pairs) == len(nodes) * (len(nodes) - 1) // 2:
        return f"{listed(nodes)} contradict one another"
    left = list(pairs)
    clauses: list[str] = []
    while left and len(clauses) < MOST_CLAUSES:
        node = max(nodes, key=lambda name: sum(name in pair for pair in left))
        others = [one if other == node else other for one, other in left if node in (one, other)]
        clauses.append(f"{node} contradicts {listed(sorted(others))}")
        left = [pair for pair in left if node not in pair]
    more = f", and {len(left)} more pairs" if left else ""
    return "; ".join(clauses) + more


def judged(run: Run) -> bool:
    """Whether the summary says that the nodes' models were compared with one another."""
    return isinstance(_overlap(run).get("verdict"), str)


def detail(run: Run) -> str:
    """What it means, and how much each node would rather have its own objects than those of the global model."""
    words = words_of(run.study)
    found = _overlap(run).get("nodes")
    less = {
        node: row["own"] - row["of_global"]
        for node, row in (found.items() if isinstance(found, dict) else ())
        if isinstance(row, dict)
        and all(isinstance(row.get(key), int | float) for key in ("own", "of_global"))
    }
    said = (
        "What the models of such nodes hold probable has next to nothing in common, so the global model may be sure of "
        f"{words.objects} that none of them believes in. Look for other units, codes of missing values or another population in "
        "their files before anything is made of this result."
    )
    if less:
        figures = ", ".join(f"{node} {number(nats, 1)}" for node, nats in less.items())
        said += f" Nats by which a node's own {words.objects} are more probable to it than the global model's: {figures}."
    return said


def _overlap(run: Run) -> dict[str, Any]:
    diagnostics = run.summary.get("diagnostics")
    found = diagnostics.get("overlap") if isinstance(diagnostics, dict) else None
    return found if isinstance(found, dict) else {}


def listed(names: Sequence[str]) -> str:
    """ "a, b and c" """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

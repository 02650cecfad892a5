"""How far each node moves the result: the part of the report for studies that ask for models without each node.

It is influence and nothing else. A node with many or unusual records moves the posterior as far as one that cheats.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from epgfn.run.layout import GLOBAL, LEAVE_ONE_OUT
from epgfn.run.report import figures
from epgfn.run.report.html import Markup, paragraph, picture, subsection, table
from epgfn.run.report.text import number
from epgfn.run.report.verified import Verified
from epgfn.run.report.words import Words
from epgfn.run.summary import MARGINAL_SAMPLES, distance, noise_of, probabilities_of
from epgfn.study import Study

DRAWN = 50
"""Nodes in the figure; the table has all."""
TOO_FEW = "only one node's model is in the global one, so there is nothing left when it is left out"
NOT_HERE = "a node's copy of the run does not hold the models without a single node, which would tell that node's records"
UNSIGNED = "the summaries of the models without each node are not all signed, or do not verify"


class Change(NamedTuple):
    """What leaving one node out does to the probabilities: mean and largest absolute change, and `at` which edge, clade or other
    question it is largest."""

    mean: float
    largest: float
    at: str


class Influence(NamedTuple):
    """What leaving each node out changes. `skipped` says why that is not known."""

    nodes: dict[str, Change]
    samples: int = 0
    noise: float = 0.0
    skipped: str = ""


def read_influence(verified: Verified, study: Study, nodes: list[str]) -> Influence | None:
    """How far the signed summary of the model without each of `nodes`, which are in the first, is from that of the first; None where the
    study does not ask for such models."""
    if not study.aggregation.leave_one_out:
        return None
    if len(nodes) < 2:
        return Influence({}, skipped=TOO_FEW)
    if verified.audit.about is not None and verified.audit.about.copy_of is not None:
        return Influence({}, skipped=NOT_HERE)
    whole = verified.summary(GLOBAL)
    without = {node: verified.summary(f"{LEAVE_ONE_OUT}/{node}") for node in nodes}
    known = {node: summary for node, summary in without.items() if summary is not None}
    if whole is None or len(known) < len(nodes):
        return Influence({}, skipped=UNSIGNED)
    probabilities = probabilities_of(whole)
    changes = {node: distance(probabilities, probabilities_of(summary)) for node, summary in known.items()}
    return Influence({node: _change(row) for node, row in changes.items()}, MARGINAL_SAMPLES, noise_of(whole))


def draw(influence: Influence, words: Words) -> bytes:
    """The figure, of the nodes that change most where there are many."""
    most = sorted(influence.nodes, key=lambda node: -influence.nodes[node].mean)[:DRAWN]
    nodes = [node for node in influence.nodes if node in most]
    changes = [influence.nodes[node] for node in nodes]
    mean, largest = [c.mean for c in changes], [c.largest for c in changes]
    return figures.influence(nodes, mean, largest, influence.noise, words.probabilities)


def leave_one_out(influence: Influence, png: bytes | None, words: Words) -> Markup:
    """Table and figure of how far each node moves the probabilities."""
    title = "How far each node moves the result"
    if png is None:
        return subsection(title, paragraph(f"Not known: {influence.skipped}."))
    rows = [
        (node, number(change.mean, 4), number(change.largest), change.at)
        for node, change in influence.nodes.items()
    ]
    first = max(influence.nodes, key=lambda node: influence.nodes[node].mean)
    return subsection(
        title,
        paragraph(
            f"The coordinator trained the global model once more without each node, as if that node had been absent. Leaving out {first} "
            f"changes the {words.probabilities} most. This is influence, and not a proof of anything: a node with many records, or "
            "with records of another kind, moves the result as far as one that did not train as agreed. Ask the node before you judge."
        ),
        picture(
            png,
            f"Bars of the mean and of the largest absolute change of {_one(words)} when each node is left out. "
            "The numbers are in the table below.",
            f"Each model's {words.probabilities} are shares among {influence.samples:,} {words.objects}, so that the mean change would be "
            f"about {number(influence.noise, 4)} by chance alone (dashed). Training anew adds some more.",
        ),
        table(
            f"Absolute change of the {words.probabilities}, with and without the node.",
            ["node", "mean change", "largest change", f"at the {words.question}"],
            rows,
            numeric=("mean change", "largest change"),
        ),
        paragraph(
            "The models without one node lie in leave-one-out/ of the run directory. Whoever has one of them and the global model "
            "can work out what that node's records say: treat the directory as you would every node's own model."
        ),
    )


def _change(row: dict[str, Any]) -> Change:
    at = " → ".join(row["edge"]) if "edge" in row else str(row["question"])
    return Change(row["mean"], row["largest"], at)


def _one(words: Words) -> str:
    """ "an edge probability", "a marginal probability"."""
    singular = words.probabilities.replace("probabilities", "probability")
    return f"{'an' if singular[0] in 'aeiou' else 'a'} {singular}"

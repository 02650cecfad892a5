"""Of a study in which nodes lack variables: who lacks what, which pairs nobody has, and all pairs that are in doubt for it."""

from __future__ import annotations

from epgfn.run.report.html import Markup, folded, join, paragraph, table
from epgfn.run.report.run import Run
from epgfn.study.lacks import Pair, doubts, in_words, lacked_by, nobody_saw

JOINED = "through what the node lacks"
INDUCED = "through that and others it has"


def lacking(run: Run) -> Markup | str:
    """Nothing where every node has every variable."""
    study = run.study
    if not study.data.lacks:
        return ""
    unseen = nobody_saw(study, run.aggregated)
    return join(
        part
        for part in (
            paragraph(
                f"Not every node has every variable: {in_words(study)}. A node's records count for the part of a graph that lies over what "
                "it has."
            ),
            paragraph(f"{unseen}.") if unseen else "",
            _doubted(run),
        )
        if part
    )


def _doubted(run: Run) -> Markup | str:
    names = run.study.variable_names
    found = doubts(run.study, run.aggregated)

    def pair(of: Pair) -> str:
        return f"{names[of[0]]} \u2013 {names[of[1]]}"

    rows = [
        (
            pair(of),
            doubt.node,
            ", ".join(lacked_by(run.study, doubt.node)),
            JOINED if of in doubt.joined else INDUCED,
        )
        for doubt in found
        for of in doubt.pairs
    ]
    if not rows:
        return ""
    caption = (
        "Pairs that a node's records may show as dependent, whatever else is taken into account, though no edge joins them. The product of "
        "the nodes' models takes that for an edge."
    )
    count = len({row[0] for row in rows})
    return folded(
        f"The {count} pair{'s' if count > 1 else ''} in doubt",
        table(caption, ("pair", "by the records of", "which lacks", "dependent"), rows),
    )

"""Of graphs: what directions follow from (v-structures), and what follows from directions (who is upstream, Markov blankets)."""

from __future__ import annotations

from typing import Any

from epgfn.run.relations import ANCESTORS, BLANKETS, RELATIONS, V_STRUCTURES, relations_of
from epgfn.run.report.frequent import DRAWN_FROM
from epgfn.run.report.html import Markup, dots, paragraph, subsection, table
from epgfn.run.report.run import Run
from epgfn.run.report.text import number
from epgfn.run.summary import SAMPLES_FROM

LEAST_V_STRUCTURE, MOST_V_STRUCTURES = 0.1, 12
LIKELY = 0.5
"""From where on a variable is named as upstream of another, or as in its Markov blanket."""
MOST_VARIABLES, NAMED = 60, 8


def relations(run: Run) -> dict[str, Any]:
    """What the samples say beyond single edges, as the summary has it or, in a run of before, counted here; empty where none are signed."""
    if not run.counts or not run.study.kind.has_edges:
        return {}
    found: dict[str, Any] = run.summary.get(RELATIONS) or relations_of(run.counts, run.study)
    return found


def colliders(run: Run, least: float = LIKELY) -> list[tuple[str, float]]:
    """v-structures such as "a → c ← b" with at least that share, the most probable first."""
    rows = relations(run).get(V_STRUCTURES, [])
    return [(f"{one} → {middle} ← {other}", share) for one, middle, other, share in rows if share >= least]


def upstream(run: Run) -> Markup | str:
    """Tables of v-structures, and of what is upstream of each variable and in its Markov blanket; empty where no samples are signed."""
    found = relations(run)
    if not found:
        return ""
    basis = DRAWN_FROM.get(str(run.summary.get(SAMPLES_FROM, "samples")), DRAWN_FROM["samples"])
    of = f"Shares of {sum(run.counts.values()):,} signed samples, drawn from {basis}."
    shown = colliders(run, LEAST_V_STRUCTURE)[:MOST_V_STRUCTURES]
    told = (
        table(
            "v-structures: two parents of a variable that are not adjacent to each other. Independences tell directions by these, and by "
            f"what follows from them. {of}",
            ("v-structure", "share", ""),
            [[said, number(share), dots(share)] for said, share in shown],
            numeric=("share",),
        )
        if shown
        else paragraph(
            f"No v-structure, by which independences would tell a direction, has a share of {LEAST_V_STRUCTURE} or more. {of}"
        )
    )
    names = run.study.variable_names
    ancestors, blankets = found[ANCESTORS], found[BLANKETS]
    rows = [
        [name, _named(names, [row[j] for row in ancestors]), _named(names, [row[j] for row in blankets])]
        for j, name in enumerate(names[:MOST_VARIABLES])
    ]
    more = f" The first {MOST_VARIABLES} variables." if len(names) > MOST_VARIABLES else ""
    return subsection(
        "By what directions are told, and what lies upstream",
        told,
        table(
            "Upstream: a directed path leads from there to the variable. Markov blanket: parents, children and other parents of children; "
            f"given these, nothing else tells more of it. Named with a share of {LIKELY} or more.{more} {of}",
            ("variable", "upstream of it", "its Markov blanket"),
            rows,
        ),
    )


def _named(names: list[str], shares: list[float]) -> str:
    likely = sorted((-share, name) for name, share in zip(names, shares, strict=True) if share >= LIKELY)
    said = ", ".join(f"{name} ({number(-share)})" for share, name in likely[:NAMED])
    if len(likely) > NAMED:
        said += f" and {len(likely) - NAMED} more"
    return said or "–"

"""Whether two computations of the same probabilities agree: what is published against the shares among the signed samples.

Chains over graphs are commonly judged by two runs, one against the other; here the two are what the coordinator computed and what it drew.
"""

from __future__ import annotations

import numpy as np

from epgfn.run.report.figures import Array
from epgfn.run.report.frequent import DRAWN_FROM
from epgfn.run.report.html import Markup, drawing, subsection, tag
from epgfn.run.report.run import Run
from epgfn.run.report.text import number
from epgfn.run.samples import adjacency
from epgfn.run.summary import SAMPLES_FROM

SIDE, EDGE = 300.0, 46.0
CHANCE = 4.0
"""Standard errors of a share: of some hundreds of edges the most that chance gives."""


def agreement(run: Run) -> Markup | str:
    """A point an edge, those that nobody holds possible left out; empty where either computation is missing."""
    if run.edges is None or not run.counts or "edge_probabilities" not in run.summary:
        return ""
    graphs = adjacency(list(run.counts), run.study.variable_names, run.study.space.max_parents).numpy()
    weight = np.array(list(run.counts.values()), dtype=np.float64)
    drawn: Array = np.einsum("b,bij->ij", weight / weight.sum(), graphs.astype(np.float64))
    there = np.maximum(drawn, run.edges) >= 1e-3
    if not there.any():
        return ""
    published, shares, n = run.edges[there], drawn[there], int(weight.sum())
    off = np.abs(published - shares)
    spread = np.sqrt(published * (1 - published) / n) + 1 / n
    worst, beyond = float(off.max()), int((off > CHANCE * spread).sum())
    basis = DRAWN_FROM.get(str(run.summary.get(SAMPLES_FROM, "samples")), DRAWN_FROM["samples"])
    said = (
        "no difference is larger than chance makes it"
        if not beyond
        else f"{beyond} differ by more than chance makes them"
    )
    caption = (
        f"A point an edge, {len(off)} of them: across, its published probability; up, its share among the {n:,} signed samples, drawn from "
        f"{basis}. On the line both agree. The largest difference is {number(worst)}; {said} ({CHANCE:.0f} standard errors)."
    )
    parts = [
        tag("rect", x=f"{EDGE:.0f}", y="8", width=f"{SIDE:.0f}", height=f"{SIDE:.0f}", class_="frame"),
        tag("line", x1=f"{EDGE:.0f}", y1=f"{8 + SIDE:.0f}", x2=f"{EDGE + SIDE:.0f}", y2="8", class_="line"),
    ]
    for p in (0.0, 0.5, 1.0):
        x, y = EDGE + SIDE * p, 8 + SIDE * (1 - p)
        parts.append(
            tag(
                "text",
                f"{p:g}",
                x=f"{x:.0f}",
                y=f"{8 + SIDE + 16:.0f}",
                text_anchor="middle",
                class_="axis-label",
            )
        )
        parts.append(
            tag(
                "text",
                f"{p:g}",
                x=f"{EDGE - 6:.0f}",
                y=f"{y + 4:.0f}",
                text_anchor="end",
                class_="axis-label",
            )
        )
    names = run.study.variable_names
    for (i, j), x, y in zip(np.argwhere(there), published, shares, strict=True):
        told = tag("title", f"{names[i]} → {names[j]}: {number(float(x))} and {number(float(y))}")
        at = {"cx": f"{EDGE + SIDE * x:.1f}", "cy": f"{8 + SIDE * (1 - y):.1f}"}
        parts.append(tag("circle", told, r="3.5", class_="point", **at))
    alt = f"Scatter of {len(off)} edges: published probability against share among the samples; the largest difference is {number(worst)}."
    return subsection(
        "Do two computations agree", drawing(EDGE + SIDE + 14, SIDE + 32, alt, parts, caption, least=280)
    )

"""The probabilities of all edges as a heatmap inside the page: readable at fifty variables, sharp at any size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from epgfn.run.directions import adjacent_probabilities
from epgfn.run.report.figures import Array
from epgfn.run.report.html import Markup, drawing, tag
from epgfn.run.report.text import short

SHOWN = 0.005
"""Less probable edges have no cell."""
NUMBERED = 14
"""Up to so many variables each cell has its number, and they stand in the study's order."""
NAME = 16


def heatmap(names: Sequence[str], edges: Array) -> Markup:
    """Of (V, V) `edges`, row = parent, column = child. Of more than `NUMBERED` variables those that are adjacent stand together."""
    order = block_order(edges) if len(names) > NUMBERED else list(range(len(names)))
    v, cell = len(names), 30.0 if len(names) <= NUMBERED else 20.0 if len(names) <= 30 else 15.0
    font = 11.5 if v <= 30 else 10.5
    labels = [short(names[i], NAME) for i in order]
    edge = font * 0.62 * max(map(len, labels)) + 16
    size = edge + cell * v + 2
    parts: list[Markup] = []
    for k, label in enumerate(labels):
        middle = edge + cell * (k + 0.5)
        parts.append(
            tag(
                "text",
                label,
                x=f"{edge - 5:.1f}",
                y=f"{middle + font / 3:.1f}",
                class_="row",
                font_size=str(font),
            )
        )
        turned = f"translate({middle + font / 3:.1f} {edge - 5:.1f}) rotate(-90)"
        parts.append(tag("text", label, transform=turned, class_="column", font_size=str(font)))
        parts.append(_cell(edge, cell, k, k, "self"))
    for k in range(v + 1):
        at, end = edge + cell * k, edge + cell * v
        parts.append(
            tag("path", d=f"M{edge:.1f} {at:.1f}H{end:.1f}M{at:.1f} {edge:.1f}V{end:.1f}", class_="grid")
        )
    for row, i in enumerate(order):
        for column, j in enumerate(order):
            if i == j or edges[i, j] < SHOWN:
                continue
            p = float(edges[i, j])
            told = tag("title", f"{names[i]} → {names[j]}: {p:.3f}")
            parts.append(_cell(edge, cell, row, column, "cell", told, p))
            if v <= NUMBERED:
                x, y = edge + cell * (column + 0.5), edge + cell * (row + 0.5) + 3.5
                text = "1" if p >= 0.995 else f"{p:.2f}"[1:]
                parts.append(
                    tag(
                        "text",
                        text,
                        x=f"{x:.1f}",
                        y=f"{y:.1f}",
                        class_="on" if p > 0.55 else "off",
                        font_size="10",
                    )
                )
    ordered = "" if v <= NUMBERED else " Variables that are adjacent stand together."
    caption = (
        "Row: parent. Column: child. The darker, the more probable, from 0 to 1; the diagonal is grey, "
        f"and empty cells are below {SHOWN}.{ordered}"
    )
    alt = f"Heatmap of the probability of each of the {v * (v - 1)} possible edges. The most probable ones are in the table above."
    return drawing(
        size, size, alt, parts, caption, least=round(size) if v > NUMBERED else min(round(size), 340)
    )


def _cell(
    edge: float, cell: float, row: int, column: int, kind: str, told: Markup | str = "", p: float = 1.0
) -> Markup:
    at = {
        "x": f"{edge + cell * column:.1f}",
        "y": f"{edge + cell * row:.1f}",
        "width": f"{cell:.0f}",
        "height": f"{cell:.0f}",
    }
    faint = {"fill_opacity": f"{0.06 + 0.94 * p:.3f}"} if kind == "cell" else {}
    return tag("rect", told, class_=kind, **at, **faint)


def block_order(edges: Array) -> list[int]:
    """Variables in an order in which those that are probably adjacent are near one another: the leaves of average linkage."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    apart = 1 - np.clip(adjacent_probabilities(edges), 0, 1)
    np.fill_diagonal(apart, 0)
    found: list[int] = leaves_list(
        linkage(squareform(apart, checks=False), "average", optimal_ordering=True)
    ).tolist()
    return found

"""A drawing of the probable edges: variables where a spring model puts them, edges as wide as they are probable."""

from __future__ import annotations

import math
from collections.abc import Sequence

import networkx as nx
import numpy as np

from epgfn.run.pairs import Pair
from epgfn.run.report.figures import Array
from epgfn.run.report.html import Markup, drawing, tag
from epgfn.run.report.text import number, short

LEAST = 0.1
"""Pairs that are less probably adjacent are not drawn."""
MOST = 150
"""Pairs drawn, the most probable ones."""
WIDEST, THINNEST = 6.0, 1.0
NAME = 18
"""Characters of a name that are shown."""
LETTER, HEIGHT, ROW = 7.4, 26.0, 40.0
SHEET = 980.0
"""Pixels: components are laid side by side up to this width."""
MARGIN = 14.0
ARROW = 36.0
"""Pixels between two boxes, about."""
ROOM, WIDER = 1.9, 1.35
"""How much larger a sheet is than all boxes with their gaps, and how much wider than high."""
PUSHES = 300
LEGIBLE = 0.8
"""A drawing is shown at no smaller scale; where the page is narrower it is scrolled."""


def network(names: Sequence[str], pairs: Sequence[Pair]) -> Markup:
    """The drawing, of pairs by name; variables without an edge stand in rows below."""
    drawn = [pair for pair in pairs if pair.adjacent >= LEAST][:MOST]
    wide = {name: LETTER * len(short(name, NAME)) + 18 for name in names}
    at, width, height = _placed(names, drawn, wide)
    told = sum(pair.told for pair in drawn)
    shown = "; ".join(_in_words(pair) for pair in drawn[:12]) or "none"
    alt = (
        f"Drawing of the {len(drawn)} pairs of variables that are adjacent with probability {LEAST} or more, {told} with an arrow: {shown}"
        f"{' and so on' if len(drawn) > 12 else ''}. All numbers are in the table."
    )
    caption = (
        "The wider a line, the more probable that the two are adjacent. Blue, with an arrow: its direction can be told. Orange, dashed: "
        "it cannot, since graphs that imply the same independences have it either way. "
        f"Pairs below {LEAST} are not drawn{f', and of the others the {MOST} most probable ones are' if len(drawn) == MOST else ''}."
    )
    lines = [_edge(pair, at, wide) for pair in reversed(drawn)]
    boxes = [_box(name, *at[name], wide[name]) for name in names]
    return drawing(width, height, alt, [*lines, *boxes], caption, least=round(LEGIBLE * width))


def _in_words(pair: Pair) -> str:
    return f"{pair.parent} {'→' if pair.told else '–'} {pair.child} {number(pair.adjacent)}"


def _box(name: str, x: float, y: float, wide: float) -> Markup:
    box = tag(
        "rect", x=f"{x - wide / 2:.1f}", y=f"{y - HEIGHT / 2:.1f}", width=f"{wide:.1f}", height=f"{HEIGHT:.0f}", rx="6", class_="box"
    )  # fmt: skip
    label = tag("text", short(name, NAME), x=f"{x:.1f}", y=f"{y + 4.5:.1f}", class_="name")
    return tag("g", tag("title", name), box, label)


def _edge(pair: Pair, at: dict[str, tuple[float, float]], wide: dict[str, float]) -> Markup:
    (x0, y0), (x1, y1) = at[pair.parent], at[pair.child]
    thick = THINNEST + (WIDEST - THINNEST) * pair.adjacent
    kind = "told" if pair.told else "open"
    a, b = _border(x0, y0, x1, y1, wide[pair.parent]), _border(x1, y1, x0, y0, wide[pair.child])
    parts = [tag("title", f"{_in_words(pair)}; {pair.parent} → {pair.child} {number(pair.probability)}")]
    if pair.told:
        length = math.hypot(b[0] - a[0], b[1] - a[1]) or 1.0
        ux, uy, head = (b[0] - a[0]) / length, (b[1] - a[1]) / length, min(length, 7 + 1.4 * thick)
        base, half = (b[0] - head * ux, b[1] - head * uy), 3 + 0.8 * thick
        corners = [b, (base[0] - half * uy, base[1] + half * ux), (base[0] + half * uy, base[1] - half * ux)]
        parts.append(tag("polygon", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in corners)))
        b = base
    ends = {"x1": f"{a[0]:.1f}", "y1": f"{a[1]:.1f}", "x2": f"{b[0]:.1f}", "y2": f"{b[1]:.1f}"}
    parts.append(tag("line", stroke_width=f"{thick:.1f}", **ends))
    return tag("g", *parts, class_=kind)


def _border(x0: float, y0: float, x1: float, y1: float, wide: float) -> tuple[float, float]:
    """Where the line from the middle of a box to another leaves it."""
    dx, dy = x1 - x0, y1 - y0
    scale = min(
        (wide / 2 + 2) / abs(dx) if dx else math.inf, (HEIGHT / 2 + 2) / abs(dy) if dy else math.inf, 1.0
    )
    return x0 + scale * dx, y0 + scale * dy


def _placed(
    names: Sequence[str], pairs: Sequence[Pair], wide: dict[str, float]
) -> tuple[dict[str, tuple[float, float]], float, float]:
    """The middle of each variable's box, and the sheet's size; pixels."""
    network = nx.Graph()
    network.add_nodes_from(names)
    network.add_edges_from((pair.parent, pair.child) for pair in pairs)
    groups = sorted(
        nx.connected_components(network),
        key=lambda group: (-len(group), names.index(min(group, key=names.index))),
    )
    at: dict[str, tuple[float, float]] = {}
    x, y, row, right = MARGIN, MARGIN, 0.0, 0.0
    for group in groups:
        members = [name for name in names if name in group]
        places = _component(network, members, pairs, wide)
        halves = np.array([wide[name] / 2 for name in members])
        size = np.array([(places[:, 0] + halves).max(), places[:, 1].max() + HEIGHT / 2])
        if x > MARGIN and x + size[0] > SHEET:
            x, y, row = MARGIN, y + row + ROW - HEIGHT, 0.0
        for name, (px, py) in zip(members, places, strict=True):
            at[name] = (x + float(px), y + float(py))
        x, row = x + float(size[0]) + ROW, max(row, float(size[1]))
        right = max(right, x - ROW)
    return at, right + MARGIN, y + row + MARGIN


def _component(
    network: nx.Graph, members: Sequence[str], pairs: Sequence[Pair], wide: dict[str, float]
) -> Array:
    """(n, 2) middles of boxes that do not overlap, the leftmost and topmost edge at 0; arrows point down on average."""
    halves = np.array([wide[name] / 2 for name in members])
    if len(members) == 1:
        return np.array([[halves[0], HEIGHT / 2]])
    part = network.subgraph(members)
    start = {
        name: (math.cos(2 * math.pi * k / len(members)), math.sin(2 * math.pi * k / len(members))) for k, name in enumerate(members)
    }  # fmt: skip
    found = (
        nx.kamada_kawai_layout(part, pos=start)
        if len(members) > 2
        else {members[0]: (0.0, 0.0), members[1]: (0.0, 1.0)}
    )
    places = np.array([found[name] for name in members], dtype=np.float64)
    where = {name: k for k, name in enumerate(members)}
    arrows = [places[where[p.child]] - places[where[p.parent]] for p in pairs if p.told and p.parent in where]
    if arrows:
        dx, dy = np.sum(arrows, axis=0)
        turn = math.atan2(dx, dy)
        places = places @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]).T
    places = _apart(places, halves)
    places[:, 0] -= (places[:, 0] - halves).min()
    places[:, 1] -= places[:, 1].min() - HEIGHT / 2
    return places


def _apart(places: Array, halves: Array) -> Array:
    """`places`, of any unit, in pixels, on a sheet that is wider than high and has room for all boxes; boxes that overlap are pushed apart,
    along whichever axis takes less."""
    wide, high = halves[:, None] + halves[None] + ARROW, HEIGHT + ARROW
    area = ROOM * float(np.sum((2 * halves + ARROW) * high))
    extent = np.maximum(places.max(0) - places.min(0), 1e-6)
    height = math.sqrt(area / WIDER)
    # A component that is a line stays one: across and down are scaled alike but for the sheet's form.
    scale = (
        max(WIDER * height / extent[0], height / extent[1])
        if min(extent) < 1e-3
        else math.sqrt(area / (extent[0] * extent[1]))
    )
    at: Array = places * min(scale, max(WIDER * height / extent[0], height / extent[1]))
    for _ in range(PUSHES):
        gap = at[:, None] - at[None]
        short_x, short_y = wide - np.abs(gap[..., 0]), high - np.abs(gap[..., 1])
        over = (short_x > 1e-6) & (short_y > 1e-6) & ~np.eye(len(at), dtype=bool)
        if not over.any():
            break
        by_x = short_x < short_y
        towards = np.where(
            gap == 0, np.sign(np.arange(len(at))[:, None] - np.arange(len(at)))[..., None], np.sign(gap)
        )
        at = at + np.stack(
            [
                (0.3 * short_x * towards[..., 0] * (over & by_x)).sum(1),
                (0.3 * short_y * towards[..., 1] * (over & ~by_x)).sum(1),
            ],
            -1,
        )
    return at

"""The figure of marginal probabilities: bars in panels, one a variable, item or place, or one list of clades."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from epgfn.run.report.figures import GLOBAL_COLOUR, GRID, INK, LOCAL_COLOUR, sheet_of
from epgfn.run.report.text import short
from epgfn.study import Study

PANELS, COLUMNS = 24, 4
CLADES, SMALLEST = 24, 1e-3
TICKS = 12


class Group(NamedTuple):
    """Questions of one panel: `names` as the marginals have them, `labels` as the axis shows them."""

    title: str
    names: list[str]
    labels: list[str]


def groups_of(study: Study, marginals: Mapping[str, float]) -> list[Group]:
    """The panels, at most `PANELS`; of more, those with the highest probabilities."""
    prefixes = study.kind.panels(study)
    if prefixes is None:
        ordered = sorted(marginals, key=lambda name: (-marginals[name], name))
        names = [name for name in ordered if marginals[name] >= SMALLEST][:CLADES] or ordered[:1]
        return [Group("", names, names)]
    longest = sorted(prefixes, key=len, reverse=True)
    found: dict[str, list[str]] = {prefix: [] for prefix in prefixes}
    for name in marginals:
        prefix = next((p for p in longest if name.startswith(p)), None)
        if prefix is not None:
            found[prefix].append(name)
    kept = [prefix for prefix in prefixes if found[prefix]]
    most = sorted(kept, key=lambda p: -sum(marginals[name] for name in found[p]))[:PANELS]
    return [_group(prefixes[prefix], prefix, found[prefix]) for prefix in kept if prefix in most]


def draw(
    groups: Sequence[Group],
    learned: Mapping[str, float],
    exact: Mapping[str, float] | None = None,
    local: Sequence[Mapping[str, float]] = (),
) -> bytes:
    """Bars of `learned`, a line across each at the exact probability, a dot for each node's own model; a PNG."""
    lying = len(groups) == 1 and not groups[0].title
    columns = min(COLUMNS, len(groups))
    rows = math.ceil(len(groups) / columns)
    size = (10.0, 1.2 + 0.27 * len(groups[0].names)) if lying else (12.4, 0.6 + 2.2 * rows)
    with sheet_of(*size) as sheet:
        axes = sheet.figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, group in zip(axes, groups, strict=False):
            _panel(axis, group, learned, exact, local, lying)
        for unused in axes[len(groups) :]:
            unused.set_axis_off()
        handles, labels = axes[0].get_legend_handles_labels()
        if len(handles) > 1:
            sheet.figure.legend(
                handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5
            )
    return sheet.png


def _panel(
    axis: Axes,
    group: Group,
    learned: Mapping[str, float],
    exact: Mapping[str, float] | None,
    local: Sequence[Mapping[str, float]],
    lying: bool,
) -> None:
    at = np.arange(len(group.names))
    heights = [learned.get(name, 0.0) for name in group.names]
    bar = axis.barh if lying else axis.bar
    bar(at, heights, 0.72, color=GLOBAL_COLOUR, alpha=0.85, label="global model")
    for number, of in enumerate(local):
        values = [of.get(name, 0.0) for name in group.names]
        x, y = (values, at) if lying else (at, values)
        label = "each node's own model" if number == 0 else "_"
        axis.plot(x, y, "o", color=LOCAL_COLOUR, markersize=3.2, alpha=0.8, label=label)
    if exact is not None:
        values = [exact.get(name, 0.0) for name in group.names]
        x, y = (values, at) if lying else (at, values)
        marker, size = ("|", 9) if lying else ("_", max(4.0, min(18.0, 150 / len(at))))
        axis.plot(
            x, y, marker, color=INK, markersize=size, markeredgewidth=1.6, label="exact", linestyle="none"
        )
    every = 1 if lying else math.ceil(len(at) / TICKS)
    ticks, labels = at[::every], [short(label, 40 if lying else 9) for label in group.labels[::every]]
    if lying:
        axis.set_yticks(ticks, labels)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.01)
        axis.grid(axis="x", color=GRID, linewidth=0.7)
        axis.set_xlabel("probability")
    else:
        axis.set_xticks(ticks, labels, rotation=90 if max(map(len, labels)) > 4 else 0)
        axis.set_ylim(0, 1.03)
        axis.grid(axis="y", color=GRID, linewidth=0.7)
        axis.set_title(short(group.title, 26))
    axis.set_axisbelow(True)
    axis.tick_params(length=0)


def _group(title: str, prefix: str, names: list[str]) -> Group:
    sign = "≥ " if prefix.endswith(">= ") else ""
    return Group(title, names, [sign + name.removeprefix(prefix) for name in names])

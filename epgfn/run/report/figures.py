"""The report's figures, as pure functions from arrays to PNG bytes.

One scale of blues for every probability, so that panels can be compared by eye; names are shown as text, never as mathematics.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullFormatter

from epgfn.run.report.text import short

Array = npt.NDArray[np.float64]

INK, MUTED, GRID = "#1d2733", "#5b6775", "#dfe4ea"
GLOBAL_COLOUR, LOCAL_COLOUR = "#0b4f8a", "#b0620e"  # apart in hue and in lightness
# Line colours after Okabe and Ito, told apart by people with any colour vision; dashes tell them apart in grey.
LINES = ("#b0620e", "#00795a", "#9c4a7c", "#5a6b00", "#7a4a1e", "#3f3f8f", "#8a6d00", "#555555")
DASHES = ("-", "--", "-.", ":")
PANELS = 4  # nodes a row
PNG_DPI = 160  # sharp on paper and on fine screens
ANNOTATED = 14  # up to so many variables each cell shows its number
LABELLED = 64  # up to so many variables each row has its name
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,  # a variable may be called $x
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}


def edge_marginals(
    variables: Sequence[str],
    learned: Array,
    exact: Array | None = None,
    local: Mapping[str, Array] | None = None,
) -> bytes:
    """Heatmaps of (V, V) edge probabilities, row = parent, column = child.

    First row: the global model and, if known, the exact posterior and learned - exact. Then one panel a node, four in a
    row. The diagonal is crossed out: no variable is its own parent.
    """
    rows = math.ceil(len(local or {}) / PANELS)
    if exact is None and not rows:
        with sheet_of(6.6, 5.6) as sheet:
            _head(sheet.figure, 1, variables, learned, None)
        return sheet.png
    with sheet_of(12.4, 3.9 + 3.35 * rows) as sheet:
        if rows:
            parts = sheet.figure.subfigures(2, 1, squeeze=False, height_ratios=[3.9, 3.35 * rows]).ravel()
            _head(parts[0], 3, variables, learned, exact)
            _node_panels(parts[1], rows, variables, local or {})
        else:
            _head(sheet.figure, 3, variables, learned, exact)
    return sheet.png


class Pooled(NamedTuple):
    """Pooled scores (nats) of the graphs of one model, and how many edges its graphs have on average."""

    label: str
    scores: Array
    edges: float


def pooled_scores(learned: Pooled, local: Sequence[Pooled]) -> bytes:
    """The distribution of pooled Score(G) of graphs drawn from each model: one histogram a row, a line at its median."""
    series = [(learned, GLOBAL_COLOUR), *((model, LOCAL_COLOUR) for model in reversed(local))]  # from below
    values = np.concatenate([model.scores for model, _ in series])
    low, high = float(values.min()), float(values.max())
    margin = 0.02 * (high - low) or 1.0
    bins = np.linspace(low - margin, high + margin, 91)
    with sheet_of(10.0, 1.1 + 0.62 * len(series)) as sheet:
        axis = sheet.figure.subplots()
        for row, (model, colour) in enumerate(series):
            counts, _ = np.histogram(model.scores, bins)
            heights = 0.82 * counts / max(1, counts.max())
            axis.bar(bins[:-1], heights, np.diff(bins), bottom=row, align="edge", color=colour, alpha=0.85)
            middle = float(np.median(model.scores))
            axis.plot([middle, middle], [row, row + 0.9], color=INK, linewidth=1.4)
            median = f"median {middle:,.1f}, {model.edges:.1f} edges".replace("-", "−")
            axis.text(
                1.01, row + 0.3, median, transform=axis.get_yaxis_transform(), color=MUTED, fontsize=8.5
            )
            axis.axhline(row, color=GRID, linewidth=0.8, zorder=0)
        axis.set_yticks(
            [row + 0.3 for row in range(len(series))], [short(model.label, 26) for model, _ in series]
        )
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(0, len(series) + 0.1)
        axis.spines["left"].set_visible(False)
        axis.xaxis.set_major_locator(MaxNLocator(7))
        axis.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}".replace("-", "−"))
        axis.set_xlabel("Score(G) on the pooled records, nats (further right fits better)")
    return sheet.png


def training_curves(
    history: Sequence[Mapping[str, Any]], local: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
) -> bytes:
    """Loss (nats squared, logarithmic) and effective share of the batch (0 to 1) against the step, global model and each local one."""
    curves = [(short(node, 26), list(steps), LINES[i % len(LINES)], DASHES[i // len(LINES) % len(DASHES)], 1.3)
              for i, (node, steps) in enumerate((local or {}).items())]  # fmt: skip
    curves.append(("global", list(history), GLOBAL_COLOUR, "-", 2.4))
    shown = [("loss", "Loss (nats²)", True), ("ess", "Effective share of the batch", False)]
    shown = [item for item in shown if any(len(_points(steps, item[0])[0]) for _, steps, *_ in curves)]
    with sheet_of(10.0, 3.4) as sheet:
        axes = sheet.figure.subplots(1, max(1, len(shown)), squeeze=False).ravel()
        for axis, (key, title, logarithmic) in zip(axes, shown, strict=False):
            for label, steps, colour, dash, width in curves:
                x, y = _points(steps, key, positive=logarithmic)
                if len(x):
                    axis.plot(x, y, dash, color=colour, linewidth=width, label=label)
            if logarithmic:
                axis.set_yscale("log")
                axis.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
                axis.yaxis.set_minor_formatter(NullFormatter())
            else:
                axis.set_ylim(0, 1)
            axis.set_title(title)
            axis.set_xlabel("step")
            axis.grid(color=GRID, linewidth=0.7)
            axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if len(curves) > 1:
            handles, labels = axes[0].get_legend_handles_labels()
            sheet.figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8.5)
    return sheet.png


def influence(
    nodes: Sequence[str],
    mean: Sequence[float],
    largest: Sequence[float],
    noise: float,
    probabilities: str = "edge probabilities",
) -> bytes:
    """How far each node moves the `probabilities`, one row a node: the mean change, with a dashed line where drawing objects
    alone would put it, and the largest."""
    titles = (
        ("Mean over edges", "Largest of an edge") if probabilities.startswith("edge") else ("Mean", "Largest")
    )
    rows = np.arange(len(nodes))[::-1]
    with sheet_of(10.0, 1.3 + 0.34 * len(nodes)) as sheet:
        axes = sheet.figure.subplots(1, 2, sharey=True)
        panels = ((mean, GLOBAL_COLOUR, titles[0]), (largest, LOCAL_COLOUR, titles[1]))
        for axis, (values, colour, title) in zip(axes, panels, strict=True):
            axis.barh(rows, values, height=0.6, color=colour, alpha=0.85)
            axis.set_xlim(0, max(1e-3, 1.06 * max([noise, *values])))
            axis.set_ylim(-0.7, len(nodes) - 0.3)
            axis.set_title(title)
            axis.grid(axis="x", color=GRID, linewidth=0.7)
            axis.set_axisbelow(True)
            axis.tick_params(axis="y", length=0)
        axes[0].axvline(noise, color=INK, linestyle="--", linewidth=1.2)
        axes[0].set_yticks(rows, [short(node, 26) for node in nodes])
        sheet.figure.supxlabel(
            f"change of the {probabilities} when the node is left out", fontsize=9, color=INK
        )
    return sheet.png


def has_points(history: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a history has a loss to plot."""
    return bool(len(_points(history, "loss", positive=True)[0]))


def _points(steps: Sequence[Mapping[str, Any]], key: str, positive: bool = False) -> tuple[Array, Array]:
    pairs = [(row.get("step", i), row.get(key)) for i, row in enumerate(steps)]
    kept = [
        (float(x), float(y)) for x, y in pairs
        if isinstance(x, int | float) and isinstance(y, int | float) and math.isfinite(y) and (y > 0 or not positive)
    ]  # fmt: skip
    array = np.array(kept, dtype=np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _head(
    figure: FigureBase, columns: int, variables: Sequence[str], learned: Array, exact: Array | None
) -> None:
    """The first row: what the study found and, where known, what is true."""
    axes = figure.subplots(1, columns, squeeze=False).ravel()
    panels = [(learned, "Global model")] + ([] if exact is None else [(exact, "Exact posterior")])
    for axis, (matrix, title) in zip(axes, panels, strict=False):
        _bar(figure, axis, _heatmap(axis, variables, matrix, title, annotate=True))
    if exact is not None:
        _bar(figure, axes[2], _difference(axes[2], variables, learned - exact))
    for unused in axes[1 if exact is None else 3 :]:
        unused.set_axis_off()


def _node_panels(figure: FigureBase, rows: int, variables: Sequence[str], local: Mapping[str, Array]) -> None:
    axes = figure.subplots(rows, PANELS, squeeze=False).ravel()
    for axis, (node, matrix) in zip(axes, local.items(), strict=False):
        _heatmap(axis, variables, matrix, short(node, 26), annotate=False)
    for unused in axes[len(local) :]:
        unused.set_axis_off()


def _heatmap(axis: Axes, variables: Sequence[str], matrix: Array, title: str, *, annotate: bool) -> AxesImage:
    shown = np.ma.masked_array(matrix, np.eye(len(matrix), dtype=bool))
    image = axis.imshow(shown, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    _frame(axis, variables, title, labelled=annotate)
    if annotate and len(variables) <= ANNOTATED:
        for (i, j), p in np.ndenumerate(matrix):
            if i != j and p >= 0.005:
                text = "1" if p >= 0.995 else f"{p:.2f}"[1:]
                colour = "white" if p > 0.55 else INK
                axis.text(j, i, text, ha="center", va="center", fontsize=6.6, color=colour)
    return image


def _difference(axis: Axes, variables: Sequence[str], difference: Array) -> AxesImage:
    diagonal = np.eye(len(difference), dtype=bool)
    bound = max(0.01, float(np.abs(difference[~diagonal]).max()))
    shown = np.ma.masked_array(difference, diagonal)
    image = axis.imshow(shown, cmap="PuOr", vmin=-bound, vmax=bound, interpolation="nearest")
    _frame(axis, variables, "Learned − exact (own scale)", labelled=True)
    return image


def _frame(axis: Axes, variables: Sequence[str], title: str, *, labelled: bool) -> None:
    count = len(variables)
    for i in range(count):
        axis.add_patch(
            Rectangle(
                (i - 0.5, i - 0.5), 1, 1, facecolor="#eef1f4", edgecolor="#c8d0d9", hatch="///", linewidth=0
            )
        )
    if count <= LABELLED:
        size = max(4.5, min(8.5, 95.0 / count))
        names = [short(name, 12) for name in variables]
        axis.set_xticks(range(count), names, rotation=90, fontsize=size)
        axis.set_yticks(range(count), names, fontsize=size)
    axis.tick_params(length=0)
    if labelled:
        axis.set_xlabel("child", color=MUTED)
        axis.set_ylabel("parent", color=MUTED)
    axis.set_title(title)
    for spine in axis.spines.values():
        spine.set_visible(True)


def _bar(figure: FigureBase, axis: Axes, image: AxesImage) -> None:
    bar = figure.colorbar(image, ax=axis, fraction=0.045, pad=0.02, shrink=0.8)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=7.5)


@dataclass
class Sheet:
    """A figure to draw on; `png` is there once its `with` block has ended."""

    figure: Figure
    png: bytes = b""


@contextmanager
def sheet_of(width: float, height: float) -> Iterator[Sheet]:
    """A sheet of `width` x `height` inches; the same drawing gives the same bytes."""
    # A name in a script the font lacks is drawn as boxes; that is no reason to warn the user.
    with matplotlib.rc_context(), warnings.catch_warnings():
        # Whatever the user's matplotlibrc or an earlier line of their program says, the page is the same.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        warnings.filterwarnings("ignore", message="Glyph")
        sheet = Sheet(Figure(figsize=(width, height), dpi=PNG_DPI, layout="constrained"))
        FigureCanvasAgg(sheet.figure)
        yield sheet
        sink = io.BytesIO()
        sheet.figure.savefig(sink, format="png", metadata={"Software": None})
        sheet.png = sink.getvalue()

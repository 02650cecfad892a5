"""The section on what was found where the objects are not graphs: the most probable ones, the marginals, the nodes' errors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from epgfn.run.comparison.objects import ObjectComparison, TopObject
from epgfn.run.layout import COMPARISON
from epgfn.run.report import marginals
from epgfn.run.report.found import Found
from epgfn.run.report.html import Markup, dots, paragraph, picture, subsection, table, tag
from epgfn.run.report.text import number, plain, signed
from epgfn.run.report.words import Words, words_of
from epgfn.study import Study

LEAST, MOST = 3, 40
CERTAIN = 5e-4
"""Marginals this near to 0 or 1 are left out of the table."""


def draw(study: Study, found: Found) -> bytes:
    """The figure of the marginals."""
    comparison = found.comparison
    exact = comparison.exact_marginals if comparison is not None else None
    local = list(comparison.local_marginals.values()) if comparison is not None else []
    return marginals.draw(marginals.groups_of(study, found.marginals), found.marginals, exact, local)


def objects(study: Study, found: Found, png: bytes | None, drawings: Markup | str = "") -> Markup:
    """`drawings` of them, the most probable objects, and marginals."""
    words = words_of(study)
    shown = "the global model"
    if found.comparison is not None:
        exact = ", the exact posterior" if found.comparison.is_exact else ""
        shown = f"the global model{exact} and each node's own model"
    groups = marginals.groups_of(study, found.marginals) if found.marginals else []
    drawn = sum(len(group.names) for group in groups)
    caption = f"Probability of each {words.question}."
    if drawn < len(found.marginals):
        caption += f" {drawn} of {len(found.marginals)} are drawn."
    if found.comparison is not None:
        caption += f" Only the global model's are what the round found; all others are the simulation's, from {COMPARISON}."
    return subsection(
        f"Which {words.objects} are probable",
        drawings,
        _top_table(found, words),
        picture(
            png,
            f"Bars of the probability of each {words.question}: {shown}. Numbers are in the table below.",
            caption,
        )
        if png is not None
        else "",
        _marginal_table(found, words) if found.marginals else "",
    )


def beside_the_exact(study: Study, found: Found) -> Markup | str:
    """Of a simulation that knows the truth, each node's distance from its own; empty elsewhere."""
    if found.comparison is None or not found.comparison.is_exact:
        return ""
    return subsection("Beside the exact posterior", _local_table(found.comparison, words_of(study)))


def shown_of(top: Sequence[TopObject]) -> list[TopObject]:
    """Those that are not as good as impossible, and at least three."""
    open_ = [row for row in top if max(row.learned, 0.0 if math.isnan(row.exact) else row.exact) >= CERTAIN]
    return open_ if len(open_) >= LEAST else list(top[:LEAST])


def _top_table(found: Found, words: Words) -> Markup:
    if not found.top:
        return paragraph(f"No signed samples of {words.objects} are in the run directory.")
    exact = found.comparison is not None and found.comparison.is_exact
    head = [
        words.one,
        "probability" if found.published else "share of samples",
        "",
        *(["exact", "difference"] if exact else []),
    ]
    rows = []
    shown = shown_of(found.top)
    for text, learned, truth in shown:
        row: list[object] = [tag("span", text or "(empty)", class_="hash"), number(learned), dots(learned)]
        known = not math.isnan(truth)
        rows.append([*row, *([number(truth), signed(learned - truth) if known else "–"] if exact else [])])
    share = sum(row.learned for row in shown)
    caption = f"The {len(shown)} that show most often among {found.sampled:,} signed samples; together they have {number(share)}."
    if found.published:
        caption = f"The {len(shown)} most probable, as published with the marginals; together they have {number(share)}."
    if exact:
        caption += f" Exact probabilities are the simulation's, from {COMPARISON}."
    return table(caption, head, rows, numeric=(head[1], "exact", "difference"))


def _marginal_table(found: Found, words: Words) -> Markup:
    learned = found.marginals
    truth = found.comparison.exact_marginals if found.comparison is not None else None
    exact = truth or {}
    open_ = [name for name in {**learned, **exact} if _is_open(learned, name) or _is_open(exact, name)]
    open_.sort(key=lambda name: (-learned.get(name, 0.0), name))
    head = [words.question, "probability", "", *(["exact", "difference"] if exact else [])]
    rows = []
    for name in open_[:MOST]:
        p = learned.get(name, 0.0)
        row: list[object] = [plain(name), number(p), dots(p)]
        if exact:
            row += [number(exact.get(name, 0.0)), signed(p - exact.get(name, 0.0))]
        rows.append(row)
    certain = len({**learned, **exact}) - len(open_)
    if not open_:
        return paragraph(f"All {certain} marginals are 0 or 1 within {CERTAIN}.")
    caption = f"The {len(rows)} most probable of {len(open_)} marginals"
    caption += f"; {certain} more, which are 0 or 1 within {CERTAIN}, are left out." if certain else "."
    return table(caption, head, rows, numeric=("probability", "exact", "difference"))


def _is_open(marginals: dict[str, float], name: str) -> bool:
    return CERTAIN < marginals.get(name, 0.0) < 1 - CERTAIN


def _local_table(comparison: ObjectComparison, words: Words) -> Markup:
    mean, largest = comparison.local_marginal_mae, comparison.local_marginal_max_error
    rows = [
        (node, number(distance, 4), number(mean.get(node), 4), number(largest.get(node)))
        for node, distance in comparison.local_l1.items()
    ]
    caption = (
        "Each node's model against the exact posterior of that node's own records. L1 is the sum of the absolute errors of the "
        f"probabilities of all {words.objects}, 0 to 2. Errors of the local models add up in the product."
    )
    head = ["node", "L1", "mean error of a marginal", "largest"]
    return table(caption, head, rows, numeric=head[1:])

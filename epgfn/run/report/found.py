"""What a run found about objects other than graphs: marginals, the most probable objects, and the comparison if there is one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from epgfn.run.comparison.objects import TOP, Marginals, ObjectComparison, TopObject, read_marginals
from epgfn.run.summary import top_of
from epgfn.study import Study


@dataclass(frozen=True)
class Found:
    """`marginals`, empty where none are signed. `top`: the most probable objects, as they are `published`, or else what shows most often
    among the `sampled` samples; exact probabilities are NaN where nobody knows them."""

    marginals: Marginals
    top: list[TopObject]
    sampled: int
    comparison: ObjectComparison | None = None
    published: bool = False


def read_found(
    study: Study,
    summary: Mapping[str, Any] | None,
    counts: Mapping[str, int],
    comparison: ObjectComparison | None,
) -> Found | None:
    """From the signed summary and the signed samples, `counts` by text, as far as there are any; None for a study of graphs. The exact
    probabilities of objects are those of the comparison."""
    if study.kind.has_edges:
        return None
    marginals = {} if summary is None else read_marginals(summary["marginals"])
    top, sampled = most_frequent(counts)
    published = {} if summary is None else top_of(summary)
    if published:
        top = [TopObject(text, p, math.nan) for text, p in published.items()]
    exact = {row.text: row.exact for row in comparison.top} if comparison is not None else {}
    return Found(
        marginals,
        [row._replace(exact=exact.get(row.text, math.nan)) for row in top],
        sampled,
        comparison,
        bool(published),
    )


def most_frequent(counts: Mapping[str, int], count: int = TOP) -> tuple[list[TopObject], int]:
    """The objects that are most often among samples, with their shares, and how many samples there are."""
    rows = sum(counts.values())
    pairs = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [TopObject(text, n / rows, math.nan) for text, n in pairs[:count]], rows

"""What one set of parameters for all sites makes of the result, beside the product in which each site has its own."""

from __future__ import annotations

from typing import Any, Final

from epgfn.run.report.html import Markup, paragraph
from epgfn.run.report.run import Run
from epgfn.run.report.text import number, plain
from epgfn.study.parameters import is_masked, is_shared, why_no_effects

MUCH: Final = 0.05
"""Of a variable's variance between the sites' means: more than that is told."""


def parameters(run: Run) -> Markup | str:
    """A paragraph of a study in which all sites share their parameters, as far as the summary says something that can be read."""
    if not is_shared(run.study):
        return ""
    found = _found(run)
    said = (
        "All sites' records are taken for one population with one set of coefficients (target.parameters = 'shared'): each node sent a "
        "statistic of its records, sealed with its model, and what is published is the posterior of all records together, from their sum."
    )
    if is_masked(run.study):
        said = (
            "All sites' records are taken for one population with one set of coefficients (target.parameters = 'shared'), and sums are "
            "masked: each node sent a statistic of its records under masks that cancel in the sum, so the coordinator read the total "
            "alone, which lies beside the model. What is published is the posterior of all records together. How far the sites lie apart "
            "nobody can see."
        )
    if not why_no_effects(run.study) and found.get("statistic"):
        said += (
            " What would change in one variable if another were raised by one: epgfn effects says it of this run, from the sum that "
            "summary.json holds."
        )
    mean, largest = found.get("mean_difference"), found.get("largest_difference")
    if isinstance(mean, float) and isinstance(largest, float):
        said += (
            " If every site had coefficients of its own, which is another question, the probability of an edge would differ by "
            f"{number(mean, 3)} on average and {number(largest, 2)} at most ({plain(found.get('largest_at'))}); summary.json has both."
        )
    between = found.get("between")
    rows = between.items() if isinstance(between, dict) else ()
    far = [(name, share) for name, share in rows if isinstance(share, float) and share > MUCH]
    if far:
        listed = ", ".join(
            f"{plain(name)} {100 * share:.0f} %" for name, share in sorted(far, key=lambda one: -one[1])
        )
        said += (
            f" Much of the variance of some variables lies between the sites' means ({listed}): where that comes from another instrument, "
            "or from how patients were chosen, it makes edges of nothing; target.parameters = 'own' leaves it out."
        )
    return paragraph(said)


def _found(run: Run) -> dict[str, Any]:
    diagnostics = run.summary.get("diagnostics")
    found = diagnostics.get("parameters") if isinstance(diagnostics, dict) else None
    return found if isinstance(found, dict) else {}

"""The report's first sentences: what was found, and how far it is to be believed, in words that follow from figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from epgfn.run.comparison.graphs import Array, Comparison
from epgfn.run.comparison.objects import ObjectComparison
from epgfn.run.directions import adjacent_probabilities
from epgfn.run.report.disagreement import contradictions, in_words
from epgfn.run.report.disagreement import detail as of_contradictions
from epgfn.run.report.found import Found
from epgfn.run.report.run import Run
from epgfn.run.report.text import number
from epgfn.run.report.trusted import trusted
from epgfn.run.report.words import words_of
from epgfn.study.lacks import caveat
from epgfn.study.parameters import is_shared

CLOSE_MEAN, CLOSE_MAX = 0.01, 0.10
"""What counts as close: mean and largest error of the edge probabilities."""
SHOWN_PAIRS = 3
"""Pairs that a headline names."""
CLOSE_L1 = 0.05
"""The same of other objects: no event's probability is off by more than half of it."""


@dataclass(frozen=True)
class Verdict:
    """`tone` colours the box; `headline` is one sentence, `found` more of what was found, `detail` how far it is to be believed (plain
    text)."""

    tone: Literal["good", "fair", "poor", "open"]
    headline: str
    detail: str
    found: str = ""


def verdict(run: Run) -> Verdict:
    """What to say first about `run`, from what was signed."""
    if not run.has_result:
        headline = (
            "This run does not verify, and none of its results is shown."
            if run.failures
            else "There is no result."
        )
        return Verdict("poor" if run.failures else "open", headline, " ".join(run.left_out))
    said, pairs = _with_caveat(run, _of_model(run)), contradictions(run)
    if pairs:
        headline = f"The nodes do not agree: {in_words(pairs)}. {said.headline}"
        said = Verdict("poor", headline, f"{of_contradictions(run)} {said.detail}", said.found)
    if run.failures:
        return Verdict(
            "poor", "Do not rely on this run: its audit fails.", said.detail, f"{said.headline} {said.found}"
        )
    return said


def _of_model(run: Run) -> Verdict:
    return _of_graphs(run) if run.found is None else _of_objects(run, run.found)


def _with_caveat(run: Run, said: Verdict) -> Verdict:
    """What a study accepts that may make any figure wrong comes first, and nothing is good then."""
    if not (why := caveat(run.study, run.aggregated)):
        return said
    tone = "fair" if said.tone == "good" else said.tone
    return Verdict(tone, f"{why}.", said.detail, f"{said.headline} {said.found}".strip())


def compared(run: Run) -> Verdict | None:
    """How far the global model is from the exact posterior, by a simulation, which held all records; None where there was none."""
    if run.found is not None:
        return _objects_compared(run, run.found)
    comparison = run.comparison
    if comparison is None or comparison.exact_edges is None:
        return None
    assert run.edges is not None
    mean, largest = comparison.against_exact(run.edges)
    null = comparison.null_edge_mae
    tone: Literal["good", "fair", "poor"]
    if mean <= CLOSE_MEAN and largest <= CLOSE_MAX:
        tone, headline = "good", "The published probabilities are close to the exact posterior."
    elif mean <= null / 2:
        tone, headline = (
            "fair",
            "The published probabilities hold most of the exact posterior, with visible errors.",
        )
    elif mean < 0.9 * null:
        tone, headline = "poor", "The published probabilities are far from the exact posterior."
    else:
        tone, headline = (
            "poor",
            "The published probabilities say no more about the edges than an empty graph would.",
        )
    parent, child, learned, exact = worst_edge(run.edges, comparison)
    of = (
        "that of all records together"
        if is_shared(run.study)
        else "the product of what each node's own records say"
    )
    detail = (
        f"The published edge probabilities differ from the exact ones by {number(mean, 4)} on average; an empty graph's differ by "
        f"{number(null, 4)}. Their largest error is {number(largest)}, at {parent} → {child}: published {number(learned)}, exact "
        f"{number(exact)}. {samples_in_words(comparison)} differ by {number(comparison.global_edge_mae, 4)} on average and "
        f"{number(comparison.global_edge_max_error)} at most. "
        f"The exact posterior is {of}; no node shared a record."
    )
    return Verdict(tone, headline, detail)


def _finding(run: Run) -> str:
    """Which variables are adjacent more probably than not, the surest first, and for how many the direction can be told."""
    assert run.edges is not None
    adjacent, names = adjacent_probabilities(run.edges), run.study.variable_names
    pairs = [(i, j) for i in range(len(names)) for j in range(i) if adjacent[i, j] >= 0.5]
    if not pairs:
        return "No two variables are more probably adjacent than not."
    pairs.sort(key=lambda ij: (-adjacent[ij], ij))
    shown = ", ".join(
        f"{names[j]} – {names[i]} ({number(float(adjacent[i, j]))})" for i, j in pairs[:SHOWN_PAIRS]
    )
    more = f", and {len(pairs) - SHOWN_PAIRS} more pairs" if len(pairs) > SHOWN_PAIRS else ""
    told = ""
    if run.compelled is not None:
        directed = sum(max(run.compelled[i, j], run.compelled[j, i]) >= 0.5 for i, j in pairs)
        whatever = (
            "" if run.study.design.column is None else " even without the rows in which variables were set"
        )
        told = f"; the direction can be told for {directed} of {len(pairs)}{whatever}"
    return f"More probably adjacent than not: {shown}{more}{told}."


def _objects_compared(run: Run, found: Found) -> Verdict | None:
    comparison = found.comparison
    if comparison is None or not comparison.is_exact:
        return None
    words = words_of(run.study)
    distance, null = comparison.global_l1, comparison.uniform_l1
    tone: Literal["good", "fair", "poor"]
    if distance <= CLOSE_L1:
        tone, headline = "good", "The global model is close to the exact posterior."
    elif distance <= null / 2:
        tone, headline = "fair", "The global model finds most of the exact posterior, with visible errors."
    elif distance < 0.9 * null:
        tone, headline = "poor", "The global model is far from the exact posterior."
    else:
        tone, headline = "poor", f"The global model says no more than that all {words.objects} are alike."
    name, learned, exact = worst_marginal(found.marginals, comparison)
    detail = (
        f"The largest error of a published marginal is {number(abs(learned - exact))}, at {name}: published {number(learned)}, exact "
        f"{number(exact)}. The errors of the probabilities with which the global model itself samples each of all "
        f"{comparison.objects:,.0f} {words.objects} add up to {number(distance, 4)} (L1, which "
        f"goes from 0 to 2); those of the uniform distribution to {number(null)}, and those of the product of the local models, as they "
        f"are, to {number(comparison.product_of_locals_l1, 4)}. "
        f"The exact posterior is the product of what each node's own records say; no node shared a {words.unit}."
    )
    if run.study.privacy.is_private:
        detail += " It is that of the records without noise, so the distance holds what privacy costs."
    return Verdict(tone, headline, detail)


def samples_in_words(comparison: Comparison) -> str:
    """What the comparison's own figures of the global model are of."""
    how = {True: ", weighted towards the scores it carries,", False: ", unweighted,", None: ""}
    return f"Those of {comparison.samples:,} samples of the global model{how[comparison.weighted]}"


def worst_marginal(learned: Mapping[str, float], comparison: ObjectComparison) -> tuple[str, float, float]:
    """Name, `learned` and exact probability where they differ most. The exact marginals must be known."""
    exact = comparison.exact_marginals or {}
    name = max(exact, key=lambda found: abs(exact[found] - learned.get(found, 0.0)))
    return name, learned.get(name, 0.0), exact[name]


def _of_objects(run: Run, found: Found) -> Verdict:
    words, nodes = words_of(run.study), f"{len(run.aggregated)} of {len(run.uploads)} nodes"
    beyond = found.comparison is not None and not found.comparison.is_exact
    unknown = _unknown(run, f"there are too many {words.objects} to list" if beyond else "")
    if run.study.caution:
        return Verdict("poor", f"Do not rely on this result: {run.study.caution}.", unknown)
    headline, detail = f"The joint posterior of {nodes} over {words.objects}.", ""
    if found.top:
        first = found.top[0]
        headline = f"The most probable {words.one} has probability {number(first.learned)} in the joint posterior of {nodes}."
        if not found.published:
            headline = (
                f"Of {found.sampled:,} samples of the joint posterior of {nodes}, {number(first.learned)} are the {words.one} that shows "
                "most often."
            )
        detail = f"It is {first.text or 'the empty one'}."
    trust = trusted(run)
    if trust is not None:
        return Verdict(trust.tone, trust.warning or headline, trust.detail, detail)
    return Verdict("open", headline, f"{unknown} What can be said is under Training and diagnostics.", detail)


def _unknown(run: Run, why: str) -> str:
    """That no party of the round knows how far the result is off."""
    if compared(run) is not None:
        return "No party of the round knows how far these probabilities are from the exact ones; whoever held all records says so below."
    why = why or "the exact posterior needs everyone's records, which nobody has"
    return f"How far these probabilities are from the exact ones is not known here: {why}."


def worst_edge(learned: Array, comparison: Comparison) -> tuple[str, str, float, float]:
    """Parent, child, `learned` (V, V) and exact probability where they differ most. The exact marginals must be known."""
    assert comparison.exact_edges is not None
    errors = np.abs(learned - comparison.exact_edges)
    np.fill_diagonal(errors, -1.0)
    i, j = (int(k) for k in np.unravel_index(errors.argmax(), errors.shape))
    names = comparison.variables
    return names[i], names[j], float(learned[i, j]), float(comparison.exact_edges[i, j])


def _of_graphs(run: Run) -> Verdict:
    nodes = f"{len(run.aggregated)} of {len(run.uploads)} nodes"
    headline = f"{_finding(run)} That is the joint posterior of {nodes}."
    beyond = run.comparison is not None and run.comparison.exact_edges is None
    out_of_reach = f"with {len(run.study.variables)} variables the exact posterior is out of reach"
    unknown = _unknown(run, out_of_reach if beyond else "")
    if run.study.caution:
        return Verdict("poor", f"Do not rely on this result: {run.study.caution}.", unknown)
    found = trusted(run)
    if found is not None:
        return Verdict(found.tone, found.warning or headline, found.detail, headline if found.warning else "")
    return Verdict("open", headline, f"{unknown} What can be said is under Training and diagnostics.")

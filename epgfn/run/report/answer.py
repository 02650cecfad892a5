"""The first thing on the page: what was found, how sure that is, whether directions can be told, and how the nodes differ. In words."""

from __future__ import annotations

import numpy as np

from epgfn.run.directions import adjacent_probabilities
from epgfn.run.pairs import Pair
from epgfn.run.report.disagreement import contradictions, in_words, judged
from epgfn.run.report.html import Markup, facts
from epgfn.run.report.run import Run
from epgfn.run.report.text import number
from epgfn.run.report.upstream import colliders
from epgfn.run.report.words import words_of
from epgfn.study.knowledge import by_score_alone
from epgfn.study.parameters import is_masked

SURE, OUT = 0.95, 0.05
"""From where on a pair of variables counts as adjacent for sure, and up to where as not adjacent."""
SHAPES = 3
"""v-structures that a sentence names."""
NAMED = 6
"""Pairs that a sentence names."""


def answers(run: Run, pairs: list[Pair]) -> Markup:
    """Four short answers; `pairs` of graphs as `epgfn.run.pairs` has them."""
    if run.edges is not None:
        told = [("How sure", _sure(pairs)), ("Which way", _ways(run, pairs))]
    else:
        told = [("How sure", _sure_of_objects(run))]
    return facts([*told, ("Do the nodes agree", _nodes(run))])


def _sure(pairs: list[Pair]) -> str:
    sure = [pair for pair in pairs if pair.adjacent >= SURE]
    open_ = [pair for pair in pairs if OUT < pair.adjacent < SURE]
    out = len(pairs) - len(sure) - len(open_)
    said = (
        f"Of {len(pairs)} pairs of variables {len(sure)} are adjacent with probability {SURE:.2f} or more, "
    )
    said += f"and {out} with {OUT:.2f} or less."
    if not open_:
        return f"{said} Nothing lies between."
    more = f", and {len(open_) - NAMED} more" if len(open_) > NAMED else ""
    named = ", ".join(f"{pair.parent} – {pair.child} ({number(pair.adjacent)})" for pair in open_[:NAMED])
    return f"{said} Open: {named}{more}."


def _ways(run: Run, pairs: list[Pair]) -> str:
    there = [pair for pair in pairs if pair.adjacent >= 0.5]
    if not there:
        return "There is no pair whose direction could be asked for."
    told, open_ = [p for p in there if p.told], [p for p in there if not p.told]
    names = run.study.variable_names
    by_score = {(names[j], names[i]) for i, j in by_score_alone(run.study)}
    fixed = [p for p in open_ if (p.parent, p.child) in by_score]
    open_ = [p for p in open_ if p not in fixed]
    said = [f"It can be told for {len(told) or 'none'} of {len(there)} probable edges"]
    if told:
        said.append(
            ": "
            + ", ".join(f"{p.parent} → {p.child}" for p in told[:NAMED])
            + (" and more" if len(told) > NAMED else "")
        )
    text = "".join(said) + "."
    if told and (shapes := colliders(run)[:SHAPES]):
        text += f" By {', '.join(f'{shape} ({number(share)})' for shape, share in shapes)}, and what follows."
    if open_:
        named = ", ".join(f"{p.parent} – {p.child}" for p in open_[:NAMED]) + (
            " and more" if len(open_) > NAMED else ""
        )
        text += f" For {named} it cannot: graphs that imply the same independences have the edge either way."
    if fixed:
        named = ", ".join(f"{p.parent} → {p.child}" for p in fixed[:NAMED]) + (
            " and more" if len(fixed) > NAMED else ""
        )
        text += f" Of {named} the study's score knows one direction alone, from a category to a number, and records could not tell."
    return text


def _sure_of_objects(run: Run) -> str:
    found, words = run.found, words_of(run.study)
    if found is None or not found.top:
        return f"No {words.objects} are signed."
    total, count = 0.0, 0
    for row in found.top:
        total, count = total + row.learned, count + 1
        if total >= SURE:
            which = f"one {words.one} has" if count == 1 else f"{count} {words.objects} have together"
            return f"{which[0].upper()}{which[1:]} {number(total)} of the probability."
    return f"The {count} most probable {words.objects} have together {number(total)} of the probability: it is spread over many."


def _nodes(run: Run) -> str:
    pairs = contradictions(run)
    if pairs:
        return f"No: {in_words(pairs)}."
    said = "By the models that they sent no two contradict one another. " if judged(run) else ""
    if run.influence is not None and run.influence.nodes:
        node = max(run.influence.nodes, key=lambda name: run.influence.nodes[name].largest)  # type: ignore[union-attr]
        change = run.influence.nodes[node]
        return (
            f"{said}Leaving out {node} changes the result most: by {number(change.largest)} at {change.at}."
        )
    if run.comparison is not None and len(run.comparison.local_edges) > 1:
        nodes = list(run.comparison.local_edges)
        each = np.stack([adjacent_probabilities(run.comparison.local_edges[node]) for node in nodes])
        spread = each.max(0) - each.min(0)
        i, j = (int(k) for k in np.unravel_index(spread.argmax(), spread.shape))
        names = run.study.variable_names
        low, high = nodes[int(each[:, i, j].argmin())], nodes[int(each[:, i, j].argmax())]
        return (
            f"{said}They differ most on {names[i]} – {names[j]}: adjacent with {number(float(each[:, i, j].min()))} for {low} alone and "
            f"{number(float(each[:, i, j].max()))} for {high} alone (known here only because this is a simulation)."
        )
    if len(run.aggregated) < 2:
        return "Only one node's model is in the result."
    if is_masked(run.study):
        return "Not known: sums are masked, so nobody saw what a single node's records say."
    return said or "Not known: this run did not compare their models."

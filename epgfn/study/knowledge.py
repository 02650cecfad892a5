"""What a study knows beforehand of its graphs, from [prior]: which edges may be there and which have to be. Graphs that do not fit it have
no probability at all, in any party's model.

    candidates   of a variable: only these may be its parents
    tiers        no edge from a later tier into an earlier one; a variable that is in none is bound by none
    forbidden    edges that are not there, required: edges that are; "*" for either end means every other variable
    roots        variables without parents, leaves: variables without children

Where categories and numbers are scored together, the score itself rules out every edge from a number to a category.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Final, NamedTuple

from epgfn.study.mistakes import Mistake, did_you_mean, require_none
from epgfn.study.records.names import listed

if TYPE_CHECKING:
    from epgfn.study import Study

ANY: Final = "*"
HARD: Final = ("candidates", "tiers", "forbidden", "required", "roots", "leaves")
"""Settings of [prior] that rule graphs out."""
BY_SCORE: Final = "the score, in which no number leads to a category"
"""What bars an edge of a study of categories and numbers together."""
MOST_NAMED: Final = 8
"""Variables that a sentence names."""
MOST_CYCLES: Final = 5
"""Cycles that are named at once."""

Edge = tuple[int, int]
"""Parent and child by their numbers in the study."""


class Knowledge(NamedTuple):
    """`barred`: edges that cannot be there, each with the setting that says so; `required`: edges that have to be."""

    barred: dict[Edge, str]
    required: set[Edge]


def knowledge_of(study: Study) -> Knowledge | None:
    """None where the study rules no graph out, beyond its limit on parents."""
    if not any(getattr(study.prior, name) for name in HARD) and not by_score(study):
        return None
    return _resolved(study)


def by_score(study: Study) -> list[Edge]:
    """Edges that the study's score rules out, whatever [prior] says: from numbers to categories where it takes both."""
    if not study.columns.mixed:
        return []
    numbers = [number for number, v in enumerate(study.variables) if v.is_number]
    others = [number for number, v in enumerate(study.variables) if not v.is_number]
    return [(i, j) for i in numbers for j in others]


def by_score_alone(study: Study) -> list[Edge]:
    """Those of them that [prior] leaves."""
    edges = by_score(study)
    known = _resolved(study).barred if edges else {}
    return [edge for edge in edges if known[edge] == BY_SCORE]


def check_knowledge(study: Study) -> None:
    """Raises:
    Mistakes: names that are no variables, or that no graph keeps what is said.
    """
    prior = study.prior
    said = [name for name in (*HARD, "edge_probabilities", "expected_parents") if getattr(prior, name)]
    if said and not study.kind.takes_knowledge:
        what = f"is about the edges of graphs, and objects of space '{study.kind.name}' have none that it could bind; take it out"
        require_none(Mistake(f"prior.{name}", what) for name in said)
    require_none(_names(study))
    require_none([*_soft(study), *_contradictions(study)])


def rules_of(study: Study) -> list[tuple[list[list[bool]], list[list[bool]]]]:
    """Nothing, or one pair: `allowed` and `required`, [i][j] the edge i -> j, as `epgfn.gflownet.spaces.EdgeRules` has them."""
    known = knowledge_of(study)
    if known is None:
        return []
    numbers = range(len(study.variables))
    allowed = [[i != j and (i, j) not in known.barred for j in numbers] for i in numbers]
    return [(allowed, [[(i, j) in known.required for j in numbers] for i in numbers])]


def in_words(study: Study) -> str:
    """What is known beforehand, for people; empty if nothing is."""
    known = knowledge_of(study)
    if known is None:
        return ""
    v = len(study.variables)
    out = f"{len(known.barred)} of {v * (v - 1)} edges cannot be there"
    if known.required:
        out += ", and " + ("1 has to be" if len(known.required) == 1 else f"{len(known.required)} have to be")
    named = [name for name in HARD if getattr(study.prior, name)]
    if by_score_alone(study):
        named.append(BY_SCORE)
    return f"{out} ({', '.join(named)})"


def one_way(study: Study) -> str:
    """What the score decides of directions, in a sentence without its full stop; empty where it decides nothing."""
    edges, names = by_score_alone(study), study.variable_names
    if not edges:
        return ""
    numbers, others = ([names[i] for i in sorted(ends)] for ends in map(set, zip(*edges, strict=True)))
    return (
        f"the score has no edge from a number ({listed(numbers, MOST_NAMED)}) to a category ({listed(others, MOST_NAMED)}): between two "
        "such variables an edge can only lead from the category to the number, so its direction, and what follows from it for the "
        "directions of other edges, is what the study takes for granted and no finding. A category that numbers lead to, as an outcome, "
        "needs numbers = [...], one for each"
    )


def prior_in_words(study: Study, objects: str) -> str:
    """All of [prior], for people; `objects` are what the study is about."""
    prior = study.prior
    if prior.kind == "edge" and prior.expected_parents is not None:
        said = f"{prior.expected_parents:g} parents expected"
    else:
        said = {
            "uniform": f"uniform over {objects}",
            "edge": f"edge probability {prior.edge_probability}",
            "fan-in": "every number of parents alike",
        }[prior.kind]
    if count := len(prior.edge_probabilities):
        said += f", with {'a probability of its own for one entry' if count == 1 else f'probabilities of their own for {count} entries'}"
    known = in_words(study)
    return f"{said}; {known}" if known else said


def pairs(study: Study, edge: Sequence[str]) -> Iterator[Edge]:
    """The edges that a pair of names means, wildcards spelt out."""
    names = study.variable_names
    tails, heads = (range(len(names)) if end == ANY else [names.index(end)] for end in edge[:2])
    return ((i, j) for i in tails for j in heads if i != j)


def _resolved(study: Study) -> Knowledge:
    prior, names = study.prior, study.variable_names
    at = {name: number for number, name in enumerate(names)}
    barred: dict[Edge, str] = dict.fromkeys(by_score(study), BY_SCORE)
    for edge in prior.forbidden:
        barred |= dict.fromkeys(pairs(study, edge), "forbidden")
    tier = {at[name]: number for number, group in enumerate(prior.tiers) for name in group}
    barred |= {(i, j): "tiers" for i in tier for j in tier if tier[i] > tier[j]}
    for child, parents in prior.candidates.items():
        among = {at[name] for name in parents}
        barred |= {
            (i, at[child]): "candidates" for i in range(len(names)) if i not in among and i != at[child]
        }
    for name in prior.roots:
        barred |= dict.fromkeys(pairs(study, (ANY, name)), "roots")
    for name in prior.leaves:
        barred |= dict.fromkeys(pairs(study, (name, ANY)), "leaves")
    return Knowledge(barred, {edge for named in prior.required for edge in pairs(study, named)})


def _names(study: Study) -> Iterator[Mistake]:
    """What is no variable, or is named where it makes no sense."""
    prior, known = study.prior, set(study.variable_names)

    def unknown(where: str, names: Sequence[str], wildcard: bool = False) -> Iterator[Mistake]:
        for name in names:
            if name not in known and not (wildcard and name == ANY):
                near = did_you_mean(name, known)
                yield Mistake(f"prior.{where}", f"'{name}' is no variable of the study{near}")

    for child, parents in prior.candidates.items():
        yield from unknown("candidates", [child, *parents])
        if child in parents:
            yield Mistake("prior.candidates", f"'{child}' cannot be its own parent")
    for where in ("roots", "leaves"):
        yield from unknown(where, getattr(prior, where))
    seen: set[str] = set()
    for group in prior.tiers:
        yield from unknown("tiers", group)
        for name in group:
            if name in seen:
                yield Mistake("prior.tiers", f"'{name}' is listed twice")
            seen.add(name)
    for where in ("forbidden", "required", "edge_probabilities"):
        for edge in getattr(prior, where):
            yield from unknown(where, edge[:2], wildcard=True)
            if edge[0] == edge[1] != ANY:
                yield Mistake(
                    f"prior.{where}", f"an edge from '{edge[0]}' to itself is in no graph; take it out"
                )


def _soft(study: Study) -> Iterator[Mistake]:
    """What does not fit together of the probabilities of edges."""
    prior, v = study.prior, len(study.variables)
    if prior.edge_probabilities and prior.kind == "fan-in":
        yield Mistake("prior.edge_probabilities", "go with kind 'edge' or 'uniform', not with 'fan-in'")
    if prior.expected_parents is None:
        return
    if prior.kind != "edge" or "edge_probability" in prior.model_fields_set:
        yield Mistake(
            "prior.expected_parents",
            "goes with kind = 'edge', in place of edge_probability; set kind, and take that out",
        )
    if prior.expected_parents >= v - 1:
        yield Mistake("prior.expected_parents", f"must be below the number of other variables ({v - 1})")


def _contradictions(study: Study) -> Iterator[Mistake]:
    """Why no graph fits, or only one does."""
    known, names = knowledge_of(study), study.variable_names
    if known is None:
        return
    for i, j in sorted(known.required):
        if (i, j) in known.barred:
            yield Mistake(
                "prior.required",
                f"the edge '{names[i]}' -> '{names[j]}' is ruled out by {known.barred[i, j]}",
            )
    for i, j in by_score_alone(study):
        if (j, i) in known.barred:
            yield Mistake(
                "prior",
                f"no edge could join '{names[i]}' and '{names[j]}': [prior] rules out the one from '{names[j]}' ({known.barred[j, i]}), "
                "and the score the one into it, as no number leads to a category; where the two depend on each other, other edges would be "
                f"there instead. Give the categories of '{names[j]}' numbers, or '{names[i]}' categories, or let '{names[j]}' "
                f"lead to '{names[i]}'; or, where '{names[i]}' has no effect on '{names[j]}', say so: "
                f'forbidden = [["{names[i]}", "{names[j]}"]]',
            )
    most = study.space.max_parents
    for j, name in enumerate(names):
        count = sum(child == j for _, child in known.required)
        if count > most:
            yield Mistake(
                "prior.required", f"'{name}' would have {count} parents, and space.max_parents is {most}"
            )
    for cycle in _cycles(known.required):
        said = " -> ".join(names[number] for number in cycle)
        yield Mistake("prior.required", f"no graph without a cycle has all of these edges: {said}")
    v = len(names)
    if len(known.barred.keys() | known.required) == v * (v - 1):
        yield Mistake("prior", "every edge is either required or ruled out, so there is nothing to find out")


def _cycles(edges: set[Edge]) -> Iterator[list[int]]:
    """One cycle after another, each with its first variable again at its end, until there is none without those already named."""
    left = set(edges)
    for _ in range(MOST_CYCLES):
        order: TopologicalSorter[int] = TopologicalSorter()
        for parent, child in sorted(left):
            order.add(child, parent)
        try:
            order.prepare()
        except CycleError as error:
            cycle = list(error.args[1])
            yield cycle
            left -= set(itertools.pairwise(cycle))
        else:
            return

"""A study's objects: the space that builds them, how they are written, and the yes-no questions whose probabilities are reported.

    space = space_of(study)
    written(study, state)          one text an object: "a->b;c->b", "apple 2, pear 1", "ABBA", "dose=0.25, age=40", a Newick tree
    questions(study, state)        names, and (B, M) answers: is there this edge, this item, this clade?
    marginals(study, state)        {"a->b": .93, ...}, shares among the B objects

A kind of study is one entry in `KINDS` here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.spaces import make_space
from epgfn.study import Study

MAX_CLADES = 4096
"""All clades are asked about up to so many (12 taxa); beyond, those that the objects show."""


class Questions(NamedTuple):
    """`names` of M yes-no questions, and `answers` (B, M) bool."""

    names: list[str]
    answers: Tensor


class ObjectKind(NamedTuple):
    """How the objects of one kind of space are made, written and asked about. `noun`: what several are called; `question`: what the
    names of the questions are, for a heading."""

    space: Callable[[Study], Any]
    written: Callable[[Study, Any], list[str]]
    questions: Callable[[Study, Any], Questions]
    noun: str
    question: str


def kind_of(study: Study) -> ObjectKind:
    """The entry of the study's space."""
    return KINDS[study.space.kind]


def space_of(study: Study) -> Any:
    """The study's state graph.

    Raises:
        UsageError: the settings make no sense.
    """
    return kind_of(study).space(study)


def written(study: Study, state: Any) -> list[str]:
    """The finished objects of `state`, one text each; equal objects have equal texts."""
    return kind_of(study).written(study, state)


def questions(study: Study, state: Any) -> Questions:
    """What is reported of the objects of `state`, object by object."""
    return kind_of(study).questions(study, state)


def marginals(study: Study, state: Any, weight: Tensor | None = None) -> dict[str, float]:
    """The probability of each question: the share of the B objects of `state` for which the answer is yes, or their total `weight`
    (B,), which sums to one."""
    names, answers = questions(study, state)
    shares = answers.double().mean(0) if weight is None else weight.double() @ answers.double()
    return dict(zip(names, shares.tolist(), strict=True))


def _graph_space(study: Study) -> Any:
    return make_space(study.space.kind, n_variables=len(study.variables), max_parents=study.space.max_parents)


def _graphs_written(study: Study, state: Any) -> list[str]:
    names = study.variable_names
    return [
        ";".join(f"{names[i]}->{names[j]}" for i, j in graph.nonzero().tolist()) for graph in state.adjacency
    ]


def _edges(study: Study, state: Any) -> Questions:
    names, v = study.variable_names, len(study.variables)
    pairs = [(i, j) for i in range(v) for j in range(v) if i != j]
    where = torch.tensor([i * v + j for i, j in pairs])
    return Questions([f"{names[i]}->{names[j]}" for i, j in pairs], state.adjacency.flatten(1)[:, where])


def _categories(study: Study) -> list[str]:
    return study.variables[0].categories or []


def _multiset_space(study: Study) -> Any:
    return make_space("multiset", n_items=len(_categories(study)), size=study.space.size or 0)


def _multisets_written(study: Study, state: Any) -> list[str]:
    items = _categories(study)
    return [
        ", ".join(f"{item} {n}" for item, n in zip(items, row, strict=True) if n)
        for row in state.counts.tolist()
    ]


def _at_least(study: Study, state: Any) -> Questions:
    most = study.space.size or 0
    names = [f"{item} >= {k}" for item in _categories(study) for k in range(1, most + 1)]
    return Questions(names, (state.counts[:, :, None] >= torch.arange(1, most + 1)).flatten(1))


def _sequence_space(study: Study) -> Any:
    return make_space("sequence", n_letters=len(_categories(study)), max_length=study.space.max_length or 0)


def _sequences_written(study: Study, state: Any) -> list[str]:
    letters = _categories(study)
    between = "" if all(len(letter) == 1 for letter in letters) else " "
    return [between.join(letters[a - 1] for a in row if a) for row in state.letters.tolist()]


def _letter_at(study: Study, state: Any) -> Questions:
    letters, places = _categories(study), range(1, (study.space.max_length or 0) + 1)
    names = [f"{place}. letter is {letter}" for place in places for letter in letters]
    names += [f"length >= {place}" for place in places]
    shown = state.letters[:, :, None] == torch.arange(1, len(letters) + 1)
    return Questions(names, torch.cat([shown.flatten(1), state.letters > 0], 1))


def _grid_space(study: Study) -> Any:
    return make_space("hypergrid", n_dimensions=len(study.variables), side=study.space.side or 0)


def places(study: Study) -> list[list[float]]:
    """For each variable the places of a hypergrid along it, on its own untransformed scale; evenly spaced on the study's."""
    from epgfn.study.records.tables import off_scale, on_scale

    steps = torch.linspace(0, 1, study.space.side or 0, dtype=torch.float64)
    out = []
    for variable in study.variables:
        low, high = on_scale([variable.lower or 0.0, variable.upper or 0.0], variable)
        out.append(off_scale((low + (high - low) * steps).numpy(), variable).tolist())
    return out


def _places_written(study: Study) -> list[list[str]]:
    """`places` as text, with as many digits, six at least, as it takes to tell the places of a variable apart."""
    out = []
    for row in places(study):
        texts = ([f"{x:.{digits}g}" for x in row] for digits in range(6, 18))
        out.append(next((found for found in texts if len(set(found)) == len(row)), [repr(x) for x in row]))
    return out


def _points_written(study: Study, state: Any) -> list[str]:
    names, at = study.variable_names, _places_written(study)
    return [
        ", ".join(f"{name}={at[i][p]}" for i, (name, p) in enumerate(zip(names, row, strict=True)))
        for row in state.position.tolist()
    ]


def _coordinates(study: Study, state: Any) -> Questions:
    rows = zip(study.variables, _places_written(study), strict=True)
    names = [f"{v.name}={x}" for v, row in rows for x in row]
    return Questions(names, (state.position[:, :, None] == torch.arange(study.space.side or 0)).flatten(1))


def _tree_space(study: Study) -> Any:
    return make_space("phylogeny", n_leaves=len(study.variables))


def _trees_written(study: Study, state: Any) -> list[str]:
    return list(_tree_space(study).newick(state, study.variable_names))


def _clades(study: Study, state: Any) -> Questions:
    """Groups of 2 to n - 1 taxa that have an ancestor of their own."""
    names, n = study.variable_names, len(study.variables)
    if 1 << n <= MAX_CLADES:
        sizes = range(2, n)
        groups = [sum(1 << i for i in group) for k in sizes for group in itertools.combinations(range(n), k)]
    else:
        found = torch.unique(state.nodes).tolist()
        groups = sorted(
            (g for g in found if 1 < (g & ((1 << 64) - 1)).bit_count() < n), key=lambda g: g % (1 << 64)
        )
    called = ["{" + ", ".join(names[i] for i in range(n) if g >> i & 1) + "}" for g in groups]
    wanted = torch.tensor(groups, dtype=torch.int64)
    answers = (
        torch.stack([(state.nodes == g).any(1) for g in wanted], 1)
        if groups
        else torch.zeros(len(state.nodes), 0)
    )
    return Questions(called, answers.bool())


_GRAPHS = ObjectKind(_graph_space, _graphs_written, _edges, "graphs", "edge")
KINDS: dict[str, ObjectKind] = {
    "dag-by-edges": _GRAPHS,
    "dag-by-sinks": _GRAPHS,
    "hypergrid": ObjectKind(_grid_space, _points_written, _coordinates, "points", "coordinate"),
    "multiset": ObjectKind(_multiset_space, _multisets_written, _at_least, "multisets", "number of items"),
    "phylogeny": ObjectKind(_tree_space, _trees_written, _clades, "trees", "clade"),
    "sequence": ObjectKind(_sequence_space, _sequences_written, _letter_at, "sequences", "letter"),
}
"""By the space's kind."""

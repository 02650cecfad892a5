"""How probable something is that is said of graphs in words:

    a -> b                              a - b
    a is a parent of b                  a and b are adjacent
    a is an ancestor of b               a is a descendant of b
    a is in the Markov blanket of b     a -> c <- b is a v-structure
    a -> b is compelled                 a path leads from a to b avoiding c, d

Names are the study's, in quotes if they hold words of these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.measure.equivalence import compelled_edges
from epgfn.gflownet.measure.graph_relations import adjacent, ancestors, blankets, collides, reaches

Relation = Callable[[Tensor, list[int]], Tensor]


class Answer(NamedTuple):
    """A `probability`, its standard `error` from the number of graphs that were drawn, and the `basis` they were drawn on: "exact",
    "weighted", "chains", or "samples" of the model, whose own error comes on top."""

    probability: float
    error: float
    basis: str

    def __float__(self) -> float:
        return self.probability


def _edge(graphs: Tensor, of: list[int]) -> Tensor:
    return graphs[:, of[0], of[1]]


FORMS: Final[tuple[tuple[str, Relation], ...]] = (
    ("{} -> {} <- {} is a v-structure", lambda g, of: collides(g, *of)),
    ("{} -> {} is compelled", lambda g, of: compelled_edges(g)[:, of[0], of[1]]),
    ("{} -> {}", _edge),
    ("{} - {}", lambda g, of: adjacent(g)[:, of[0], of[1]]),
    ("{} and {} are adjacent", lambda g, of: adjacent(g)[:, of[0], of[1]]),
    ("{} is adjacent to {}", lambda g, of: adjacent(g)[:, of[0], of[1]]),
    ("{} is a parent of {}", _edge),
    ("{} is a child of {}", lambda g, of: g[:, of[1], of[0]]),
    ("{} is an ancestor of {}", lambda g, of: ancestors(g)[:, of[0], of[1]]),
    ("{} is a descendant of {}", lambda g, of: ancestors(g)[:, of[1], of[0]]),
    ("{} is in the Markov blanket of {}", lambda g, of: blankets(g)[:, of[0], of[1]]),
    ("a path leads from {} to {}", lambda g, of: reaches(g, of[0], of[1], [])),
)
"""What may be said, the longest of those that begin alike first; one line each."""
MOST_NAMED: Final = 20
"""Variables that are listed where a question is not understood."""
AVOIDING: Final = re.compile(r"^(?P<path>a path leads from .+?) avoiding (?P<others>.+)$")


class Question(NamedTuple):
    """Of (B, V, V) bool graphs, (B,) bool by `relation` of variables `of`."""

    relation: Relation
    of: list[int]

    def holds(self, graphs: Tensor) -> Tensor:
        return self.relation(graphs, self.of)


def question(text: str, names: Sequence[str]) -> Question:
    """What `text` asks of variables `names`.

    Raises:
        UsageError: it is none of the forms, names no variable of the study, or one twice.
    """
    text = " ".join(text.split())
    avoiding = AVOIDING.match(text)
    if avoiding is not None:
        others = [_variable(name.strip(), names) for name in avoiding["others"].split(",")]
        asked = question(avoiding["path"], names)
        if set(others) & set(asked.of):
            raise UsageError("a path cannot avoid where it begins or ends; leave that variable out")
        return Question(lambda g, of: reaches(g, of[0], of[1], others), asked.of)
    for form, relation in FORMS:
        found = _pattern(form, names).match(text)
        if found is not None:
            of = [_variable(name, names) for name in found.groups()]
            if len(set(of)) < len(of):
                raise UsageError("a question is about different variables; one is named twice")
            return Question(relation, of)
    forms = "; ".join(form.format(*"abc") for form, _ in FORMS)
    shown = [*names[:MOST_NAMED], *(["..."] if len(names) > MOST_NAMED else [])]
    raise UsageError(
        f"cannot read {text!r}; it is none of these with names of the study's variables, which are {', '.join(shown)}: {forms}"
    )


def answered(graphs: Tensor, asked: Question, basis: str, effective: float | None = None) -> Answer:
    """From (n, V, V) bool graphs drawn on `basis`, worth `effective` independent ones (all of them by default)."""
    p = float(asked.holds(graphs).double().mean())
    n = len(graphs) if effective is None else max(1.0, effective)
    # One more success and failure each, so that what was never drawn is not thought impossible (Agresti & Coull, 1998).
    near = (p * n + 1) / (n + 2)
    return Answer(p, math.sqrt(near * (1 - near) / n), basis)


def _pattern(form: str, names: Sequence[str]) -> re.Pattern[str]:
    longest = sorted(names, key=len, reverse=True)
    name = "(" + "|".join([*(re.escape(f'"{n}"') for n in longest), *map(re.escape, longest)]) + ")"
    return re.compile("^" + name.join(re.escape(part) for part in form.split("{}")) + "$")


def _variable(name: str, names: Sequence[str]) -> int:
    bare = name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' and name not in names else name
    if bare not in names:
        raise UsageError(f"the study has no variable {bare!r}")
    return list(names).index(bare)

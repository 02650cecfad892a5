"""What things are called on the page, by what the study is about."""

from __future__ import annotations

from typing import NamedTuple

from epgfn.run.report.text import plain
from epgfn.study import Study
from epgfn.study.objects import kind_of

TARGETS = {
    "bge": "BGe, the Bayesian Gaussian score",
    "bic": "linear-Gaussian BIC",
    "profile-likelihood": "linear-Gaussian profile likelihood, without a penalty",
    "max-likelihood": "linear-Gaussian maximum likelihood with fixed variance, without a penalty",
    "bdeu": "BDeu, the Bayesian score of categorical variables",
    "location": "records are normally distributed around the point",
    "items": "a record shows one item, drawn from the multiset or from anywhere",
    "letters": "a record shows one letter, drawn from the sequence, from its earlier places more often, or from anywhere",
    "jc69": "sites evolve along the tree after Jukes and Cantor, all branches alike",
}
SPACES = {
    "dag-by-sinks": "directed acyclic graphs, grown one variable with all its parents at a time",
    "dag-by-edges": "directed acyclic graphs, grown edge by edge",
    "hypergrid": "points, {side} places along each variable",
    "multiset": "multisets of {size} items",
    "sequence": "sequences of at most {max_length} letters",
    "phylogeny": "rooted binary trees whose leaves are the taxa",
}
COLUMNS = {
    "hypergrid": "variables",
    "multiset": "kinds of items",
    "sequence": "letters",
    "phylogeny": "taxa",
}


class Words(NamedTuple):
    """`objects` "graphs", `one` "graph", `question` "edge", `probabilities` "edge probabilities", `unit` "record"."""

    objects: str
    one: str
    question: str
    probabilities: str
    unit: str


def words_of(study: Study) -> Words:
    """The words of a study."""
    kind = kind_of(study)
    probabilities = "edge probabilities" if study.is_graphs else "marginal probabilities"
    return Words(kind.noun, kind.noun.removesuffix("s"), kind.question, probabilities, study.unit)


def space_in_words(study: Study) -> str:
    """The space with its sizes."""
    said = SPACES.get(study.space.kind, study.space.kind).format(**study.space.model_dump())
    return f"{said}, at most {study.space.max_parents} parents" if study.is_graphs else said


def columns(study: Study) -> tuple[str, list[str]]:
    """What the objects are made of: "variables" and their names, "letters" and which there are."""
    called = COLUMNS.get(study.space.kind, "variables")
    if study.columns == "one-category":
        return called, [plain(category) for category in study.variables[0].categories or []]
    return called, [plain(name) for name in study.variable_names]

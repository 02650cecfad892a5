"""What things are called on the page: the words are the study's kind's (`epgfn.study.kinds`)."""

from __future__ import annotations

from typing import NamedTuple

from epgfn.run.report.text import plain
from epgfn.study import Study


class Words(NamedTuple):
    """`objects` "graphs", `one` "graph", `question` "edge", `probabilities` "edge probabilities", `unit` "record"."""

    objects: str
    one: str
    question: str
    probabilities: str
    unit: str


def words_of(study: Study) -> Words:
    """The words of a study."""
    kind = study.kind
    return Words(kind.noun, kind.noun.removesuffix("s"), kind.asked(study), kind.probabilities, study.unit)


def columns(study: Study) -> tuple[str, list[str]]:
    """What the objects are made of: "variables" and their names, "letters" and which there are."""
    names = study.categories if study.columns.single else study.variable_names
    return study.kind.components, [plain(name) for name in names]

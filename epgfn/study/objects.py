"""A study's objects: the space that builds them, how they are written, and the yes-no questions whose probabilities are reported.

    space = space_of(study)
    written(study, state)          one text an object: "a->b;c->b", "apple 2, pear 1", "ABBA", "dose=0.25, age=40", a Newick tree
    questions(study, state)        names, and (B, M) answers: is there this edge, this item, this clade?
    marginals(study, state)        {"a->b": .93, ...}, shares among the B objects

What they are is the study's kind's to say: `epgfn.study.kinds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from epgfn.study import Study
from epgfn.study.kinds import Questions

if TYPE_CHECKING:
    from torch import Tensor


def space_of(study: Study) -> Any:
    """The study's state graph.

    Raises:
        UsageError: the settings make no sense.
    """
    return study.kind.space(study)


def written(study: Study, state: Any) -> list[str]:
    """The finished objects of `state`, one text each; equal objects have equal texts."""
    return study.kind.written(study, state)


def questions(study: Study, state: Any) -> Questions:
    """What is reported of the objects of `state`, object by object."""
    return study.kind.questions(study, state)


def marginals(study: Study, state: Any, weight: Tensor | None = None) -> dict[str, float]:
    """The probability of each question: the share of the B objects of `state` for which the answer is yes, or their total `weight`
    (B,), which sums to one."""
    names, answers = questions(study, state)
    shares = answers.double().mean(0) if weight is None else weight.double() @ answers.double()
    return dict(zip(names, shares.tolist(), strict=True))


__all__ = ["Questions", "marginals", "questions", "space_of", "written"]

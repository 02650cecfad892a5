"""What the variables of a study must say, by what they are: numbers, bounded numbers, categories, one category, or taxa."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from epgfn.study.kinds import MAX_LETTERS, Columns

if TYPE_CHECKING:
    from epgfn.study import Study


def check_columns(study: Study) -> None:
    """Raises:
    ValueError: a variable says too little, or something that has no meaning for what it is.
    """
    _CHECKS[study.columns](study)


def _numbers(study: Study) -> None:
    for v in study.variables:
        if v.categories is not None:
            raise ValueError(
                f"variable {v.name}: target '{study.target.kind}' takes numbers, so it has no categories; use target.kind = 'bdeu'"
            )


def _bounded(study: Study) -> None:
    _numbers(study)
    unbounded = [v.name for v in study.variables if v.lower is None or v.upper is None]
    if unbounded:
        raise ValueError(
            f"the places of a hypergrid lie between public bounds: set lower and upper of {', '.join(unbounded)}"
        )
    check_logarithms(study)


def check_logarithms(study: Study) -> None:
    """Raises:
    ValueError: a logarithm is taken of a variable whose lower bound is not above zero.
    """
    for v in study.variables:
        if v.transform == "log" and v.lower is not None and v.lower <= 0:
            raise ValueError(
                f"variable {v.name}: lower must be above 0, because the study takes its logarithm"
            )


def _categories(study: Study) -> None:
    for v in study.variables:
        if v.categories is None or not v.is_plain:
            raise ValueError(
                f"variable {v.name}: target '{study.target.kind}' takes categories: list them as categories = [...], with nothing else "
                "but the name"
            )


def _one_category(study: Study) -> None:
    if len(study.variables) != 1:
        raise ValueError(
            f"a study of space '{study.space.kind}' has one variable: what a record shows, with its categories"
        )
    _categories(study)
    if study.space.kind == "sequence" and len(study.variables[0].categories or ()) > MAX_LETTERS:
        raise ValueError(f"a sequence is made of at most {MAX_LETTERS} letters")
    if study.space.kind == "sequence" and any(
        " " in letter for letter in study.variables[0].categories or ()
    ):
        raise ValueError("a letter of a sequence holds no space, so that no two sequences read alike")


def _taxa(study: Study) -> None:
    if len(study.variables) < 3:
        raise ValueError("a study of trees needs at least three taxa as its variables")
    for v in study.variables:
        if v.categories is not None or not v.is_plain:
            raise ValueError(f"variable {v.name}: a taxon has a name and nothing else")
        if len(v.name.split()) != 1 or set(v.name) & set("(),;:'[]"):
            raise ValueError(f"variable {v.name}: a taxon's name holds no space and none of (),;:'[]")


_CHECKS: Final[dict[Columns, Callable[[Study], None]]] = {
    "numbers": _numbers,
    "bounded": _bounded,
    "categories": _categories,
    "one-category": _one_category,
    "taxa": _taxa,
}

"""What the variables of a study are: numbers, bounded numbers, categories, both, one category, or taxa; and what they must say then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from epgfn.study.mistakes import all_of, of_variable, require_none

if TYPE_CHECKING:
    from epgfn.study import Study


@dataclass(frozen=True)
class Columns:
    """One sort of columns. `check(study)` raises ValueError where a variable says too little, or something that has no meaning for it.

    numeric: cells are numbers, which a study puts on its scale; else categories, or characters of an alignment. mixed: of some variables
        the one, of some the other, as each says.
    single: records are (n,), of the one variable there is; else (n, V).
    alignment: a file is FASTA, a sequence a variable; else a table.
    must_vary: records score numbers against each other, so none may be constant and there are at least as many as variables.
    scaled: what a score says hangs on the public scale of the numbers, so every variable of numbers must say its own.
    unit: what a record is called.
    """

    name: str
    check: Callable[[Study], None]
    numeric: bool = False
    mixed: bool = False
    single: bool = False
    alignment: bool = False
    must_vary: bool = False
    scaled: bool = False
    unit: Literal["record", "site"] = "record"


def _numbers(study: Study) -> None:
    what = f"target '{study.target.kind}' takes numbers, so it has no categories; use target.kind = 'bdeu'"
    if study.kind.has_edges and not study.privacy.is_private:
        what += (
            ", or 'conditional-gaussian' for categories and numbers together, or give its categories numbers"
        )
    require_none(of_variable(v.name, what) for v in study.variables if not v.is_number)


def _bounded(study: Study) -> None:
    unbounded = [v.name for v in study.variables if v.lower is None or v.upper is None]
    what = "the places of a hypergrid lie between public bounds: set lower and upper"
    require_none(
        [
            *all_of(partial(_numbers, study)),
            *(of_variable(name, what) for name in unbounded),
            *all_of(partial(check_logarithms, study)),
        ]
    )


def check_logarithms(study: Study) -> None:
    """Raises:
    Mistakes: a logarithm is taken of a variable whose lower bound is not above zero.
    """
    require_none(
        of_variable(v.name, "lower must be above 0, because the study takes its logarithm")
        for v in study.variables
        if v.transform == "log" and v.lower is not None and v.lower <= 0
    )


def _categories(study: Study) -> None:
    what = f"target '{study.target.kind}' takes categories: list them as categories = [...], with nothing else but the name"
    if study.kind.has_edges and not study.privacy.is_private:
        what += "; or use target.kind = 'conditional-gaussian' for categories and numbers together"
    require_none(of_variable(v.name, what) for v in study.variables if v.categories is None or not v.is_plain)


def _mixed(study: Study) -> None:
    what = (
        "lists categories, so it has nothing else but the name; or say numbers = [...], one for each category, and it is taken as a "
        "number on the scale of these"
    )
    wrong = [of_variable(v.name, what) for v in study.variables if not v.is_number and not v.is_plain]
    if study.target.covariance == "own":
        scored = (
            "has numbers for its categories, and target.covariance = 'own' gives each combination of categories noise of its own: one in "
            "which all records are alike, as without an event, would then seem to know it exactly; take covariance = 'common'"
        )
        wrong += [of_variable(v.name, scored) for v in study.variables if v.numbers is not None]
    require_none(wrong)


def _one_category(study: Study) -> None:
    if len(study.variables) != 1:
        raise ValueError(
            f"a study of space '{study.space.kind}' has one variable: what a record shows, with its categories"
        )
    _categories(study)


def _taxa(study: Study) -> None:
    if len(study.variables) < 3:
        raise ValueError("a study of trees needs at least three taxa as its variables")
    require_none(
        of_variable(v.name, "a taxon has a name and nothing else")
        if v.categories is not None or not v.is_plain
        else of_variable(v.name, "a taxon's name holds no space and none of (),;:'[]")
        for v in study.variables
        if v.categories is not None
        or not v.is_plain
        or len(v.name.split()) != 1
        or set(v.name) & set("(),;:'[]")
    )


NUMBERS = Columns("numbers", _numbers, numeric=True, must_vary=True, scaled=True)
BOUNDED = Columns("bounded", _bounded, numeric=True)
CATEGORIES = Columns("categories", _categories)
MIXED = Columns("mixed", _mixed, mixed=True, must_vary=True, scaled=True)
ONE_CATEGORY = Columns("one-category", _one_category, single=True)
TAXA = Columns("taxa", _taxa, alignment=True, unit="site")

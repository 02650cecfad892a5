"""Which variables were set, and not only observed, in which rows: [design] of a study of graphs.

A column of everybody's table says which arm a row belongs to, and the study which variables are set in each arm. Where a variable was set,
whoever set it decided its values: what graphs say of its parents does not hold there.

    perfect      those rows say nothing about its parents (Cooper & Yoo, UAI 1999)
    imperfect    its parents are the same there, with parameters of that arm's own (Eaton & Murphy, AISTATS 2007)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from epgfn.study.mistakes import Mistake, did_you_mean, require_none
from epgfn.study.records.names import Names, listed, plain
from epgfn.study.variables import Variable

if TYPE_CHECKING:
    from epgfn.study import Study

LEAST_ARMS: Final = 2
PRIVATE: Final = (
    "a private release is one noisy statistic of all rows together, which cannot be taken apart by arms, and one for each arm would "
    "have to share the study's epsilon; take [design] out, or use privacy.mode = 'none'"
)


class Regime(NamedTuple):
    """`arms`, by their places in the study: rows of these arms are described together, with one set of parameters. `variables`: those
    whose scores have a term for these rows."""

    arms: tuple[int, ...]
    variables: tuple[int, ...]


def arm_variable(study: Study) -> Variable | None:
    """The column that says which arm a row belongs to, as a variable whose categories are the arms; None: the study has no design."""
    design = study.design
    return None if design.column is None else Variable(name=design.column, categories=list(design.sets))


def regimes_of(study: Study) -> list[Regime]:
    """What each variable's score is a sum over; nothing where there is no design."""
    names, found = study.variable_names, dict[tuple[int, ...], list[int]]()
    for j, name in enumerate(names):
        setting = [name in variables for variables in study.design.sets.values()]
        found.setdefault(tuple(arm for arm, was_set in enumerate(setting) if not was_set), []).append(j)
        if study.design.kind == "imperfect":
            for arm in (arm for arm, was_set in enumerate(setting) if was_set):
                found.setdefault((arm,), []).append(j)
    return [Regime(arms, tuple(variables)) for arms, variables in found.items() if arms]


def always_set(study: Study) -> list[str]:
    """Variables that are set in every arm, perfectly: no row says anything about their parents."""
    design = study.design
    if design.column is None or design.kind == "imperfect":
        return []
    return [n for n in study.variable_names if all(n in variables for variables in design.sets.values())]


def is_set_throughout(study: Study, name: str, arms: Any | None) -> bool:
    """Whether a variable was set in all rows of these arms, (n,) places, so that a perfect design leaves out all of them."""
    if arms is None or study.design.kind == "imperfect":
        return False
    sets = list(study.design.sets.values())
    return all(name in sets[arm] for arm in set(arms.tolist()))


def check_design(study: Study) -> None:
    """Raises:
    Mistakes: names that are no variables, a column that cannot say it, or a study that cannot have a design.
    """
    design, names, found = study.design, study.variable_names, []
    if design.column is None:
        if design.model_fields_set:
            what = "is missing: which column of everybody's table says what arm a row belongs to?"
            require_none([Mistake("design.column", what)])
        return
    if not study.kind.has_edges:
        what = f"says which variables were set, and objects of space '{study.kind.name}' have no edges into variables; take it out"
        require_none([Mistake("design", what)])
    if Names(names).place(design.column) is not None:
        what = (
            f"'{design.column}' is a variable of the study too; a column says what was measured, or what was set: give the arms a column "
            "of their own"
        )
        found.append(Mistake("design.column", what))
    if len(design.sets) < LEAST_ARMS:
        what = (
            "needs at least two arms, each with the list of variables that are set in it; [] where nothing is"
        )
        found.append(Mistake("design.sets", what))
    elif not any(design.sets.values()):
        found.append(Mistake("design.sets", "no arm sets a variable; leave [design] out"))
    if len({plain(arm) for arm in design.sets}) < len(design.sets):
        found.append(Mistake("design.sets", "an arm is listed twice"))
    for arm, variables in design.sets.items():
        if not arm or arm != arm.strip():
            found.append(
                Mistake("design.sets", "the name of an arm is empty, or begins or ends with a space")
            )
        where = f"design.sets, arm '{arm}'"
        for name in variables:
            if name not in names:
                what = f"'{name}' is no variable of the study{did_you_mean(name, names)}"
                found.append(Mistake(where, what))
        twice = sorted({name for name in variables if variables.count(name) > 1})
        found += [Mistake(where, f"'{name}' is listed twice") for name in twice]
    if study.privacy.is_private:
        found.append(Mistake("design", PRIVATE))
    require_none(found)


def in_words(study: Study) -> str:
    """The design, for people; empty if there is none."""
    design = study.design
    if design.column is None:
        return ""
    arms = "; ".join(
        f"{arm}: {listed(variables) if variables else 'nothing'}" for arm, variables in design.sets.items()
    )
    rows = (
        "a variable's score leaves out the rows in which it was set"
        if design.kind == "perfect"
        else "in each arm that sets it a variable has parameters of its own"
    )
    said = f"column '{design.column}' says what was set ({arms}); {rows}"
    if fixed := always_set(study):
        one = len(fixed) == 1
        said += f". {listed(fixed)} {'is' if one else 'are'} set in every arm, so no record says anything about edges into "
        said += "it" if one else "them"
    return said


def notes_of(study: Study, arms: Sequence[int]) -> list[str]:
    """What to tell the owner of a file whose rows belong to these arms, (n,) places: how many rows each score leaves out, or has apart."""
    design, found = study.design, []
    counts = [sum(1 for arm in arms if arm == place) for place in range(len(design.sets))]
    for name in study.variable_names:
        of_set = sum(
            n for n, variables in zip(counts, design.sets.values(), strict=True) if name in variables
        )
        if not of_set:
            continue
        if design.kind == "imperfect":
            found.append(
                f"{name} was set in {of_set} of {len(arms)} records, which count with parameters of their own"
            )
        elif of_set == len(arms):
            found.append(f"{name} was set in all records, so they say nothing about edges into it")
        else:
            found.append(f"{name} was set in {of_set} of {len(arms)} records, which its score leaves out")
    return found

"""Cells without a value, where the study does not refuse them: [data] missing.

    complete-rows   a variable's score takes rows without a blank in any column that it needs (`groups_of`)
    impute          blanks are filled in many times on the node, each time as a draw, and one table of scores says what all of them say
                    together (`epgfn.learn.imputation`)
    category        a blank is the category that the study lists for it, as "missing" or "NA"

The first two assume something of why cells are blank, which no record can show; it is said wherever a result is. How many cells are
blank is said on the node alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from epgfn.study.knowledge import knowledge_of
from epgfn.study.mistakes import Mistake, require_none
from epgfn.study.records.names import listed
from epgfn.study.variables import Variable

if TYPE_CHECKING:
    from epgfn.study import Study
    from epgfn.study.records.table import Numbers

MARKS: Final = frozenset({"na", "n/a", "#n/a", "nan", "null", "none", "nil", "missing", "-", "--", ".", "?"})
"""What people write into a cell that has no value, in lower case."""
WITH_BLANKS: Final = ("complete-rows", "impute")
"""Settings by which records may hold blanks after they were read."""
MOST_IMPUTED: Final = 12
"""Variables: what filled-in tables say together takes exact sums over graphs, a few hundred of them."""
ASSUMED: Final = {
    "complete-rows": "records with a blank are left out, which is right if whether a cell is blank has nothing to do with any value",
    "impute": (
        "blanks are filled in many times from what the same record's other cells say, which is right if these say all about why a cell is "
        "blank (missing at random)"
    ),
    "category": "a blank is a category of its own, whatever the reason for it",
}
"""What is taken for granted of blanks, for screens and reports."""
NOT_IN_FIGURES: Final = {
    "complete-rows": "what is exact is so of the records that were taken, and says nothing of what the others would have changed",
    "impute": (
        "what is exact is so of blanks as the nodes filled them in; how far that is off is in no figure here, and each node tells its own "
        "people how much filled-in tables differ"
    ),
}
PRIVATE: Final = (
    "under a privacy mode no cell may be blank: what a record's blanks do to a release has no proven bound here; take it out, or use "
    "privacy.mode = 'none'"
)


def check_missing(study: Study) -> None:
    """Raises:
    Mistakes: a study that cannot have blanks, or cannot fill them in.
    """
    how, where = study.data.missing, "data.missing"
    if how == "refuse":
        return
    found, numeric = [], study.columns.numeric
    if not study.kind.has_edges:
        found.append(Mistake(where, "blanks are understood in studies of graphs only; take it out"))
    elif study.privacy.is_private and how != "category":
        found.append(Mistake(where, PRIVATE))
    elif getattr(study.target, "parameters", "own") == "shared" and how != "category":
        what = (
            "with target.parameters = 'shared' one statistic of all of a node's records is sent, and records with blanks have none; take "
            "target.parameters = 'own'"
        )
        found.append(Mistake(where, what))
    elif how == "category" and (
        numeric or all(category_of_blanks(variable) is None for variable in study.variables)
    ):
        what = "a blank can be a category only where a variable lists one for it: 'missing', or 'NA'"
        found.append(Mistake(where, what))
    elif how == "impute" and not numeric:
        what = "only numbers are filled in; for categories take 'complete-rows', or 'category', where a blank is a category of its own"
        found.append(Mistake(where, what))
    elif how == "impute" and (
        study.target.kind not in ("bge", "bic") or getattr(study.target, "mean", None) == "known"
    ):
        what = (
            "filled-in tables are weighed by marginal likelihoods with unknown means, so it takes target.kind = 'bge' or 'bic'; take "
            "'complete-rows' for others"
        )
        found.append(Mistake(where, what))
    elif how == "impute" and study.design.column is not None:
        what = "what was set does not follow from other cells, so blanks are not filled in in a study with a [design]; take 'complete-rows'"
        found.append(Mistake(where, what))
    elif how == "impute" and len(study.variables) > MOST_IMPUTED:
        what = (
            f"blanks are filled in for up to {MOST_IMPUTED} variables, because what the filled-in tables say together takes exact sums "
            "over graphs; take 'complete-rows', or fewer variables"
        )
        found.append(Mistake(where, what))
    require_none(found)


def category_of_blanks(variable: Variable) -> int | None:
    """The place of the category that stands for a blank; None: it has none."""
    categories = () if variable.is_number else variable.categories or ()
    return next((at for at, name in enumerate(categories) if name.strip().lower() in MARKS), None)


def hint_for(study: Study) -> str:
    """What to add where blanks stop a node though a study can say what they mean; empty where this one could not."""
    could = study.kind.has_edges and not study.privacy.is_private
    if not could or study.data.missing != "refuse" or getattr(study.target, "parameters", "own") == "shared":
        return ""
    return "; or agree on a study that says what blanks mean, as in missing = 'complete-rows' under [data]"


def in_words(study: Study) -> str:
    """What becomes of blanks, for people; empty where they are refused."""
    return ASSUMED.get(study.data.missing, "")


def not_in_figures(study: Study) -> str:
    """What figures that are called exact do not take in, a sentence without its full stop; empty where nothing of the kind is left out."""
    return NOT_IN_FIGURES.get(study.data.missing, "")


def is_blank(column: Numbers) -> Numbers:
    """(n,) bool: NaN of numbers, below 0 of places of categories."""
    import numpy as np  # which commands that read a study alone do without

    return np.isnan(column) if np.issubdtype(column.dtype, np.floating) else column < 0


def groups_of(study: Study) -> list[tuple[list[int], list[int]]]:
    """Variables whose scores take the same rows, and the columns in which these rows must have no blank: the variables and all that may be
    their parents.

    Scores of one variable are compared with each other, so all of them take the same rows. Where an edge may go either way both its
    ends do: else graphs that imply the same independences would differ by how many rows each end has.
    """
    v, known = len(study.variables), knowledge_of(study)
    barred = set(known.barred) if known else set()
    may = [[i != j and (i, j) not in barred for j in range(v)] for i in range(v)]
    left, found = set(range(v)), []
    while left:
        group, more = set[int](), {min(left)}
        while more:
            j = more.pop()
            group.add(j)
            more |= {i for i in left - group if may[i][j] and may[j][i]}
        left -= group
        needed = group | {i for i in range(v) for j in group if may[i][j]}
        found.append((sorted(group), sorted(needed)))
    return found


def notes_of(study: Study, columns: list[Numbers]) -> list[str]:
    """What to tell the owner of a file: how many cells are blank, and how many records each score is taken from."""
    import numpy as np

    blank, names = [is_blank(column) for column in columns], study.variable_names
    n = len(blank[0])
    some = [f"{name} ({int(b.sum())})" for name, b in zip(names, blank, strict=True) if b.any()]
    if not some:
        return []
    said = [f"of {n} records, blank in {listed(some)}; {in_words(study)}"]
    if study.data.missing == "complete-rows":
        for group, needed in groups_of(study):
            complete = n - int(np.any([blank[j] for j in needed], axis=0).sum())
            whose = "every variable" if len(group) == len(names) else listed([names[j] for j in group])
            said.append(f"{complete} of {n} records are complete for the scores of {whose}")
    return said

"""What a node's model tells whoever opens it, where no privacy mode adds noise: said in plain words before anybody agrees to send one."""

from __future__ import annotations

from epgfn.study.parameters import agreement_in_words, is_shared
from epgfn.study.study import Study


def exposure_of(study: Study) -> str:
    """A sentence for a study of mode none, or with parameters that all sites share; empty for any other."""
    if is_shared(study):
        return agreement_in_words(study)
    if study.privacy.is_private:
        return ""
    if not study.kind.carries_scores:
        return (
            "whoever opens a node's model can compute from it what its records say of every object, up to a constant: of few records "
            "that can mean the records themselves"
        )
    if study.columns.mixed:
        return _of_both(study)
    if study.columns.numeric:
        return (
            "whoever opens a node's model can compute much of its covariance matrix from it, and of five variables or more usually all of "
            "it and the number of its records"
        )
    most = study.space.max_parents + 1
    return (
        f"whoever opens a node's model can compute from it, nearly always, how often each combination of values of up to {most} columns "
        "occurs among its records; where those are all columns, or records are few, that is its table"
    )


def _of_both(study: Study) -> str:
    """Scores of sets that hold categories alone are BDeu's, and those of sets that hold numbers alone BGe's."""
    categories = sum(not variable.is_number for variable in study.variables)
    most = min(study.space.max_parents + 1, categories)
    columns = f"{most} column{'s' if most > 1 else ''}"
    return (
        "whoever opens a node's model can compute from it at least what a model of its categories alone and one of its numbers alone tell: "
        f"nearly always, how often each combination of values of up to {columns} of categories occurs among its records, and much of the "
        "covariance matrix of its numbers; beside that it tells something of the numbers of each such group of records, which where the "
        "group is one record can be this record"
    )

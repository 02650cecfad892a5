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

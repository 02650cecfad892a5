"""The likelihood of a study whose target is a sum over records; the likelihoods themselves are their kinds' (`epgfn.study.kinds`)."""

from __future__ import annotations

from typing import Any

from epgfn.study import Study
from epgfn.study.kinds import Likelihood


def likelihood_of(study: Study, space: Any) -> Likelihood:
    """The study's likelihood for objects of its `space`.

    Raises:
        ValueError: its target is a score of graphs, which is no sum over records.
    """
    of = study.target_kind.likelihood
    if of is None:
        raise ValueError(f"target '{study.target.kind}' is no sum over records")
    return of(study, space)


__all__ = ["Likelihood", "likelihood_of"]

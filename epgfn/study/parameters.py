"""Whether all sites have one set of parameters, and what a node sends then beside its policy: [target] `parameters`.

own       every site's records have coefficients of their own; a node sends a policy, and the result is their product
shared    all records have the same; a node sends a statistic beside its policy, and the result is the posterior of all records together
"""

from __future__ import annotations

from typing import Final

from epgfn.sealing.binding import MODEL_PAYLOAD, STATISTIC_PAYLOAD
from epgfn.study.study import Study


def is_shared(study: Study) -> bool:
    """Whether nodes send a statistic beside their policies."""
    return getattr(study.target, "parameters", "own") == "shared"


def why_no_effects(study: Study) -> str:
    """Why no effects can be told from a result of this study, in a sentence; empty where they can."""
    if not study.kind.has_edges:
        return "effects are asked of graphs, and this study is not about graphs"
    if not study.columns.numeric:
        return "effects are told of numbers; for categories they would need the counts of all records, and no result holds these"
    if not is_shared(study):
        return (
            "this study has target.parameters = 'own': every site has coefficients of its own, which never leave it; a policy tells how "
            "probable an edge is, not how strong. Effects need a study with target.parameters = 'shared', where a statistic is sent as well"
        )
    if study.target.kind != "bge":
        return f"target.kind = '{study.target.kind}' has no distribution of coefficients, of which effects are made; 'bge' has"
    if study.design.column is not None:
        return (
            "this study has a design: each variable's coefficients come from the rows in which it was not set, and the result holds no "
            "statistic for each of these groups of rows"
        )
    return ""


POOLED: Final = "score of all records"
"""In a summary's diagnostics, what the model was trained on and judged by."""


def payload_of(study: Study) -> str:
    """The media type of what a node seals."""
    return STATISTIC_PAYLOAD if is_shared(study) else MODEL_PAYLOAD


def statistic_in_words(study: Study) -> str:
    """What exactly is sent beside the policy, as part of a sentence; empty where nothing is."""
    if not is_shared(study):
        return ""
    arms = ", for each group of arms that a variable's score is taken from," if study.design.column else ""
    if study.privacy.is_private:
        of = (
            "how many records there are, their sums and sums of products"
            if study.columns.numeric
            else "its tables of counts"
        )
        return f"the very numbers that were released with noise ({of}), of which the policy is made: they cost no privacy beyond it"
    if study.columns.numeric:
        return f"exactly{arms} how many records there are, the mean of each variable, and the covariance of each two"
    most = study.space.max_parents + 1
    if most >= len(study.variables):
        return f"exactly{arms} how many records show each combination of values of all columns, which is the table itself"
    return f"exactly{arms} how many records show each combination of values of any {most} columns"


def agreement_in_words(study: Study) -> str:
    """What taking part with shared parameters means beyond a policy, in a sentence without its full stop; empty for any other study."""
    if not (what := statistic_in_words(study)):
        return ""
    published = ""
    if not study.privacy.is_private:
        published = (
            "; and whoever reads the published model can compute the same of all nodes' records together"
        )
        if not why_no_effects(study):
            published += ", which the result holds as well, for causal effects"
    return (
        "this study has target.parameters = 'shared': all sites' records are taken for one population, and beside its policy each node "
        f"sends the coordinator a statistic of its records: {what}{published}"
    )

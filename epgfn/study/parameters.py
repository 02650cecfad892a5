"""Whether all sites have one set of parameters, and what a node sends then beside its policy: [target] `parameters`.

own       every site's records have coefficients of their own; a node sends a policy, and the result is their product
shared    all records have the same; a node sends a statistic beside its policy, and the result is the posterior of all records together
"""

from __future__ import annotations

from typing import Final

from epgfn.sealing.binding import MASKED_PAYLOAD, MODEL_PAYLOAD, STATISTIC_PAYLOAD
from epgfn.study.study import Study


def is_shared(study: Study) -> bool:
    """Whether the result is the posterior of all records together, from nodes' statistics."""
    return getattr(study.target, "parameters", "own") == "shared"


def is_masked(study: Study) -> bool:
    """Whether nodes send their statistic under masks and no policy, so that the coordinator reads the total alone."""
    return study.aggregation.sums == "masked"


def why_no_effects(study: Study) -> str:
    """Why no effects can be told from a result of this study, in a sentence; empty where they can."""
    if not study.kind.has_edges:
        return "effects are asked of graphs, and this study is not about graphs"
    if study.columns.mixed:
        return (
            "effects are told of numbers alone; where a study has categories too they would need a statistic of all records for each "
            "combination of categories, and no result holds these"
        )
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
    if is_masked(study):
        return MASKED_PAYLOAD
    return STATISTIC_PAYLOAD if is_shared(study) else MODEL_PAYLOAD


def statistic_in_words(study: Study) -> str:
    """What exactly is sent beside the policy, or under masks in its place, as part of a sentence; empty where nothing is."""
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
    if is_masked(study):
        return f"{_masked_in_words(study, what)}{_published(study)}"
    return (
        "this study has target.parameters = 'shared': all sites' records are taken for one population, and beside its policy each node "
        f"sends the coordinator a statistic of its records: {what}{_published(study)}"
    )


def _masked_in_words(study: Study, what: str) -> str:
    t, nodes = study.aggregation.quorum, len(study.roster)
    return (
        "this study has aggregation.sums = 'masked': all sites' records are taken for one population, and no node sends a model. Each "
        "sends a statistic of its records under masks that cancel in the sum over nodes, and the coordinator reads the total alone, of all "
        f"who take part: {what}. That holds as long as fewer than {t} nodes side with a coordinator that keeps to the protocol, or fewer "
        f"than {2 * t - nodes} with one that does not, and the other names in the roster are who they say. Nodes that side with it can "
        "take their own numbers off the total, which leaves the sum of the others'. Nobody can check what a node puts under its masks"
    )


def _published(study: Study) -> str:
    """What readers of the result learn, as the end of a sentence."""
    published = ""
    if not study.privacy.is_private:
        published = (
            "; and whoever reads the published model can compute the same of all nodes' records together"
        )
        if not why_no_effects(study):
            published += ", which the result holds as well, for causal effects"
    return published


def privacy_in_words(study: Study) -> str:
    """What the study's privacy mode means of what a node sends, as a sentence."""
    if is_masked(study):
        return (
            "none: no noise is added to what a node computes from its records. Masks hide it from everybody, the coordinator too; the "
            "total of all nodes is read, and published."
        )
    return study.privacy.in_words(study.protected)

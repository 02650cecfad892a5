"""What the report says of the coordinator's own grade of the global model, where nobody knows the truth."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

from epgfn.gflownet.measure.trust import LARGEST_ERROR
from epgfn.gflownet.measure.trust import Verdict as Grade
from epgfn.run.report.disagreement import listed
from epgfn.run.report.run import Run
from epgfn.run.report.text import number
from epgfn.run.report.words import Words, words_of
from epgfn.study.parameters import POOLED

UNRELIABLE = "Do not rely on these probabilities: the global model missed its target."
UNCERTAIN = "Do not rely on these probabilities: the nodes' models are too inaccurate to be multiplied."
FOREIGN = "Do not rely on these probabilities: they are of {objects} that the models of {nodes} hardly ever met in training."


class Trusted(NamedTuple):
    """`tone` as a verdict's; `warning` comes before anything else, empty where there is none; `detail` the figures behind it."""

    tone: Literal["good", "fair", "poor"]
    warning: str
    detail: str


NOISE = (
    " All of that is about what was released with noise. How far the noise is from the records nobody can see from here; epgfn privacy "
    "plan says what to expect of it for so many records."
)


def trusted(run: Run) -> Trusted | None:
    """None where the summary says nothing of it that can be read."""
    found = _trusted(run)
    if found is None or not run.study.privacy.is_private:
        return found
    return found._replace(detail=found.detail + NOISE)


def _trusted(run: Run) -> Trusted | None:
    diagnostics = run.summary.get("diagnostics")
    trust = diagnostics.get("trust") if isinstance(diagnostics, dict) else None
    if not isinstance(trust, dict) or trust.get("verdict") not in get_args(Grade):
        return None
    wanted = [
        trust.get("effective_share"),
        trust.get("moved_by_weights"),
        trust.get("exact_largest_error", 0.0),
    ]
    wanted += [trust.get("missing_share", 0.0), trust.get("product_error", 0.0)]
    if not all(isinstance(x, int | float) for x in wanted):
        return None
    words, basis, grade = words_of(run.study), run.summary.get("probabilities_from"), trust["verdict"]
    if basis == "exact":
        return Trusted("good", "", _exact(trust, words))
    wrong, why = trust.get("product_error", 0.0) > 2 * LARGEST_ERROR, UNCERTAIN
    if strangers := _strangers(run, trust):
        wrong, why = True, FOREIGN.format(objects=words.objects, nodes=listed(strangers))
    if basis == "product":
        if wrong:
            return Trusted("poor", why, _product(trust, words))
        return Trusted("good" if grade == "good" else "fair", "", _product(trust, words))
    if basis == "chains":
        apart = trust.get("chains_apart")
        if not isinstance(apart, int | float):
            return None
        if wrong:
            return Trusted("poor", why, _chains(trust, words))
        return Trusted("good" if apart <= LARGEST_ERROR else "fair", "", _chains(trust, words))
    if grade == "not to be relied on":
        return Trusted("poor", why if wrong else UNRELIABLE, _sampled(trust, words))
    return Trusted("good" if grade == "good" else "fair", "", _sampled(trust, words))


def _strangers(run: Run, trust: dict[str, Any]) -> list[str]:
    """Nodes of the roster whose models do not know where their product lies."""
    named = trust.get("strangers")
    return [node for node in run.study.roster if node in named] if isinstance(named, list) else []


def _exact(trust: dict[str, Any], words: Words) -> str:
    return (
        f"The published {words.probabilities} are exact for what the nodes sent: the coordinator worked them out from the sum of their "
        f"score tables, over all {words.objects}. {_own_samples(trust)}"
    )


def _product(trust: dict[str, Any], words: Words) -> str:
    return (
        f"The published {words.probabilities} are those of the product of what the nodes' models sample, worked out over all "
        f"{words.objects}; they are as good as these models.{_of_models(trust, 'these')} {_own_samples(trust)}"
    )


def _of_models(trust: dict[str, Any], models: str) -> str:
    """What the nodes' models say of their own errors."""
    if "product_error" not in trust:
        return ""
    return f" What {models} are off by, by their own word, may move a probability by about {number(trust['product_error'])}."


def _chains(trust: dict[str, Any], words: Words) -> str:
    """Probabilities that Markov chains give where the model does not."""
    product = trust.get("target") == "product of the models"
    target = "the product of the nodes' models" if product else "the sum of the nodes' score tables"
    if trust.get("target") == POOLED:
        target = "the score of all records together"
    said = (
        f"The published {words.probabilities} are not the global model's: they come from Markov chains over {words.objects} on {target}, "
        f"which is what the model was to learn. Two halves of the chains, started apart, differ by {number(trust['chains_apart'])} at most."
    )
    off = number(trust.get("chains_largest_error", 1.0))
    said += _of_models(trust, "the nodes' models")
    return f"{said} The global model's own samples differ from the chains by up to {off}: {trust['verdict']}."


def _own_samples(trust: dict[str, Any]) -> str:
    """What the model itself adds to probabilities that do not come from it."""
    said, error = "The global model's own samples", number(trust.get("exact_largest_error", 0.0))
    if trust["verdict"] == "good" or trust.get("exact_largest_error", 1.0) <= LARGEST_ERROR:
        return f"{said}, unweighted, differ from them by {error} at most."
    if trust["verdict"] == "usable after weighting":
        return f"{said}, unweighted, differ from them by up to {error}; weighted towards them they agree."
    return f"{said} are not to be relied on: unweighted, they differ from them by up to {error}."


def _sampled(trust: dict[str, Any], words: Words) -> str:
    """The figures behind probabilities from samples."""
    towards = "the nodes' own score tables add up to"
    if trust.get("target") == "product of the models":
        towards = "the nodes' models give when they are multiplied"
    said = (
        f"The coordinator compared its model with what {towards}: the effective share of its samples is "
        f"{number(trust['effective_share'])}, and weighting them moves a probability by {number(trust['moved_by_weights'])} at most."
    )
    said += _of_models(trust, "the nodes' models")
    if "exact_largest_error" in trust:
        return f"{said} The exact answer differs from the model's by {number(trust['exact_largest_error'])} at most."
    if "chains_largest_error" in trust:
        said += (
            f" Markov chains on the same scores, which know nothing of it, differ from its samples by "
            f"{number(trust['chains_largest_error'])} at most, and halves of them from each other by {number(trust['chains_apart'])}."
        )
    elif "chains_apart" in trust:
        said += f" Markov chains on the same scores do not agree: halves of them differ by {number(trust['chains_apart'])}."
    if "missing_share" in trust:
        said += f" {words.objects.capitalize()} drawn by others show that it lacks {number(trust['missing_share'])} of its target at least."
    return f"{said} No exact answer is at hand, so take the probabilities as provisional."

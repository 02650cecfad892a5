"""The section on training, and on what the coordinator can tell of each model without any truth."""

from __future__ import annotations

import json
from typing import Any

from epgfn.run.report.html import Markup, facts, picture, subsection, table
from epgfn.run.report.run import Run
from epgfn.run.report.text import number, plain
from epgfn.run.report.words import Words, words_of
from epgfn.study.settings import TrainingSettings

DIAGNOSTICS = {
    "objects": "{objects} judged",
    "trajectories": "trajectories into each",
    "effective_share": "effective share, global",
    "effective_samples": "effective sample size, of the {objects} judged",
    "spread_nats": "spread (nats)",
    "alpha": "α",
    "beta": "β",
    "divergence_bound_nats": "divergence bound (nats)",
    "disagreement_nats": "disagreement (nats)",
    "overlap": "the nodes",
    "trust": "against the best target known",
    "missing_share": "lacking at least",
    "product_error": "the local models' own error, about",
    "exact_l1": "L1",
    "khat": "Pareto k̂",
    "moved_by_weights": "moved by weights",
    "chains_apart": "halves of Markov chains differ by",
    "chains_apart_mean": "the same on average",
    "chains_mean_error": "mean difference from Markov chains",
    "chains_largest_error": "largest difference from Markov chains",
    "chains_weighted_error": "largest difference from Markov chains after weighting",
    "exact_mean_error": "mean error",
    "exact_largest_error": "largest error",
    "exact_weighted_error": "largest error after weighting",
}


def training(run: Run, png: bytes | None) -> Markup:
    """Curves and what the coordinator can tell without any truth."""
    settings, words = run.study.aggregation, words_of(run.study)
    diagnostics = dict(run.summary.get("diagnostics") or {})
    nodes, overlap = diagnostics.pop("nodes", None), diagnostics.pop("overlap", None)
    diagnostics.pop("parameters", None)  # with the edges
    if isinstance(overlap, dict):
        diagnostics["overlap"] = overlap.get("verdict")
    told = facts([
        ("local objective", f"{run.study.training.objective}, {_planned(run.study.training)}"),
        ("global objective", f"{run.study.aggregating_objective}, {_planned(settings, len(run.history))}"),
        *((_called(key, words), _value(value, words)) for key, value in diagnostics.items()),
    ])  # fmt: skip
    picture_of = ""
    if png is not None:
        who = "the global model" + (" and each local model" if run.local_histories else "")
        picture_of = picture(
            png,
            f"Training curves of {who}: loss and effective share of the batch against the step.",
            "The loss is how unevenly a model's trajectories fit their target, 0 being perfect; the two kinds of model have different "
            "targets. The effective share says how much of a batch counts when it is weighted towards the target."
            + (" Local curves never leave a node in a real study." if run.local_histories else ""),
        )
    return subsection("Training and diagnostics", picture_of, told, _node_diagnostics(nodes, words))


def _planned(settings: TrainingSettings, done: int = 0) -> str:
    """How long a model is trained, and, where that was left open, how many steps were `done`."""
    most = f"{settings.steps} steps of {settings.batch} trajectories"
    if settings.until == "steps":
        return most
    return f"until good, at most {most}" + (f", {done} taken" if done else "")


def _node_diagnostics(nodes: Any, words: Words) -> Markup | str:
    """What the coordinator can tell of each local model without its reward."""
    if not isinstance(nodes, dict) or not all(isinstance(row, dict) for row in nodes.values()):
        return ""
    found = {key for row in nodes.values() for key in row}
    keys = [key for key in DIAGNOSTICS if key in found] + sorted(found - set(DIAGNOSTICS))
    head = [_called(key, words) for key in keys]
    rows = [[node, *(_value(row.get(key), words) for key in keys)] for node, row in nodes.items()]
    caption = (
        "Diagnostics, not a proof of honest training: local models, judged without their rewards on "
        f"{words.objects} of the global model. Spread: how much a model's trajectories into one {words.one} disagree, 0 being "
        "perfect. Disagreement: how far a model's log-probabilities are from the nodes' mean."
    )
    if "divergence_bound_nats" in found:
        caption += (
            " Divergence bound: log((1 + β) / (1 − α)), where nearly all sampled trajectories have a p_F / p_B between 1 − α and "
            f"1 + β times the model's own probability of the {words.one}. An exactly balanced global model is at most the sum of "
            "this column away from the product of the local models (Jeffreys divergence, arXiv 2406.03288). It is an estimate "
            "from samples, and says nothing of how far a local model is from its own records."
        )
    return table(caption, ["node", *head], rows, numeric=head)


def _called(key: object, words: Words) -> str:
    if str(key) not in DIAGNOSTICS:
        return str(key).replace("_", " ")
    return DIAGNOSTICS[str(key)].format(objects=words.objects)


def _value(value: Any, words: Words) -> object:
    """A diagnostic for people: a number with three decimals, a mapping as "name number, ..."."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return ", ".join(f"{plain(_called(k, words))} {_value(v, words)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(str(_value(item, words)) for item in value)
    return value if isinstance(value, str) else json.dumps(value)

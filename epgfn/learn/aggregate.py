"""Aggregation: one global model from N frozen local models, without a reward.

The loss sees the locals' log p_F^(n)(tau) - log p_B^(n)(tau | x), or, where their models carry score tables, the sum of those, and
nothing else; for nodes that never reported, their share of the public prior is added, since it is public. What is known beforehand
goes into the start: where models carry score tables, the global table is the sum of theirs.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.base.notebook import notebook_bar
from epgfn.gflownet import parallel
from epgfn.gflownet.device import CPU, computing_on, on_cpu, seeded
from epgfn.gflownet.losses import make_loss
from epgfn.gflownet.measure.diagnostics import diagnose
from epgfn.gflownet.measure.trust import error_of_product, verdict_of_product
from epgfn.gflownet.policies import apart, make_policy
from epgfn.gflownet.policies.base import Policy, Stating
from epgfn.gflownet.policies.order_potential import scores_of
from epgfn.gflownet.product import SCORES, FrozenProduct, UnusableFactors, train_product
from epgfn.gflownet.spaces import DagSpace
from epgfn.gflownet.spaces.base import LogReward
from epgfn.gflownet.spaces.parent_index import modular_score
from epgfn.gflownet.training.loop import Options, Parts, Progress, Watch, draw_of, fit
from epgfn.learn.best_target import moves_of, of_models, of_tables
from epgfn.learn.effects import statistic_said
from epgfn.learn.exact import exact_of_table
from epgfn.learn.masked import TOTAL, decode, pooled_of_total, total_of
from epgfn.learn.overlap import overlap_of, told
from epgfn.learn.policy import family_of, initial_policy, validate_upload
from epgfn.learn.scores import prior_table
from epgfn.learn.shared import Pooled, pooled
from epgfn.learn.shared import apart as apart_of
from epgfn.learn.trust import Judge, Judged, More, parts_of, table_target
from epgfn.study.objects import space_of
from epgfn.study.parameters import POOLED, is_masked, is_shared, why_no_effects

if TYPE_CHECKING:
    from epgfn.study import Study


NOT_COMBINED = "model-not-combined"
"""Why a model is excluded that passed every check and yet gives what the others allow no probability, or no number."""


class UnusableModels(RefusedError):
    """Some of the models cannot be combined with the others: `reasons`, stable slugs by node id. Without them it may well go."""

    def __init__(self, reasons: Mapping[str, str], message: str) -> None:
        super().__init__(next(iter(reasons.values())), message)
        self.reasons = dict(reasons)


class GlobalResult(NamedTuple):
    """`tensors` as `policy_spec(study)` prescribes, float32; `history` one dict a step; `diagnostics` as `measure.diagnostics`
    says; `judged` how far the model may be believed, and the best probabilities that are at hand; `more` what is published beside
    them."""

    tensors: dict[str, Tensor]
    history: list[dict[str, Any]]
    diagnostics: dict[str, Any]
    judged: Judged
    more: More


def train_global(
    study: Study,
    locals: Mapping[str, Mapping[str, Tensor]],
    *,
    seed: int,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> GlobalResult:
    """A GFlowNet on the product of the subposteriors that `locals`, tensors by node id, were trained on.

    With K of the roster's N nodes present the target is prod_n R_n(x) * pi(x)^(1 - K/N): the posterior given their records. Where the study
    has all sites share their parameters it is that of their records together, from the statistics that `locals` hold as well. Where sums
    are masked `locals` are the nodes' numbers, or their total under the name `TOTAL`.
    The result does not depend on the order of `locals`. Computed on PyTorch's default device, returned in main memory.

    Raises:
        RefusedError: a node that is not in its roster; UnusableModels, by name: models that are not a policy of this study, or that give
            what the others allow no probability, or no number.
        EpgfnError: no models, training diverged, or `stop` was set.
    """
    if not locals:
        raise EpgfnError(
            "no local model is there to aggregate; wait until at least one node has sent its own"
        )
    sent = {node: locals[node] for node in sorted(locals)}
    with computing_on(CPU):
        _check(study, sent)
        together = None
        if is_masked(study):
            together = _of_total(study, sent)
            sent = {TOTAL: initial_policy(study, together.table, seeded(seed))}
        elif is_shared(study):
            together = _pooled(study, sent)
        # The score of a total has the prior in it once, whoever is in it.
        present = len(study.roster) if is_masked(study) else len(sent)
        prior_share = absent_prior_share(study, present) if study.target_kind.is_modular else None
    here = torch.get_default_device()
    models = {
        node: {name: t.to(here) for name, t in apart_of(tensors)[0].items()} for node, tensors in sent.items()
    }
    space, family = space_of(study), family_of(study)
    prior = None if prior_share is None else _log_prior(space, prior_share.to(here))
    stack = make_policy(space, list(models.values()))
    generator = seeded(seed)
    product_table = _start(
        space, models, family.scores, None if prior_share is None else prior_share.to(here)
    )
    start = product_table if together is None else together.table.to(here)
    moves = moves_of(stack)
    if family.by_chains is not None and moves is not None:
        first = family.by_chains(space, moves, generator, False)
    else:
        first = initial_policy(study, start, generator)
    policy = make_policy(space, [first])
    product = FrozenProduct(
        space,
        stack,
        log_prior=prior,
        key=family.key,
        together=family.together,
    )
    local = apart(space, stack, list(models.values()))
    table = None if prior_share is None else start  # of graphs by sinks, whose models carry their scores
    best = (
        of_models(study, stack, local, prior, seed, moves)
        if table is None
        else of_tables(study, table, local, seed)
    )
    judge = Judge(study, policy, best.log_reward, seed, best.exact, best.elsewhere, best.others, best.samples)
    try:
        history = _train(
            study, policy, product, judge, generator, Watch(progress or notebook_bar("global model"), stop)
        )
    except UnusableFactors as error:
        raise _unusable([list(models)[number] for number in error.numbers], str(error)) from None
    found = diagnose(space, policy, stack, list(models), prior, generator)
    if lost := [node for node, said in found["nodes"].items() if not math.isfinite(said["spread_nats"])]:
        raise _unusable(lost, "a local model gives what was drawn no number")
    judged = judge.last()
    if len(models) > 1:
        own = None
        if table is not None and family.scores is not None:
            own = [table_target(space, scores_of(space, model[family.scores])) for model in models.values()]
        found["overlap"] = told(overlap_of(space, policy, local, generator, own), list(models))
    if best.kind == "product of the models":
        judged = _of_product(judged, found, stack)
    if together is not None and product_table is not None:
        for of_product in ("effective_share", "effective_samples", "divergence_bound_nats"):
            found.pop(
                of_product, None
            )  # towards the product of the nodes' policies, which is not what was trained on
        if is_masked(study):
            found.pop("nodes", None)
        found["parameters"] = _beside_own(
            study, together, None if is_masked(study) else product_table, judged
        )
    found["trust"] = {"target": best.kind if together is None else POOLED, **judged.trust}
    return GlobalResult(on_cpu(policy.tensors()), history, found, judged, judge.more(judged.basis))


def _pooled(study: Study, sent: Mapping[str, Mapping[str, Tensor]]) -> Pooled:
    """The score of the records of all who sent their statistic.

    Raises:
        UnusableModels: the one without which the others give a score.
        EpgfnError: they give none, whoever is left out.
    """
    held = {node: apart_of(tensors)[1] for node, tensors in sent.items()}
    try:
        return pooled(study, held)
    except (EpgfnError, ValueError, ArithmeticError) as error:
        for node in held if len(held) > 1 else ():
            try:
                pooled(study, {other: one for other, one in held.items() if other != node})
            except (EpgfnError, ValueError, ArithmeticError):
                continue
            raise UnusableModels({node: NOT_COMBINED}, f"the statistic of node {node}: {error}") from None
        raise EpgfnError(f"the nodes' statistics together give no score: {error}") from None


def _of_total(study: Study, sent: Mapping[str, Mapping[str, Tensor]]) -> Pooled:
    """The score of the records of all whose numbers are there, or in the total that is.

    Raises:
        RefusedError: "statistic-not-sound": they give none. Whose fault that is, nobody can see.
    """
    try:
        return pooled_of_total(study, decode(study, total_of(sent)))
    except RefusedError as error:
        raise RefusedError("statistic-not-sound", str(error)) from None
    except (EpgfnError, ValueError, ArithmeticError):
        raise RefusedError(
            "statistic-not-sound",
            "the total of the masked sum gives no score: a node sent what it did not compute from its records; there is no result, run "
            "another round",
        ) from None


def _beside_own(
    study: Study, together: Pooled, product_table: Tensor | None, judged: Judged
) -> dict[str, Any]:
    """What one set of parameters for all sites makes of the result, beside the product in which each has its own, where the nodes' policies
    are there to make it: `target`, `records`,
    `between` the sites' means of each variable's variance; the `statistic` of all records, where effects can be told of it; and where both
    are exact `own` by question, with the mean and largest difference and where that is."""
    found: dict[str, Any] = {"target": "shared", "records": together.records}
    if together.between:
        found["between"] = dict(zip(study.variable_names, together.between, strict=True))
    if together.moments is not None and not why_no_effects(study):
        found["statistic"] = statistic_said(together.moments)
    if judged.basis != "exact" or product_table is None:
        return found
    with computing_on(CPU):
        own = exact_of_table(study, product_table.cpu())
    if own is None:
        return found
    apart_by = {name: p - own.probabilities[name] for name, p in judged.probabilities.items()}
    where = max(apart_by, key=lambda name: abs(apart_by[name]))
    return {
        **found,
        "own": dict(own.probabilities),
        "mean_difference": sum(map(abs, apart_by.values())) / len(apart_by),
        "largest_difference": abs(apart_by[where]),
        "largest_at": where,
    }


def _of_product(judged: Judged, found: Mapping[str, Any], stack: Policy[Any]) -> Judged:
    """With what the local models' own inconsistency, in the diagnostics `found`, says of a target that is their product; and with what they
    state themselves, where there is one way into each object and nothing to be inconsistent in."""
    spreads = [node["spread_nats"] for node in found["nodes"].values()]
    if isinstance(stack, Stating):
        spreads = [math.hypot(spread, stack.error(number)) for number, spread in enumerate(spreads)]
    error = error_of_product(spreads)
    overlap = found.get("overlap", {})
    contradict, strangers = overlap.get("verdict") == "contradict", overlap.get("strangers", [])
    grade = verdict_of_product(judged.trust["verdict"], error, contradict=contradict, strange=bool(strangers))
    trust = {**judged.trust, "product_error": error, "strangers": strangers, "verdict": grade}
    return judged._replace(trust=trust, basis="product" if judged.basis == "exact" else judged.basis)


def _train(
    study: Study,
    policy: Policy[Any],
    product: FrozenProduct[Any],
    judge: Judge,
    generator: torch.Generator,
    watch: Watch,
) -> list[dict[str, Any]]:
    """Train `policy` in place: towards the nodes' summed scores, or towards the product of their policies and then, where that is not
    good enough, towards the target of `judge`, which is better known."""
    draw = draw_of(family_of(study).together)
    if study.aggregating_objective == SCORES:
        summed = make_loss(product.space, judge.log_reward, "contrastive", generator=generator)
        return fit(
            policy,
            product.space,
            study.aggregation,
            summed,
            generator,
            watch=watch,
            options=Options(draw),
            parts=parts_of(study, study.aggregation, judge),
        )
    first, *more = study.parts_of(study.aggregation)
    family = family_of(study)
    if more and family.touch is not None:
        first, more = family.touch, []
    history = train_product(
        policy,
        product,
        study.aggregation.model_copy(update={"steps": first}),
        generator,
        objective=study.aggregating_objective,
        progress=watch.progress,
        stop=watch.stop,
        draw=draw,
    )
    if not more or parallel.number_from_first(judge.is_good()):
        return history
    loss = make_loss(product.space, judge.log_reward, "contrastive", generator=generator)
    later = fit(
        policy,
        product.space,
        study.aggregation,
        loss,
        generator,
        watch=_after(first, watch),
        options=Options(draw),
        parts=Parts(more, judge.is_good, judge.lacking),
    )
    return history + [{**row, "step": row["step"] + first, "steps": row["steps"] + first} for row in later]


def _after(first: int, watch: Watch) -> Watch:
    """The same, told of steps as those after the `first` ones."""
    tell = watch.progress
    if tell is None:
        return watch
    return watch._replace(progress=lambda at: tell(at._replace(step=at.step + first, steps=at.steps + first)))


def absent_prior_share(study: Study, present: int) -> Tensor:
    """(V, K) float64 (1 - K/N) log pi per variable and parent set, with K = `present` of the roster's N nodes (nats)."""
    table = torch.as_tensor(prior_table(study), dtype=torch.float64)
    share = 1 - present / len(study.roster)
    return torch.where(torch.isfinite(table), table * share, 0.0)


def _log_prior(space: DagSpace, share: Tensor) -> LogReward[Any]:
    return lambda state: modular_score(share, state.adjacency, space.max_parents)


def _start(
    space: Any, models: Mapping[str, Mapping[str, Tensor]], scores: str | None, prior_share: Tensor | None
) -> Tensor | None:
    """What is known of the product beforehand, float64: the sum of the tensors `scores`, where models carry them, and the absent
    nodes' share of the prior. What the study's knowledge bars is -inf in each of the tables, and so in their sum."""
    if scores is None:
        return None
    tables = [model[scores] for model in models.values() if scores in model]
    if prior_share is not None:
        tables = [scores_of(space, table) for table in tables]
    tables = [table.double() for table in tables]
    known = [*tables, *([] if prior_share is None else [prior_share])]
    return torch.stack(known).sum(0) if known else None


def _check(study: Study, models: Mapping[str, Mapping[str, Tensor]]) -> None:
    for node in models:
        if node not in study.roster and not (is_masked(study) and node == TOTAL):
            raise RefusedError(
                "not-in-roster",
                f"node {node} is not in the study's roster; aggregate only the roster's models",
            )
    wrong: dict[str, RefusedError] = {}
    for node, tensors in models.items():
        try:
            validate_upload(study, node, tensors)
        except RefusedError as error:
            wrong[node] = error
    if wrong:
        told_of = "; ".join(f"model of node {node}: {error}" for node, error in wrong.items())
        raise UnusableModels({node: error.reason for node, error in wrong.items()}, told_of)


def _unusable(nodes: list[str], message: str) -> EpgfnError:
    """What to raise of models that were checked and yet fail; where none is to blame, no model can be left out for it."""
    if not nodes:
        return EpgfnError(message)
    return UnusableModels(dict.fromkeys(nodes, NOT_COMBINED), f"models of {', '.join(nodes)}: {message}")

"""How far a model may be believed, and the best probabilities that are at hand, by the best target that is.

    a node's own model          its own log-reward
    a global model by sinks     the sum of its nodes' score tables: each says log R_n exactly, and what the local networks add is error

The product of the policies, towards which a global model is trained, is not the best target where there are tables: it holds every
local error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.device import CPU, computing_on, seeded
from epgfn.gflownet.measure.coverage import missing_from
from epgfn.gflownet.measure.distances import l1
from epgfn.gflownet.measure.equivalence import compelled_given_edge
from epgfn.gflownet.measure.estimates import Own, defended_samples, own_samples
from epgfn.gflownet.measure.trust import CHAINS_AGREE, LARGEST_ERROR, pareto_khat, verdict_of, weights_hold
from epgfn.gflownet.policies import untrained
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.sampling.rollout import sample
from epgfn.gflownet.spaces import DagSpace
from epgfn.gflownet.spaces.base import LogReward, Space, joined, take
from epgfn.gflownet.training.loop import Parts, table_reward
from epgfn.learn.elsewhere import (
    ChainAnswer,
    Elsewhere,
    GraphChains,
    Start,
    TreeAnswer,
    TreeChains,
    draws_of,
)
from epgfn.learn.exact import Exact
from epgfn.learn.policy import family_of
from epgfn.study import Study
from epgfn.study.objects import questions, space_of, written
from epgfn.study.settings import TrainingSettings

MANY_VARIABLES, FEW_GRAPHS = 25, 2000
"""Beyond so many variables, of how many graphs it is told which edges are compelled: rule 3 takes V^4 steps a graph."""
TOP: Final = 20
"""Objects that are named with their probabilities, where all are listed."""
SAMPLES, LOCAL_SAMPLES = 10_000, 4096
"""Own samples behind a judgement of a global and of a local model: a standard error of at most .005 and .008 where all count alike."""
GOAL: Final = 0.03
"""Training goes on while a probability is known to be off by more than this: several models' errors add up in their product."""
MULTIPLIED: Final = 0.9
"""Effective share up to which a local model is trained whose own log p_T, and no score table, goes into the product of all nodes': its
errors, of a standard deviation of about .3 nats there, count in full where all of them add up."""
EXPLORED: Final = 256
"""Tempered and exploring trajectories that look for what it lacks."""
BLOCK: Final = 1024

Basis = Literal["exact", "product", "weighted", "chains", "samples"]
"""Where probabilities come from: sums over all objects under log-rewards, or under the product of what the nodes' models sample; own
samples weighted towards the target; Markov chains on the score table that agree among themselves; own samples as they are."""


class Judged(NamedTuple):
    """`trust`: the figures and the `verdict`, as JSON has them. `probabilities`: the best at hand, by the names of
    `epgfn.study.objects.questions`, and where they come from. `lacking`: finished states that the model was found to lack, or None. `own`:
    what it drew to be judged by."""

    trust: dict[str, Any]
    probabilities: dict[str, float]
    basis: Basis
    lacking: Any = None
    own: Own[Any] | None = None


def basis_of_samples(study: Study, verdict: object, basis: Basis) -> Basis:
    """What the objects are drawn from that are published beside probabilities on this `basis`: "samples", the model's own, where its
    verdict is "good" or there is no score table to draw from; else the basis, so that samples say nothing worse than probabilities."""
    drawable = study.target_kind.is_modular and family_of(study).scores is not None
    return basis if drawable and verdict != "good" and basis in ("exact", "weighted", "chains") else "samples"


class More(NamedTuple):
    """What is published beside the probabilities, on their own basis. `compelled`: of graphs, (V, V) float64 P(i -> j is compelled, given
    that it is there). `top`: of other objects that are listed, the most probable ones, best first."""

    compelled: Tensor | None = None
    top: list[tuple[str, float]] | None = None


class Judge:
    """Judges one model as often as it is asked to. What is exact is worked out once, when first needed."""

    def __init__(
        self,
        study: Study,
        policy: Policy[Any],
        log_reward: LogReward[Any],
        seed: int,
        exact: Callable[[], Exact | None],
        elsewhere: Elsewhere,
        others: Start,
        samples: int = SAMPLES,
        share: float = 0.0,
    ) -> None:
        """The first model of `policy`, as it then is, against `log_reward` (nats); every judgement draws the same with `seed`.
        `elsewhere` draws from the target, `others` are objects of any kind. Below `share`, the effective one of its samples, no model
        is good enough for what is yet made of it."""
        self.log_reward = log_reward
        self._study, self._policy, self._seed, self._samples = study, policy, seed, samples
        self._share = share
        self._exact, self._elsewhere, self._others = cache(exact), elsewhere, cache(others)
        self._found: Judged | None = None
        self._good: Judged | None = None
        self._last: Judged | None = None

    def is_good(self) -> bool:
        """Whether the model as it is now is "good", with something to spare for what is yet made of it."""
        self._found = found = self._look()
        error = found.trust.get("exact_largest_error", found.trust["moved_by_weights"])
        enough = error <= GOAL and found.trust["effective_share"] >= self._share
        good = bool(found.trust["verdict"] == "good" and enough)
        self._good = found if good else None
        return good

    def lacking(self) -> Any:
        """Finished states that the model as it was last looked at lacks, or None: before the first look, and where it lacks none."""
        if self._found is None or self._good is not None:
            return None
        exact = self._exact()
        if exact is None:
            return self._found.lacking
        space, generator = space_of(self._study), seeded(self._seed)
        own = own_samples(self._policy, space, self.log_reward, LOCAL_SAMPLES, generator)
        drawn = (draws_of(self._study, exact, self._seed) or self._elsewhere)(self._policy)
        return missing_from(
            self._policy, space, self.log_reward, own, drawn, self._others(), generator
        ).lacking

    def last(self) -> Judged:
        """Of the trained model. Training ends once a judgement was good, so that is not made twice."""
        self._last = self._good or self._look()
        return self._last

    def more(self, basis: Basis) -> More:
        """What goes with probabilities that come from `basis`, from what the model drew for them when it was last judged."""
        study, exact = self._study, self._exact() if basis in ("exact", "product") else None
        if not study.kind.has_edges:
            return More(top=None if exact is None else _top(study, exact))
        if exact is not None and exact.listed is not None and exact.mass is not None:
            graphs, weight = exact.listed.state.adjacency, exact.mass
        elif exact is not None and exact.drawn is not None:
            graphs = exact.drawn(SAMPLES, self._seed)
            weight = torch.ones(len(graphs), dtype=torch.float64)
        elif basis == "chains" and isinstance(self._elsewhere, GraphChains):
            graphs = self._elsewhere.answer().graphs
            weight = torch.ones(len(graphs), dtype=torch.float64)
        else:
            own = (self._last or self.last()).own
            assert own is not None
            graphs, weight = own.final.adjacency, torch.softmax(own.log_weight.double(), 0)
            holds = weights_hold(own.effective_share * len(weight), pareto_khat(own.log_weight.cpu()))
            if not holds:
                graphs, weight = graphs[: self._samples], torch.ones_like(weight[: self._samples])
        apart = -(-len(graphs) // FEW_GRAPHS) if graphs.shape[1] > MANY_VARIABLES else 1
        with computing_on(CPU):
            return More(compelled=compelled_given_edge(graphs[::apart].cpu(), weight[::apart].cpu()))

    def _look(self) -> Judged:
        exact = self._exact()
        elsewhere = None
        chains: ChainAnswer | TreeAnswer | None = None
        if exact is None:
            elsewhere = self._elsewhere(self._policy), self._others()
            if isinstance(self._elsewhere, GraphChains | TreeChains):
                chains = self._elsewhere.answer()
        return judge(
            self._study,
            self._policy,
            self.log_reward,
            seeded(self._seed),
            exact=exact,
            samples=self._samples,
            elsewhere=elsewhere,
            answer=chains,
        )


def parts_of(study: Study, settings: TrainingSettings, judge: Judge) -> Parts | None:
    """How long to go on by `settings`, one of the study's own; None for so many steps. A model that was taught when it was made is trained
    in one part: more have not been seen to make it good, and what chains say of it is published all the same."""
    family, lengths = family_of(study), study.parts_of(settings)
    if len(lengths) == 1:
        return None
    once = family.taught is not None and family.taught(space_of(study))
    if once and family.touch is not None:
        return Parts([family.touch], judge.is_good, judge.lacking)
    return Parts(lengths[:1] if once else lengths, judge.is_good, judge.lacking)


@torch.no_grad()
def judge(
    study: Study,
    policy: Policy[Any],
    log_reward: LogReward[Any],
    generator: torch.Generator,
    *,
    exact: Exact | None = None,
    samples: int = SAMPLES,
    elsewhere: tuple[Any, Any] | None = None,
    answer: ChainAnswer | TreeAnswer | None = None,
) -> Judged:
    """The first model of `policy` against `log_reward` (nats), against what is `exact` where that is known, by finished states from
    `elsewhere`: drawn from the target, and any that others drew, and against the `answer` of chains where it is theirs.

    Where nothing is exact and what the policy was before its training covers the target, samples of that stand beside its own when
    they are weighted: `defended_by` says how many.

    `trust` holds `samples`, `effective_share` and `khat` of the weights; `moved_by_weights`, the most that weighting changes any
    probability; `exact_mean_error` and `exact_largest_error` of the unweighted ones, `exact_weighted_error` the largest of the weighted
    ones; where objects are listed `exact_l1`, the sum of the errors of their probabilities; `chains_apart` and `chains_apart_mean` of
    the answer, and where that is little enough `chains_mean_error`, `chains_largest_error` and `chains_weighted_error` as the exact
    ones; `missing_share` by `measure.coverage`; and the `verdict` of `measure.trust`.
    """
    space = space_of(study)
    own, defended = _own(study, policy, log_reward, generator, exact, samples)
    plain, weighted = own_probabilities(study, own, samples)
    khat, moved = pareto_khat(own.log_weight.cpu()), errors(plain, weighted)[1]
    trust: dict[str, Any] = {
        "samples": samples,
        "effective_share": own.effective_share,
        "khat": khat if math.isfinite(khat) else None,  # JSON has no infinity: too few samples to tell
        "moved_by_weights": moved,
    }
    if defended:
        trust["defended_by"] = len(own.log_weight) - samples
    largest = after = None
    if exact is not None:
        found, largest, after = _against(exact, policy, plain, weighted)
        trust |= found
    missing = lacking = None
    if elsewhere is not None:
        chains, others = elsewhere
        others = joined([others, _explored(policy, space, generator)])
        missing, lacking = missing_from(policy, space, log_reward, own, chains, others, generator)
        trust["missing_share"] = missing
    by_chains: dict[str, float] | None = None
    if answer is not None:
        trust |= {"chains_apart": answer.apart, "chains_apart_mean": answer.apart_mean}
        if answer.apart <= CHAINS_AGREE:
            by_chains = answer.named(plain)
            mean, largest_by_chains = errors(plain, by_chains)
            trust["chains_mean_error"], trust["chains_largest_error"] = mean, largest_by_chains
            trust["chains_weighted_error"] = errors(weighted, by_chains)[1]
    effective = own.effective_share * len(own.log_weight)
    trust["verdict"] = verdict_of(
        effective_samples=effective,
        khat=khat,
        moved=moved,
        largest_error=largest,
        weighted_error=after,
        missing=missing,
        chains_error=trust.get("chains_largest_error"),
        chains_weighted_error=trust.get("chains_weighted_error"),
        chains_apart=trust.get("chains_apart", 0.0),
        chains_silent=answer is not None and by_chains is None,
    )
    if exact is not None:
        return Judged(trust, dict(exact.probabilities), "exact", own=own)
    poor = (
        trust["verdict"] == "not to be relied on" or trust.get("chains_weighted_error", 0.0) > LARGEST_ERROR
    )
    if by_chains is not None and (poor or not weights_hold(effective, khat)):
        return Judged(trust, by_chains, "chains", lacking, own)
    if weights_hold(effective, khat):
        return Judged(trust, weighted, "weighted", lacking, own)
    return Judged(trust, plain, "samples", lacking, own)


def _own(
    study: Study,
    policy: Policy[Any],
    log_reward: LogReward[Any],
    generator: torch.Generator,
    exact: Exact | None,
    samples: int,
) -> tuple[Own[Any], bool]:
    """The model's own samples, and whether others stand behind them that only count when all are weighted."""
    space, defence = space_of(study), untrained(policy) if exact is None else None
    if defence is None:
        return own_samples(policy, space, log_reward, samples, generator), False
    return defended_samples(policy, defence, space, log_reward, samples, generator), True


def _top(study: Study, exact: Exact) -> list[tuple[str, float]] | None:
    """The most probable of listed objects."""
    if exact.listed is None or exact.mass is None:
        return None
    best = exact.mass.topk(min(TOP, len(exact.mass)))
    texts = written(study, take(exact.listed.state, best.indices))
    return list(zip(texts, best.values.tolist(), strict=True))


def _explored(policy: Policy[Any], space: Space[Any], generator: torch.Generator) -> Any:
    """Objects that the model itself comes upon when it is made to explore."""
    found = sample(policy, space, EXPLORED, generator=generator, temperature=2.0, exploration=0.1)
    return found.trajectories.final


def _against(
    exact: Exact, policy: Policy[Any], plain: Mapping[str, float], weighted: Mapping[str, float]
) -> tuple[dict[str, float], float, float]:
    """The figures against what is exact, and the largest error before and after weighting: of the probability of a question, or of an
    object where those are listed."""
    more: dict[str, float] = {}
    of_object = 0.0
    if exact.listed is not None and exact.mass is not None:
        mass = exact.listed.mass(policy)
        plain = exact.listed.probabilities(mass)
        of_object = float((mass - exact.mass).abs().max())
        more["exact_l1"] = l1(mass, exact.mass)
    mean, largest = errors(plain, exact.probabilities)
    largest, after = max(largest, of_object), errors(weighted, exact.probabilities)[1]
    figures = {"exact_mean_error": mean, "exact_largest_error": largest, "exact_weighted_error": after}
    return {**more, **figures}, largest, after


def own_probabilities(
    study: Study, own: Own[Any], count: int | None = None
) -> tuple[dict[str, float], dict[str, float]]:
    """Of each question, from the first `count` of own samples as they are (None: from all), and from all weighted towards the target."""
    weight = torch.softmax(own.log_weight.double(), 0)
    first = len(weight) if count is None else count
    plain: dict[str, float] = {}
    weighted: dict[str, float] = {}
    for rows in torch.split(torch.arange(len(weight)), BLOCK):
        names, answers = questions(study, take(own.final, rows))
        share = answers.double()[rows < first].sum(0) / first
        better = weight[rows] @ answers.double()
        for name, one, other in zip(names, share.tolist(), better.tolist(), strict=True):
            plain[name] = plain.get(name, 0.0) + one
            weighted[name] = weighted.get(name, 0.0) + other
    return plain, weighted


def table_target(space: DagSpace, table: Tensor) -> LogReward[Any]:
    """Log R of graphs from (V, K) float64 log-scores (nats), less a constant, -inf of graphs that the space's rules bar."""
    barred = ~space.admissible
    best = table.double().masked_fill(barred, -torch.inf).amax(1, keepdim=True)
    nothing = 0.0 if space.rules is None else -torch.inf
    return table_reward(space, torch.where(barred, nothing, table.double() - best))


def edge_matrix(study: Study, probabilities: Mapping[str, float]) -> list[list[float]]:
    """(V, V) [i, j] = P(i -> j), zero diagonal, of a study of graphs."""
    v, given = len(study.variables), iter(probabilities.values())
    return [[0.0 if i == j else next(given) for j in range(v)] for i in range(v)]


def errors(found: Mapping[str, float], expected: Mapping[str, float]) -> tuple[float, float]:
    """Mean and largest |difference|; a name that is missing on a side is 0 there."""
    differences = [abs(found.get(name, 0.0) - expected.get(name, 0.0)) for name in {**expected, **found}]
    return sum(differences) / len(differences), max(differences)

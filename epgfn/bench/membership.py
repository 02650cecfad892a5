"""Membership inference on what a node sends: was this record among the node's? With and without differential privacy.

SyntheticData of five variables, BGe, policies by sinks. Whoever attacks holds the artifact, and a target record. Attacks:

    all-but-one   knows every other record too: what epsilon is about. Without privacy two numbers of the artifact are compared;
                  with it the log-likelihood ratio of the release, the strongest attack there is.
    score-table   knows the population, the number of records (with privacy the one of the release) and no record; solves the score
                  table in the artifact for X^T X (`membership_attacks`). The table is in the artifact as it was before training,
                  which never changes it, so no network is trained here.
    statistic     the same, handed X^T X itself (with privacy the noisy one): how far score-table falls short for want of solving.
    flow          as score-table, but looks at nothing but log p_F - log p_B of the trained policy, on graphs drawn from it.

A target is a typical record of the population or an outlier: a random direction, 5 standard deviations long, where a typical one is
2.2. For all but `all-but-one` a non-member's place among the n records is taken by somebody else; for `all-but-one` it is left
empty, which is the neighbour that the claim is about, and `auc_bound` and `tpr_bound` are what mu-GDP allows.

    rows = membership(Setting(records=(100,), epsilons=(None, 4.0)))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.bench import membership_attacks as attacks
from epgfn.gflownet.measure.diagnostics import log_ratios
from epgfn.gflownet.measure.ranks import mean_ranks
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.policies.order_potential import SCORES, normalise_table
from epgfn.gflownet.sampling.rollout import sample
from epgfn.gflownet.spaces import DagBySinks
from epgfn.learn.local import train_on_moments
from epgfn.learn.scores import study_masks, table_from_moments
from epgfn.privacy.mechanisms.discrete import GRID_BITS, Floats
from epgfn.privacy.mechanisms.moments import MomentsMechanism, MomentsRelease
from epgfn.privacy.of_study.networks import GaussianNetwork
from epgfn.study import Study
from epgfn.targets.gaussian import Moments

V = 5
OUTLIER = 5.0
DELTA = 1e-5
RECORD_KINDS = ("typical", "outlier")
EPSILONS: tuple[float | None, ...] = (None, 8.0, 4.0, 1.0)
_SHADOWS, _STARTS, _GRAPHS, _PATHS, _A_MODEL = 150, 5, 400, 8, 8
_RESAMPLES, _FALSE_POSITIVES = 500, 0.01
_VARIABLES = ", ".join(f'{{ name = "{letter}", centre = 0, scale = 1 }}' for letter in "abcde")
_STUDY = Study.from_bytes(
    f'name = "membership"\nroster = ["only"]\nvariables = [{_VARIABLES}]\n'.encode()
    + b'[space]\nmax_parents = 4\n[target]\nmean = "known"\n'
)


@dataclass(frozen=True)
class Setting:
    """`epsilons` with None for no privacy; `targets` records a row, half of them members, over `worlds` populations; `trained`
    policies a row of `flow`, each attacked with 8 members and 8 others.

    Raises:
        UsageError: a number is out of range.
    """

    records: tuple[int, ...] = (100, 1_000)
    epsilons: tuple[float | None, ...] = EPSILONS
    targets: int = 400
    worlds: int = 4
    trained: int = 20
    trained_epsilons: tuple[float | None, ...] = (None, 4.0)
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.records) < 20 or max(self.records) * DELTA >= 1:
            raise UsageError("membership takes 20 to 99999 records per node")
        if self.targets < 4 * self.worlds or self.worlds < 1 or self.trained < 0:
            raise UsageError("membership takes at least one world, and four targets in each")


class Published(NamedTuple):
    """What a node sends and where it comes from: the score table (V, K) float32 of its artifact, the n that its maker counted with, the
    exact or noisy X^T X, and the release, if there was one."""

    table: Tensor
    n: float
    scatter: Tensor
    release: MomentsRelease | None


@dataclass
class Guesses:
    """Scores of members and of others, large for "member". `together`: those added at once share a model, and are not independent."""

    together: bool = False
    member: list[Tensor] = field(default_factory=list)
    other: list[Tensor] = field(default_factory=list)

    def add(self, member: Tensor, other: Tensor) -> None:
        self.member.append(member.double().nan_to_num(-1e300))
        self.other.append(other.double().nan_to_num(-1e300))


def membership(
    setting: Setting, on_row: Callable[[dict[str, Any]], None] = lambda row: None
) -> list[dict[str, Any]]:
    """One row for each number of records, epsilon, attack and kind of target; `on_row` hears of each as it is done. Runs on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = []
        for n in setting.records:
            for epsilon in setting.epsilons:
                for row in _rows(setting, n, epsilon):
                    rows.append(row)
                    on_row(row)
        return rows
    finally:
        torch.set_num_threads(threads)


def _rows(setting: Setting, n: int, epsilon: float | None) -> Iterator[dict[str, Any]]:
    found: dict[tuple[str, str], Guesses] = {}
    half = setting.targets // setting.worlds // 2
    for number in range(setting.worlds):
        world = World(n, epsilon, np.random.default_rng([setting.seed, n, number]))
        for kind in RECORD_KINDS:
            found.setdefault(("all-but-one", kind), Guesses()).add(*_all_but_one(world, kind, half))
            solved, handed = _population(world, kind, half)
            found.setdefault(("score-table", kind), Guesses()).add(solved[:half], solved[half:])
            found.setdefault(("statistic", kind), Guesses()).add(handed[:half], handed[half:])
    for (attack, kind), guesses in found.items():
        yield _row(n, epsilon, attack, kind, guesses)
    if epsilon in setting.trained_epsilons and setting.trained:
        world = World(n, epsilon, np.random.default_rng([setting.seed, n, 0]))
        by_flow, by_table = _flow(world, setting.trained, setting.seed)
        yield _row(n, epsilon, "flow", "typical", by_flow)
        yield _row(n, epsilon, "score-table of the same", "typical", by_table)


class World:
    """A population, a node of n records from it, and what an attacker who knows the population prepares."""

    def __init__(self, n: int, epsilon: float | None, rng: np.random.Generator) -> None:
        self.n, self.rng = n, rng
        self.space, self.masks = DagBySinks(V, V - 1), study_masks(_STUDY)
        mixing = GaussianNetwork(V, rng).mixing
        self.mixing = torch.from_numpy(mixing)
        self.mechanism = None if epsilon is None else MomentsMechanism(V, epsilon, DELTA)
        made = [self.publish(self.draw(n)) for _ in range(_SHADOWS)]
        counted = torch.tensor([one.n for one in made], dtype=torch.float64)
        moments = torch.stack([one.scatter for one in made]) + attacks.PRIOR_SCALE * torch.eye(V)
        units = attacks.whitened(moments, counted, self.mixing)
        self.counted = float(counted.mean())
        self.starts = torch.cat([torch.eye(V, dtype=torch.float64)[None], units[:_STARTS]])
        self.shadows = attacks.Shadows(self.features(units, counted))
        self.shadow_scores = attacks.predicted_scores(moments, counted)
        clips = [one.release.stages[1].norm_bound for one in made if one.release is not None]
        self.radius = float(np.median(clips)) / 2**GRID_BITS if clips else np.inf

    def draw(self, n: int) -> Floats:
        return np.asarray(self.rng.normal(size=(n, V)) @ self.mixing.numpy())

    def targets(self, kind: str, count: int) -> Floats:
        white = self.rng.normal(size=(count, V))
        if kind == "outlier":
            white *= OUTLIER / np.linalg.norm(white, axis=1, keepdims=True)
        return np.asarray(white @ self.mixing.numpy())

    def publish(self, records: Floats) -> Published:
        """The node's side: release if it must, score, and the score table as the artifact carries it."""
        release = None if self.mechanism is None else self.mechanism.release(records)
        scatter = torch.from_numpy(records.T @ records) if release is None else release.scatter
        n = len(records) if release is None else release.n
        table = normalise_table(self.space, table_from_moments(_STUDY, Moments(n, None, scatter), 1))
        return Published(table, n, scatter, release)

    def features(self, units: Tensor, counted: Tensor) -> Tensor:
        """What shadows are compared by: whitened second moments, and the count where it is noisy."""
        moments = attacks.upper(units)
        return moments if self.mechanism is None else torch.cat([moments, counted.log()[:, None]], 1)

    def read(self, tables: Tensor, counted: Tensor) -> Tensor:
        """R = t I + X^T X of each score table, (B, V, V)."""
        scores = attacks.set_scores(tables, self.masks)
        return attacks.read_statistic(scores, counted, self.mixing, self.starts).second_moments

    def guess(self, moments: Tensor, counted: Tensor, targets: Tensor) -> Tensor:
        """Score of each (R, n, target), (B,)."""
        if self.mechanism is None:
            scatter = moments - attacks.PRIOR_SCALE * torch.eye(V)
            return attacks.known_population(scatter, self.n, targets, self.mixing)
        shift = attacks.upper(attacks.shift_of(self.white(targets), self.n, self.radius))
        shift = torch.cat([shift, torch.zeros(len(shift), 1)], 1)
        units = attacks.whitened(moments, counted, self.mixing)
        return self.shadows.log_ratio(self.features(units, counted), shift)

    def white(self, records: Tensor) -> Tensor:
        noise: Tensor = records @ torch.linalg.inv(self.mixing)
        return noise


def _population(world: World, kind: str, half: int) -> tuple[Tensor, Tensor]:
    """Scores of `half` members, then as many others, by score table and by the statistic itself: (2 half,) each."""
    targets = world.targets(kind, 2 * half)
    made = []
    for number, target in enumerate(targets):
        others = world.draw(world.n)
        if number < half:
            others[0] = target
        made.append(world.publish(others))
    counted = torch.tensor([one.n for one in made], dtype=torch.float64)
    known = torch.from_numpy(targets)
    solved = world.read(torch.stack([one.table for one in made]), counted)
    handed = torch.stack([one.scatter for one in made]) + attacks.PRIOR_SCALE * torch.eye(V)
    return world.guess(solved, counted, known), world.guess(handed, counted, known)


def _all_but_one(world: World, kind: str, half: int) -> tuple[Tensor, Tensor]:
    found: list[list[float]] = [[], []]
    for target in world.targets(kind, half):
        without = world.draw(world.n - 1)
        pair = (np.vstack([without, target]), without)
        for place, records in enumerate(pair):
            if world.mechanism is None:
                sent = world.publish(records).table
                near, far = (float((world.publish(one).table - sent).abs().sum()) for one in pair)
                found[place].append(far - near)
            else:
                release = world.mechanism.release(records)
                found[place].append(world.mechanism.log_ratio(release, without, pair[0]))
    return torch.tensor(found[0]), torch.tensor(found[1])


# --- a trained policy, by its flow alone ------------------------------------------------------------------------------


def _flow(world: World, models: int, seed: int) -> tuple[Guesses, Guesses]:
    """Guesses from log p_F - log p_B of trained policies, and those from the score tables of the same policies."""
    by_flow, by_table = Guesses(together=True), Guesses(together=True)
    mean = world.shadow_scores.mean(0)
    spread = torch.cov(world.shadow_scores.T)
    counted = torch.tensor([world.counted], dtype=torch.float64)
    centre = (counted * world.mixing.T @ world.mixing + attacks.PRIOR_SCALE * torch.eye(V))[None]
    for number in range(models):
        records = world.draw(world.n)
        targets = torch.from_numpy(np.vstack([records[:_A_MODEL], world.targets("typical", _A_MODEL)]))
        sent = world.publish(records)
        tensors = train_on_moments(_STUDY, Moments(sent.n, None, sent.scatter), seed=seed + number).tensors
        if not torch.equal(tensors[SCORES], sent.table):
            raise RuntimeError("training changed the score table")
        precision, pull = _seen_in_flow(world, tensors, mean, seed + number)
        moved = attacks.shift_of(world.white(targets), world.n, world.radius) * world.counted
        moved = world.mixing.T @ moved @ world.mixing
        many = counted.expand(len(targets))
        shift = attacks.predicted_scores(centre + moved, many) - attacks.predicted_scores(centre, counted)
        weight = torch.linalg.inv(torch.eye(len(spread)).double() + precision @ spread)
        scores = shift @ weight @ pull - torch.einsum("bi,ij,bj->b", shift, weight @ precision, shift) / 2
        by_flow.add(scores[:_A_MODEL], scores[_A_MODEL:])
        count = torch.tensor([sent.n], dtype=torch.float64)
        solved = world.read(sent.table[None], count).expand(len(targets), -1, -1)
        same = world.guess(solved, count.expand(len(targets)), targets)
        by_table.add(same[:_A_MODEL], same[_A_MODEL:])
    return by_flow, by_table


def _seen_in_flow(world: World, tensors: dict[str, Tensor], mean: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """What log p_F - log p_B says of g(Y), (2^V, 2^V) precision and (2^V,) precision times (g - mean).

    log R(G) = sum_j g(Pa_j + j) - g(Pa_j) + const, seen through the policy with an error as large as the spread over trajectories.
    """
    generator = torch.Generator().manual_seed(seed)
    policy = make_policy(world.space, [tensors])
    with torch.no_grad():
        drawn = sample(
            policy, world.space, 8 * _GRAPHS, generator=generator, temperature=1.5, exploration=0.1
        )
    graphs = torch.unique(drawn.trajectories.final.adjacency, dim=0)
    graphs = graphs[torch.randperm(len(graphs), generator=generator)[:_GRAPHS]]
    ratio = log_ratios(policy, world.space, world.space.terminal(graphs), _PATHS, generator)[0]
    bits = 1 << torch.arange(V)
    parents = (graphs.long() * bits[:, None]).sum(1)  # (D, V)
    rows = torch.arange(len(graphs))[:, None]
    design = torch.zeros(len(graphs), 1 << V, dtype=torch.float64)
    design.index_put_((rows, parents | bits), torch.ones((), dtype=torch.float64), accumulate=True)
    design.index_put_((rows, parents), -torch.ones((), dtype=torch.float64), accumulate=True)
    design[:, _single_sets()] = 0.0
    weight = 1 / (ratio.var(1) + 1e-4)
    centred = design - (weight @ design) / weight.sum()
    missing = ratio.mean(1) - design @ mean
    missing = missing - (weight @ missing) / weight.sum()
    return centred.T @ (weight[:, None] * centred), centred.T @ (weight * missing)


def _single_sets() -> Tensor:
    """The sets of fewer than two variables, whose g is 0: (1 + V,) masks."""
    return torch.cat([torch.zeros(1, dtype=torch.int64), 1 << torch.arange(V)])


# --- rows -------------------------------------------------------------------------------------------------------------


def _row(n: int, epsilon: float | None, attack: str, kind: str, guesses: Guesses) -> dict[str, Any]:
    member, other = (
        part if guesses.together else list(torch.cat(part)[:, None])
        for part in (guesses.member, guesses.other)
    )
    auc, tpr = figures([x.numpy() for x in member], [x.numpy() for x in other])
    mu = None if epsilon is None or attack != "all-but-one" else MomentsMechanism(V, epsilon, DELTA).mu
    return {
        "records": n,
        "epsilon": epsilon,
        "attack": attack,
        "kind": kind,
        "targets": sum(len(x) for x in [*guesses.member, *guesses.other]),
        "auc": auc[0],
        "auc_low": auc[1],
        "auc_high": auc[2],
        "tpr_at_1pct_fpr": tpr[0],
        "tpr_low": tpr[1],
        "tpr_high": tpr[2],
        "auc_bound": None if mu is None else float(ndtr(mu / 2**0.5)),
        "tpr_bound": None if mu is None else float(ndtr(mu + ndtri(_FALSE_POSITIVES))),
    }


def figures(
    member: Sequence[Floats], other: Sequence[Floats]
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """(value, low, high) of the AUC and of the true-positive rate at 1 % false positives; 95 % intervals by the bootstrap over groups.

    Where an interval has no width (everybody on_row apart, or nobody caught) its other end is what the rule of three allows.
    """
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(_RESAMPLES):
        a = [member[i] for i in rng.integers(len(member), size=len(member))]
        b = [other[i] for i in rng.integers(len(other), size=len(other))]
        drawn.append(_rates(np.concatenate(a), np.concatenate(b)))
    low, high = np.quantile(np.array(drawn), [0.025, 0.975], axis=0)
    few = 3 / min(len(member), len(other))
    found = _rates(np.concatenate(member), np.concatenate(other))
    intervals = [
        (value, min(at[0], value, 1 - few) if value == 1 else at[0], max(at[1], few) if value == 0 else at[1])
        for value, *at in zip(found, low, high, strict=True)
    ]
    first, second = ((float(a), float(b), float(c)) for a, b, c in intervals)
    return first, second


def _rates(member: Floats, other: Floats) -> tuple[float, float]:
    ranks = mean_ranks(np.concatenate([member, other]))[: len(member)]
    auc = (ranks.sum() - len(member) * (len(member) + 1) / 2) / (len(member) * len(other))
    allowed = int(_FALSE_POSITIVES * len(other))
    threshold = np.sort(other)[::-1][min(allowed, len(other) - 1)]
    return float(auc), float((member > threshold).mean())


def shown(row: dict[str, Any]) -> str:
    """A row as a line."""
    privacy = "no privacy" if row["epsilon"] is None else f"epsilon {row['epsilon']:g}"
    bound = "" if row["auc_bound"] is None else f"  allowed {row['auc_bound']:.3f}, {row['tpr_bound']:.3f}"
    return (
        f"{row['records']:>6} records  {privacy:<11} {row['attack']:<24} {row['kind']:<8} AUC {row['auc']:.3f} "
        f"({row['auc_low']:.3f} to {row['auc_high']:.3f})  TPR at 1 % FPR {row['tpr_at_1pct_fpr']:.3f} "
        f"({row['tpr_low']:.3f} to {row['tpr_high']:.3f})  {row['targets']} targets{bound}"
    )

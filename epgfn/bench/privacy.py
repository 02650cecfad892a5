"""What privacy costs in accuracy: exact posteriors from released and from true statistics, on simulated worlds.

No network is trained, so the distances are those of the releases alone. Worlds come from `seed` + number; noise never does, so figures
move a little from run to run (their standard errors are given).

    moments_row(n=1000, epsilon=4.0, worlds=40)      # Row(l1=..., edge_error=...)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.exact import edge_marginals, enumerate_dags, log_scores
from epgfn.privacy.answers import AnswersMechanism
from epgfn.privacy.discrete import Floats
from epgfn.privacy.gradient import GradientSettings, RecordSgd, clipped_gradient
from epgfn.privacy.statistic import MomentsMechanism, MomentsRelease
from epgfn.spaces.parent_sets import parent_masks
from epgfn.targets.additive import categorical
from epgfn.targets.bge import bge

Tails = Literal["gaussian", "student", "laplace"]
ITEM_KINDS, MULTISET_SIZE, ITEM_RATE = 5, 6, 0.06
_LISTED = 5


class Row(NamedTuple):
    """Means over worlds, `error` the standard error of `l1`. `l1` is NaN where graphs are too many to list, `edge_error` (mean
    absolute error of the directed edge probabilities) where objects are no graphs. `null_error`: of the graph without an edge."""

    l1: float
    error: float
    edge_error: float
    null_error: float


def moments_row(
    n: int,
    epsilon: float,
    *,
    delta: float = 1e-5,
    n_variables: int = 5,
    worlds: int = 40,
    parties: int = 1,
    tails: Tails = "gaussian",
    mean: float = 0.0,
    seed: int = 3000,
) -> Row:
    """BGe from the two-stage release beside BGe from the records, `parties` of n records each.

    World: each pair of variables (in a random order) has an edge with probability 1/2, or 2 V / (V (V - 1)) if that is less;
    weights uniform on +-(0.5, 1.2); variables scaled to unit population variance, which stands for a good public scale. `mean` shifts
    every variable by as much, and has the sums released and the mean integrated out.
    """
    masks = parent_masks(n_variables, min(n_variables - 1, 4 if n_variables <= _LISTED else 3))
    mechanism = MomentsMechanism(n_variables, epsilon, delta, with_sums=mean != 0.0)
    l1, edge, null = [], [], []
    for number in range(worlds):
        rng = np.random.default_rng(seed + number)
        exact, private = torch.zeros(()), torch.zeros(())
        mixing = _mixing(n_variables, rng)
        for _ in range(parties):
            records = _noise((n, n_variables), tails, rng) @ mixing + mean
            release = mechanism.release(records)
            exact = exact + _table(*_truth(records, mean != 0.0), masks)
            private = private + _table(*_released(release), masks)
        both = [_posterior(table, masks) for table in (exact, private)]
        l1.append(float(np.abs(both[0][0] - both[1][0]).sum()) if n_variables <= _LISTED else math.nan)
        off = ~np.eye(n_variables, dtype=bool)
        edge.append(float(np.abs(both[0][1] - both[1][1])[off].mean()))
        null.append(float(both[0][1][off].mean()))
    return _row(l1, edge, null)


def answers_row(n: int, epsilon: float, *, delta: float = 1e-5, worlds: int = 40, seed: int = 0) -> Row:
    """Multisets of 6 items of 5 kinds, n records of one item each, every multiset answered."""
    objects, per_record = multisets()
    mechanism = AnswersMechanism.for_domain(per_record, objects, torch.arange(ITEM_KINDS), epsilon, delta)
    return _row(_over_items(n, worlds, seed, lambda records: mechanism.release(records).log_likelihood))


def gradient_row(
    n: int,
    epsilon: float,
    *,
    delta: float = 1e-5,
    worlds: int = 10,
    seed: int = 0,
    steps: int = 300,
    rate: float = 0.2,
    clip: float = 0.02,
    learning_rate: float = 0.1,
    batch: int = 64,
) -> Row:
    """The same by DP-SGD on the most forgiving policy there is: one free weight for each of the 210 multisets."""
    objects, per_record = multisets()
    settings = GradientSettings.for_epsilon(epsilon, delta, rate=rate, steps=steps, clip=clip)

    def train(records: Tensor) -> Tensor:
        said = per_record(records, objects).float().T  # (K, n)
        logits = torch.nn.Parameter(torch.zeros(len(objects)))
        optimizer = torch.optim.Adam([logits], learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        sgd = RecordSgd([logits], optimizer, settings)
        for sampled in sgd.batches(len(records)):
            chosen = torch.randint(len(objects), (batch,))
            jacobian = torch.nn.functional.one_hot(chosen, len(objects)).float()
            terms = said[chosen][:, sampled]
            terms = terms - terms.mean(0)
            score = logits.detach()[chosen]
            free = 2 / batch * jacobian.T @ (score - score.mean())
            sgd.step(free, clipped_gradient(jacobian, terms, clip))
            schedule.step()
        return logits.detach().double()

    return _row(_over_items(n, worlds, seed, train))


def multisets() -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """All 210 multisets (210, 5), and log p(item | multiset) = log((1 - .06) / 5 + .06 x_item / 6) of records."""
    counts = itertools.product(range(MULTISET_SIZE + 1), repeat=ITEM_KINDS)
    objects = torch.tensor([c for c in counts if sum(c) == MULTISET_SIZE], dtype=torch.float64)
    base = (1 - ITEM_RATE) / ITEM_KINDS
    return objects, categorical(lambda x: (base + ITEM_RATE * x / MULTISET_SIZE).log())


def _over_items(n: int, worlds: int, seed: int, private: Callable[[Tensor], Tensor]) -> list[float]:
    objects, per_record = multisets()
    distances = []
    for number in range(worlds):
        rng = np.random.default_rng(seed + number)
        chosen = objects[rng.integers(len(objects))].numpy()
        shares = (1 - ITEM_RATE) / ITEM_KINDS + ITEM_RATE * chosen / MULTISET_SIZE
        records = torch.from_numpy(rng.choice(ITEM_KINDS, size=n, p=shares / shares.sum()))
        exact = torch.softmax(per_record(records, objects).double().sum(0), 0)
        distances.append(float((torch.softmax(private(records), 0) - exact).abs().sum()))
    return distances


def _row(l1: list[float], edge: list[float] | None = None, null: list[float] | None = None) -> Row:
    return Row(
        float(np.mean(l1)),
        float(np.std(l1) / math.sqrt(len(l1))),
        float(np.mean(edge)) if edge else math.nan,
        float(np.mean(null)) if null else math.nan,
    )


def _truth(records: Floats, unknown_mean: bool) -> tuple[Tensor, float]:
    scatter, n = records.T @ records, len(records)
    if unknown_mean:
        scatter = scatter - np.outer(records.sum(0), records.sum(0)) / (n + 1.0)
    return torch.from_numpy(scatter), n


def _released(release: MomentsRelease) -> tuple[Tensor, float]:
    scatter = release.scatter if release.sums is None else release.scatter_unknown_mean(1.0)
    return scatter, release.n


def _table(scatter: Tensor, n: float, masks: Tensor) -> Tensor:
    v = len(scatter)
    own = (masks[None] >> torch.arange(v)[:, None]) & 1 == 1
    return bge(scatter, n, masks, alpha_mu=1.0, alpha_w=v + 2.0).masked_fill(own, -torch.inf)


def _posterior(table: Tensor, masks: Tensor) -> tuple[Floats, Floats]:
    """p of every graph (empty where they are not listed), and the edge probabilities."""
    v = len(table)
    if v > _LISTED:
        return np.zeros(0), edge_marginals(table, masks)
    adjacency = enumerate_dags(v)
    p = torch.softmax(log_scores(table, masks, adjacency), 0)
    return p.numpy(), torch.einsum("d,dij->ij", p, adjacency.double()).numpy()


def _mixing(v: int, rng: np.random.Generator) -> Floats:
    """M with x = e M for the structural equations x = x W + e, columns scaled to unit population variance."""
    order = rng.permutation(v)
    earlier = np.zeros((v, v))
    earlier[np.ix_(order, order)] = np.triu(np.ones((v, v)), 1)
    edges = earlier * (rng.random((v, v)) < min(0.5, 2 / (v - 1)))
    weights = edges * rng.uniform(0.5, 1.2, (v, v)) * rng.choice([-1, 1], (v, v))
    mixing = np.linalg.inv(np.eye(v) - weights)
    return np.asarray(mixing / np.sqrt((mixing**2).sum(0)))


def _noise(shape: tuple[int, int], tails: Tails, rng: np.random.Generator) -> Floats:
    """Unit variance: Gaussian, Student's t with 5 degrees of freedom, or Laplace."""
    if tails == "student":
        return np.asarray(rng.standard_t(5, shape) / math.sqrt(5 / 3))
    if tails == "laplace":
        return np.asarray(rng.laplace(size=shape) / math.sqrt(2))
    return rng.normal(size=shape)

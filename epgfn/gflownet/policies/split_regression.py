"""Scores of splits from a log-reward: least squares on trees that are drawn nearer and nearer to where the reward is.

    log R(tree) ~ c + sum over splits of phi(split)

Round after round draws trees from the current scores' own exact distribution at a falling temperature T, adds them to what
was drawn before, and moves phi by the least squares with weights R^(1/T) and a pull towards the phi before. So phi is exact
where the reward is large, and still sensible everywhere else, where a product of several parties' rewards may lie.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.policies import tree_net
from epgfn.gflownet.policies.partitions import Partitions, partitions_of
from epgfn.gflownet.policies.tree_net import TreeNet
from epgfn.gflownet.sampling.rollout import sample
from epgfn.gflownet.spaces.base import LogReward, joined, take
from epgfn.gflownet.spaces.phylogeny import Phylogeny, State, distinct

TEMPERATURES = (1e4, 30.0, 10.0, 5.0, 3.0, 2.0, 1.5)
"""Of the rounds; the first draws without regard to the reward."""
SMALLEST_WEIGHT = 1e-6
RIDGE = 1e-3
TOLERANCE = 1e-6
"""Of the conjugate gradients: the residual left, as a share of the first."""
MAX_ITERATIONS = 300


@torch.no_grad()
def split_scores(
    space: Phylogeny, log_reward: LogReward[State], generator: torch.Generator, *, trees: int = 2000
) -> Tensor:
    """(S,) float64 phi in nats, splits as `split_list` has them; `log_reward` takes finished trees to (B,) nats.

    `trees` are drawn in each round, and each different one is scored once.

    Raises:
        UsageError: too many leaves to carry a score for each split. EpgfnError: a log-reward is not finite.
    """
    if not tree_net.has_scores(space):
        raise UsageError(
            f"{space.n_leaves} leaves have too many splits to score each; train without split scores"
        )
    parts = partitions_of(space.n_leaves)
    scores = torch.zeros(len(parts.splits), dtype=torch.float64)
    drawn, reward = space.initial(0), torch.zeros(0, dtype=torch.float64)
    for temperature in TEMPERATURES:
        policy = TreeNet(space, [tree_net.initial_tensors(space, 1, generator, scores / temperature)])
        final = sample(policy, space, trees, generator=generator).trajectories.final
        new = _new(space, drawn, final)
        reward = torch.cat([reward, _finite(log_reward(new))])
        drawn = joined([drawn, new])
        scores = _regress(splits_of(parts, space, drawn), reward, scores, temperature)
    return scores


def splits_of(parts: Partitions, space: Phylogeny, trees: State) -> Tensor:
    """(B, n - 1) int64: the numbers of the splits of finished trees, one for each node."""
    joins = space.joins(trees)
    right = trees.clades.gather(1, joins.right)
    return parts.split_number(trees.nodes.gather(1, joins.right) & ~right, right).long()


def _new(space: Phylogeny, before: State, drawn: State) -> State:
    """The trees of `drawn` that are not among `before`, each once."""
    n = len(before.nodes)
    first, _ = distinct(space, joined([before, drawn]))
    return take(drawn, first[first >= n].sort().values - n)


def _regress(splits: Tensor, reward: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """The scores moved to the weighted least squares of `reward` on `splits` (B, n - 1), with a constant that is not pulled
    anywhere: minimises sum of w (rest - c - sum of step)^2 + RIDGE |step|^2 by conjugate gradients."""
    weight = ((reward - reward.max()) / temperature).exp().clamp_min(SMALLEST_WEIGHT)
    size, total = len(scores), weight.sum()

    def gathered(row: Tensor) -> Tensor:  # X^T row
        spread = row[:, None].expand_as(splits).flatten()
        return torch.zeros(size, dtype=torch.float64).index_add(0, splits.flatten(), spread)

    def centred(row: Tensor) -> Tensor:
        return weight * (row - weight @ row / total)

    def normal(step: Tensor) -> Tensor:
        return gathered(centred(step[splits].sum(1))) + RIDGE * step

    rest = reward - scores[splits].sum(1)
    return scores + _conjugate_gradients(normal, gathered(centred(rest)), gathered(weight) + RIDGE)


def _conjugate_gradients(matrix: Callable[[Tensor], Tensor], right: Tensor, diagonal: Tensor) -> Tensor:
    """x with matrix(x) = right, nearly: the matrix positive definite, with (about) this diagonal."""
    x, rest = torch.zeros_like(right), right
    scaled = rest / diagonal
    way, product = scaled, rest @ scaled
    goal = float(product) * TOLERANCE**2
    for _ in range(MAX_ITERATIONS):
        if float(product) <= goal:
            break
        image = matrix(way)
        step = product / (way @ image)
        x, rest = x + step * way, rest - step * image
        scaled = rest / diagonal
        before, product = product, rest @ scaled
        way = scaled + (product / before) * way
    return x


def _finite(reward: Tensor) -> Tensor:
    if not bool(torch.isfinite(reward).all()):
        raise EpgfnError(
            "the target gives a log-reward that is not finite; check its settings against the records"
        )
    return reward.double()

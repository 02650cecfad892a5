"""Scores of splits and of pairs of splits from a target: least squares on trees that Markov chains came by, at the target and hotter.

    log R(tree) ~ c + sum over its splits of phi + sum over pairs of a split and one right below it of psi

That is contrastive balance on the chains' trees, log p_T being that sum less a constant where the table has a tree's splits, and its
minimum is found at once. Hotter chains are there for others: what a product of several parties' models weighs lies where each of them
has little. Then the model draws trees itself, which are scored and added, so that what splits promise together is held against R.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.gflownet.measure.tree_chains import Parts, TreeMoves, Trees, cooled
from epgfn.gflownet.policies.split_table import kernels, tables
from epgfn.gflownet.policies.split_table.kernels import Floats, Rows, Words
from epgfn.gflownet.policies.split_table.policy import SplitTable, log_probs
from epgfn.gflownet.sampling.rollout import sample
from epgfn.gflownet.spaces.phylogeny import Phylogeny

POPULATIONS, CHAINS = 2, 64
LEVELS: Final = ((1.0, 1.0), (0.7, 1.0), (0.5, 0.3))
"""Inverse temperatures of the chains that teach, and what their trees count, where several parties' models are multiplied."""
ALONE: Final = ((1.0, 1.0), (0.7, 0.1))
"""The same of a model that is not."""
TREES: Final = 64_000
"""Looks at chains at each level for up to `FEW` leaves; fewer in proportion to (leaves)^-2 beyond, where moves take longer."""
FEWER: Final = 4
"""A model that is not multiplied has to be right where its own target is only, and does with so many times fewer."""
FEW: Final = 27
MOVES: Final = 10
"""Moves of each chain from look to look."""
OWN, ROUNDS = 20_000, 1
"""Trees of its own that a model is held against, and how often."""
RIDGE: Final = 0.1
TOLERANCE, ITERATIONS = 1e-4, 100
"""Of conjugate gradients: the residual left, as a share of the first, and how often at most."""
HELD_OUT: Final = 20
"""One tree in so many is left out, for what the model says of its error."""
MIX, STIR, ODD = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))


class Scored(NamedTuple):
    """Trees with (T,) `value` nats and (T,) `weight`."""

    parts: Parts
    value: Floats
    weight: Floats


def taught(
    space: Phylogeny, moves: TreeMoves, generator: torch.Generator, multiplied: bool
) -> dict[str, Tensor]:
    """A model of the target of `moves`; `multiplied`: its probabilities go into a product with others'."""
    seed = int(torch.randint(1 << 62, (1,), generator=generator))
    randoms = [np.random.default_rng([seed, number]) for number in range(POPULATIONS)]
    levels = LEVELS if multiplied else ALONE
    trees = TREES if multiplied else TREES // FEWER
    looks = max(4, round(trees * min(1.0, FEW / space.n_leaves) ** 2 / (POPULATIONS * CHAINS)))
    populations = cooled(moves, CHAINS, 1, randoms)
    data = [
        _looked_at(moves, population, random, beta, looks, weight)
        for beta, weight in levels
        for population, random in zip(populations, randoms, strict=True)
    ]
    held = [_every(one, HELD_OUT, True) for one in data]
    data = [_every(one, HELD_OUT, False) for one in data]
    tensors = fitted(space, data)
    for _ in range(ROUNDS):
        data.append(_own(space, moves, tensors, generator))
        tensors = fitted(space, data)
    tensors[tables.ERROR][0] = _error(space, tensors, held)
    return tensors


def fitted(space: Phylogeny, data: Sequence[Scored]) -> dict[str, Tensor]:
    """Tensors of the model that fits `data` best, by splits as there is room for, those of the best trees first."""
    parts = Parts.joined([one.parts for one in data])
    value, weight = (np.concatenate([getattr(one, name) for one in data]) for name in ("value", "weight"))
    parts, value, weight = _once(parts, value, weight)
    most_splits, most_pairs = tables.room(space.n_leaves)
    order = np.argsort(-value, kind="stable")
    key = _keys(parts)[order]
    parts, value, weight = parts.rows(order), value[order], weight[order]
    _, first, split = np.unique(key, return_index=True, return_inverse=True)
    split = split.reshape(key.shape)
    if len(first) > most_splits:  # trees as long as their splits fit
        new = np.bincount(first // key.shape[1], minlength=len(key)).cumsum()
        kept = int((new <= most_splits).sum())
        parts, value, weight = parts.rows(slice(kept)), value[:kept], weight[:kept]
        _, first, split = np.unique(key[:kept], return_index=True, return_inverse=True)
        split = split.reshape(kept, -1)
    whole, right = parts.whole.ravel()[first], parts.right.ravel()[first]
    tree = np.arange(len(split))[:, None]
    below = parts.above >= 0
    over = split[tree, np.maximum(parts.above, 0)]
    code = np.where(below, over * len(first) + split, -1)
    named, pair, count = np.unique(code, return_inverse=True, return_counts=True)
    pair = pair.reshape(code.shape)
    wanted = named >= 0
    if wanted.sum() > most_pairs:
        least = np.sort(count[wanted])[-most_pairs]
        wanted &= count > least
    place = np.where(wanted, np.cumsum(wanted) - 1, -1)
    named, pair = named[wanted], place[pair]
    score, pair_score = _least_squares(
        split.astype(np.int32), pair.astype(np.int32), len(first), len(named), value, weight
    )
    pairs = np.stack([named // len(first), named % len(first)], 1)
    return tables.written(space, whole, right, score, pairs, pair_score, 0.0)


def _least_squares(
    split: Rows, pair: Rows, splits: int, pairs: int, value: Floats, weight: Floats
) -> tuple[Floats, Floats]:
    """Scores of splits and of pairs, where `split` and `pair` (T, n - 1) are those of each tree, -1 for none: conjugate gradients on the
    normal equations, with the diagonal for a guess of the inverse."""
    total = weight.sum()

    def of_trees(row: Floats) -> Floats:
        found = np.zeros(splits + pairs)
        kernels.gathered(split, pair, row, found[:splits], found[splits:])
        return found

    def centred(row: Floats) -> Floats:
        centre: Floats = weight * (row - (weight * row).sum() / total)
        return centre

    def normal(step: Floats) -> Floats:
        sums = np.empty(len(value))
        kernels.sums_of(split, pair, step[:splits], step[splits:], sums)
        return of_trees(centred(sums)) + RIDGE * step

    rest = of_trees(centred(value - (weight * value).sum() / total))
    diagonal = of_trees(weight) + RIDGE
    found = np.zeros_like(rest)
    way = rest / diagonal
    product = rest @ way
    goal = product * TOLERANCE**2
    for _ in range(ITERATIONS):
        if product <= goal:
            break
        image = normal(way)
        step = product / (way @ image)
        found += step * way
        rest -= step * image
        scaled = rest / diagonal
        before, product = product, rest @ scaled
        way = scaled + (product / before) * way
    return found[:splits], found[splits:]


def _looked_at(
    moves: TreeMoves, trees: Trees, random: np.random.Generator, beta: float, looks: int, weight: float
) -> Scored:
    going = trees.rows()
    moves.move(going, MOVES * MOVES, random, beta)
    seen, values = [], []
    for _ in range(looks):
        moves.move(going, MOVES, random, beta)
        seen.append(going.parts())
        values.append(going.log_reward.copy())
    value = np.concatenate(values)
    return Scored(Parts.joined(seen), value, np.full(len(value), weight))


def _own(
    space: Phylogeny, moves: TreeMoves, tensors: dict[str, Tensor], generator: torch.Generator
) -> Scored:
    with torch.no_grad():
        drawn = sample(SplitTable(space, [tensors]), space, OWN, generator=generator)
    parts = Parts.of(drawn.trajectories.final)
    value = moves.log_reward(parts)
    return Scored(parts, value, np.ones(len(value)))


def _error(space: Phylogeny, tensors: dict[str, Tensor], held: Sequence[Scored]) -> float:
    """By how much log R - log p_T spreads over trees of one of the levels that were not trained on, the one where it does most, as the
    standard deviation of a normal distribution with its quantiles of .05 and .95; nats."""
    ready = tables.read(space, tensors)
    kernels.fill_flows(ready)
    rest = [
        one.value - log_probs(ready, one.parts).sum(1) for one in held if one.weight[0] == held[0].weight[0]
    ]
    return float(max(np.diff(np.quantile(each, [0.05, 0.95]))[0] for each in rest)) / 3.29


def _every(data: Scored, step: int, kept: bool) -> Scored:
    """One tree in `step`, or all others."""
    which = (np.arange(len(data.value)) % step == 0) == kept
    return Scored(data.parts.rows(which), data.value[which], data.weight[which])


def _once(parts: Parts, value: Floats, weight: Floats) -> tuple[Parts, Floats, Floats]:
    """Each tree once, with the weights of all that are the same."""
    key = _keys(parts).sum(1, dtype=np.uint64)
    _, first, which = np.unique(key, return_index=True, return_inverse=True)
    summed = np.zeros(len(first))
    np.add.at(summed, which, weight)
    return parts.rows(first), value[first], summed


def _keys(parts: Parts) -> Words:
    """(T, n - 1): a word for each split that no other will share."""
    found: Words = (parts.whole * MIX) ^ ((parts.right + ODD) * STIR)
    found ^= found >> np.uint64(29)
    found *= ODD
    found ^= found >> np.uint64(32)
    return found

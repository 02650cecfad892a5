"""A reference where no exact answer is in reach: the posterior over DAGs of a modular score by populations of Markov chains that cool down.

    found = annealed(Chains(table, max_parents))
    found.edges        (V, V) P(i -> j)
    found.apart        how far two halves of the populations are from each other

Each population starts hot, without edges, and is cooled in steps that its own scores choose: at each, chains are drawn anew in proportion
to exp((beta' - beta) log R), which lets those die out that are stuck where the target has little, and then move (`graph_moves`). That is a
sequential Monte Carlo sampler (Del Moral, Doucet & Jasra, JRSS B 68 (2006)), known in physics as population annealing. Then they go on at
the target itself until populations agree, or for as long as they may. Populations know nothing of each other but when to cool on, and
nothing of any policy: so what they agree on is a second opinion of a model.

Up to 14 variables `epgfn.gflownet.measure.exact` is exact and better.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from epgfn.gflownet.device import CPU
from epgfn.gflownet.measure import block_moves, graph_moves
from epgfn.gflownet.measure.graph_moves import Floats, Floats32, Ranks, Words
from epgfn.gflownet.measure.trust import CHAINS_AGREE
from epgfn.gflownet.spaces.parent_sets import parent_sets

POPULATIONS, CHAINS = 4, 64
"""Populations, and chains in each: twice as many up to `FEW` variables, where they cost little."""
FEW: Final = 20
HOT: Final = 5.0
"""Nats between a variable's best set and none at all, at the start."""
WARM: Final = 150.0
"""Nats of the same from which edges are turned too: where it is hotter, new parents are enough, and sums over them take longest."""
KEPT_SHARE: Final = 0.8
"""Of a population's chains, effectively, from one temperature to the next."""
START_SWEEPS, ROUND, ROUNDS = 5, 25, 8
"""Sweeps before cooling, in a round at the target itself, and how many of those there are at most; what the first gives is forgotten."""
ENOUGH: Final = 0.02
"""No more rounds where halves of the populations differ by less in every edge."""


class Effort(NamedTuple):
    """`sweeps` at each temperature, of `times` as many chains, and `blocks`, as a share of the variables, of which the parents are drawn
    together there, and at the target after every `BLOCKS_AFTER` sweeps."""

    sweeps: int
    times: int
    blocks: float


EFFORTS: Final = (Effort(2, 1, 1 / 8), Effort(10, 1, 1), Effort(10, 4, 1))
"""The second where populations do not agree after the first, and so on. More chains help where more sweeps do not: how far a population's
share of each mode is off at the target is set where modes part, by how many chains are there then. Blocks help at any temperature: they
find modes that single edges do not, and go between modes at the target."""
LONG: Final = 500
"""Sets of a variable from which blocks, each of which goes through all of them where it is hot, are fewer by as much as there are more."""
NEAR: Final = 6
"""Others from which a variable's blocks are made up: those that, as its only parent or child, tell most of it or are told most of by it."""
BLOCKS_AFTER: Final = 5
"""Sweeps at the target from blocks to blocks."""
LEAST_ROUNDS: Final = 4
"""With more chains fewer rounds say as much, but no fewer than these."""
HOPELESS: Final = 0.3
"""Halves that are so far apart after a round do not come to agree, but for those of the last effort, after which there is none."""
REMEMBERED: Final = 2


class Thinned(NamedTuple):
    """Of how many chains one is handed on as it ended, and of how many one graph after each round: neighbours came from one, once."""

    chains: int
    graphs: int


class Lists(NamedTuple):
    """Of each variable the sets that may be its parents, the best first: `sets` (V, K', W) as 64-bit words, `log_scores` (V, K') nats, the
    best of each variable at 0, and `holding` (V, V, M): of child and parent the places of the sets that hold that parent. A variable with
    fewer sets than others has impossible ones at the end of its list, and the place of such a one at the end of `holding`."""

    sets: Words
    log_scores: Floats
    holding: Ranks


class Population(NamedTuple):
    """C graphs: `above` and `below` (C, V, W) parents and children as words, `rank` (C, V) the place of each variable's parents."""

    above: Words
    below: Words
    rank: Ranks

    def rows(self, which: npt.NDArray[np.int64] | slice = slice(None)) -> Population:
        """Some of them, or all, in memory of their own."""
        return Population(self.above[which].copy(), self.below[which].copy(), self.rank[which].copy())


class Annealed(NamedTuple):
    """`edges` (V, V) float64 P(i -> j); `apart` the largest, and `apart_mean` the mean |difference| over ordered pairs between two halves
    of the populations, those that differ most: each alone is off by about as much where all have found what there is; `graphs` (n, V, V)
    bool drawn from the target, those of each population one after another; `populations` as they ended."""

    edges: Tensor
    apart: float
    apart_mean: float
    graphs: Tensor
    populations: list[Population]


_remembered: OrderedDict[bytes, Annealed] = OrderedDict()


def lists_of(table: Tensor, max_parents: int) -> Lists:
    """From (V, K) log-scores in nats, sets by size and then lexicographically; what scores -inf is impossible, and not listed where it is
    for all variables."""
    scores = table.detach().cpu().double().numpy()
    v = len(scores)
    held = parent_sets(v, max_parents).cpu().numpy()
    worst = np.nan_to_num(
        -scores, posinf=np.finfo(float).max
    )  # impossible sets too before those that hold the variable itself
    allowed = int((~held[:, 0]).sum())
    possible = int((np.isfinite(scores) & ~held.T).sum(1).max())
    is_shorter = possible < allowed
    allowed = min(allowed, possible + 1)  # the last is impossible to all, if there is such a one
    place = np.argsort(np.where(held.T, np.inf, worst), axis=1, kind="stable")[:, :allowed].copy()
    logs = np.take_along_axis(scores, place, 1)
    logs -= logs[:, :1]
    words = words_of(held)
    with_one = int(held[:, 0].sum() - (held[:, 0] & held[:, 1]).sum()) if v > 1 else 0
    if is_shorter:
        others = ~np.eye(v, dtype=bool)
        with_one = max(int(held[row].sum(0)[others[j]].max(initial=0)) for j, row in enumerate(place))
    holding = np.full((v, v, with_one), allowed - 1, np.int32)
    for j in range(v):
        listed = held[place[j]]
        for i in range(v):
            if i != j:
                found = np.nonzero(listed[:, i])[0]
                holding[j, i, : len(found)] = found
    return Lists(words[place], logs, holding)


def words_of(held: npt.NDArray[np.bool_]) -> Words:
    """(..., V) bool to (..., W) words."""
    v = held.shape[-1]
    padded = np.zeros((*held.shape[:-1], -(-v // 64) * 64), np.uint8)
    padded[..., :v] = held
    return np.ascontiguousarray(np.packbits(padded, axis=-1, bitorder="little")).view(np.uint64)


class Chains:
    """Populations on one score table. What is the same for all of them is worked out once."""

    def __init__(self, table: Tensor, max_parents: int) -> None:
        """`table` (V, K) log-scores in nats, sets as `parent_sets` orders them."""
        self.lists = lists_of(table, max_parents)
        v, k = self.lists.log_scores.shape
        self._least = self._fewest_parents()
        self._most = float(-self.lists.log_scores[np.arange(v), self._least].min())
        self._tail: Floats = np.empty((v, k + 1))
        self._holding_tail: Floats32 = np.empty((v, v, self.lists.holding.shape[2] + 1), np.float32)
        self._logs = self._weights = self.lists.log_scores
        self._beta = 0.0
        self._near = self._nearest()

    @property
    def n_variables(self) -> int:
        return len(self.lists.log_scores)

    def digest(self) -> bytes:
        """Of the lists, scores to six digits: the same for scores that differ by a constant for each variable."""
        found = hashlib.sha256(self.lists.sets.tobytes())
        found.update(self.lists.log_scores.round(6).tobytes())
        return found.digest()

    def move(
        self, population: Population, sweeps: int, random: np.random.Generator, beta: float = 1.0
    ) -> Tensor:
        """In place, on scores times `beta`; returns (V, V) how many of the graphs after each sweep held each edge."""
        if beta != self._beta:
            self._logs = self.lists.log_scores * beta
            self._weights = np.exp(self._logs)
            graph_moves.tails(
                self._logs,
                self._weights,
                self.lists.holding,
                self._turns(beta),
                self._tail,
                self._holding_tail,
            )
            self._beta = beta
        v = self.n_variables
        counts = np.zeros((v, v))
        graph_moves.sweep(
            *population,
            self.lists.sets,
            self._logs,
            self._weights,
            self._tail,
            self.lists.holding,
            self._holding_tail,
            sweeps,
            self._turns(beta),
            random,
            counts,
        )
        return torch.from_numpy(counts)

    def blocks(self, share: float) -> int:
        """How many are a `share` of the variables, and one at least: fewer where lists are long."""
        sets = self.lists.log_scores.shape[1]
        return max(1, round(share * self.n_variables * min(1.0, LONG / int(sets))))

    def move_blocks(self, population: Population, blocks: int, random: np.random.Generator) -> None:
        """In place, so many `blocks` of each graph, on scores as they were last moved on."""
        if self._near.shape[1]:
            block_moves.redraw_all(
                *population,
                self.lists.sets,
                self._logs,
                self._weights,
                self._tail,
                self._near,
                blocks,
                random,
            )

    def _nearest(self) -> Ranks:
        """(V, N) of each variable the others `NEAR` it, by how much more one of two is worth with the other as its only parent, beside
        those that are required, than with none."""
        lists, v = self.lists, self.n_variables
        if not lists.holding.shape[2]:
            return np.zeros((v, 0), np.int32)
        size = np.stack(
            [np.unpackbits(of.view(np.uint8), axis=1).sum(1, dtype=np.uint8) for of in lists.sets]
        )
        child = np.arange(v)[:, None]
        smallest = size[child[:, :, None], lists.holding].argmin(
            2
        )  # of equal ones the first, which is the best
        place = np.take_along_axis(lists.holding, smallest[:, :, None], 2)[:, :, 0]
        worth = lists.log_scores[child, place] - lists.log_scores[child, self._least[:, None]]
        worth = np.maximum(worth, worth.T)
        np.fill_diagonal(worth, -np.inf)
        near: Ranks = np.argsort(-worth, axis=1, kind="stable")[:, : min(NEAR, v - 1)].astype(np.int32)
        return near

    def _fewest_parents(self) -> Ranks:
        """(V,) the place of each variable's smallest set that is possible: none at all, unless parents are required."""
        possible = np.isfinite(self.lists.log_scores)
        found = ((self.lists.sets == 0).all(2) & possible).argmax(1).astype(np.int32)
        for j in np.nonzero((self.lists.sets[np.arange(len(found)), found] != 0).any(1))[0]:
            bits = np.unpackbits(self.lists.sets[j].view(np.uint8), axis=1)
            size = np.where(possible[j], bits.sum(1, dtype=np.int64), self.n_variables + 1)
            found[j] = size.argmin()
        ranks: Ranks = found
        return ranks

    def without_edges(self, count: int) -> Population:
        """`count` graphs with no edges but those that are required."""
        v = self.n_variables
        first = self.lists.sets[np.arange(v), self._least]  # (V, W)
        bits = np.unpackbits(first.view(np.uint8), axis=1, bitorder="little")[:, :v].astype(bool)
        below = words_of(bits.T)
        return Population(
            np.tile(first, (count, 1, 1)), np.tile(below, (count, 1, 1)), np.tile(self._least, (count, 1))
        )

    def log_scores(self, population: Population) -> Floats:
        """(C,) nats, each variable's best parents at 0."""
        found: Floats = self.lists.log_scores[np.arange(self.n_variables), population.rank].sum(1)
        return found

    def graphs(self, population: Population) -> Tensor:
        """(C, V, V) bool in main memory, [i, j] an edge i -> j."""
        bits = np.unpackbits(population.above.view(np.uint8), axis=2, bitorder="little")
        return torch.from_numpy(bits[:, :, : self.n_variables].astype(bool)).transpose(1, 2)

    def _turns(self, beta: float) -> bool:
        return self._most <= WARM or beta * self._most >= WARM

    def cooled(
        self, chains: int, sweeps: int, randoms: Sequence[np.random.Generator], blocks: int
    ) -> list[Population]:
        """Populations that have cooled down from without edges to the target, with so many sweeps and `blocks` at each temperature."""
        found = [self.without_edges(chains) for _ in randoms]
        beta = 1.0 if self._most <= HOT else HOT / self._most
        for population, random in zip(found, randoms, strict=True):
            self.move(population, START_SWEEPS, random, beta)
        while beta < 1.0:
            scores = [self.log_scores(population) for population in found]
            after = min(_next(beta, score) for score in scores)
            for number, random in enumerate(randoms):
                found[number] = _drawn_anew(found[number], (after - beta) * scores[number], random)
                self.move(found[number], sweeps, random, after)
                self.move_blocks(found[number], blocks, random)
            beta = after
        return found


def annealed(tables: Chains) -> Annealed:
    """`run`, by a seed of the scores alone. The last few are remembered: what teaches a policy also judges it."""
    key = tables.digest()
    if key not in _remembered:
        _remembered[key] = run(tables, int.from_bytes(key[:6], "big"))
        while len(_remembered) > REMEMBERED:
            _remembered.popitem(last=False)
    return _remembered[key]


def run(
    tables: Chains,
    seed: int,
    populations: int = POPULATIONS,
    chains: int | None = None,
    rounds: int | None = None,
    enough: float = ENOUGH,
) -> Annealed:
    """From an even number of `populations`, for at most so many `rounds` (`ROUNDS`), and no more where halves differ by `enough`.

    Where they end further apart than `CHAINS_AGREE`, more is done by `EFFORTS`, and what the last say holds, agreed or not. However many
    chains that takes, as many graphs and as large populations are handed on.
    """
    if chains is None:
        chains = CHAINS * 2 if tables.n_variables <= FEW else CHAINS
    most = ROUNDS if rounds is None else rounds
    for effort in EFFORTS:
        randoms = [
            np.random.default_rng([seed, effort.sweeps, number] + [effort.times] * (effort.times > 1))
            for number in range(populations)
        ]
        fewer = min(most, max(LEAST_ROUNDS, most // effort.times))
        thinned = Thinned(effort.times, max(1, effort.times * fewer // most))
        hopeless = math.inf if effort == EFFORTS[-1] else HOPELESS
        found = _run(tables, chains, effort, randoms, fewer, enough, hopeless, thinned)
        if found.apart <= CHAINS_AGREE:
            break
    return found


@torch.no_grad()
def _run(
    tables: Chains,
    chains: int,
    effort: Effort,
    randoms: Sequence[np.random.Generator],
    rounds: int,
    enough: float,
    hopeless: float,
    thinned: Thinned,
) -> Annealed:
    """From `effort.times` as many `chains`. No more rounds either where halves differ by `hopeless`."""
    chains, blocks = chains * effort.times, tables.blocks(effort.blocks)
    found = tables.cooled(chains, effort.sweeps, randoms, blocks)
    for population, random in zip(found, randoms, strict=True):
        tables.move(population, ROUND, random)
    v = tables.n_variables
    counts = torch.zeros(len(found), v, v, dtype=torch.float64, device=CPU)
    done, graphs = 0, []
    for _ in range(rounds):
        for number, random in enumerate(randoms):
            for _ in range(ROUND // BLOCKS_AFTER):
                tables.move_blocks(found[number], blocks, random)
                counts[number] += tables.move(found[number], BLOCKS_AFTER, random)
        done += ROUND * chains
        graphs.append(
            torch.cat(
                [tables.graphs(population.rows(slice(None, None, thinned.graphs))) for population in found]
            )
        )
        difference = _halves_apart(counts / done)
        if not enough < float(difference.max()) < hopeless:
            break
    edges = (counts / done).mean(0)
    largest, total = float(difference.max()), float(difference.sum())
    return Annealed(
        edges,
        largest,
        total / max(1, v * (v - 1)),
        torch.cat(graphs),
        [population.rows(slice(None, None, thinned.chains)) for population in found],
    )


def _halves_apart(edges: Tensor) -> Tensor:
    """(V, V) |difference| of edges between two halves of (P, V, V) populations, the two that differ most in one of them."""
    p = len(edges)
    halves = [(0, *rest) for rest in itertools.combinations(range(1, p), p // 2 - 1)]
    half = torch.tensor(halves, device=CPU)
    one = torch.zeros(len(half), p, dtype=edges.dtype, device=CPU).scatter_(1, half, 2.0 / p)
    found = torch.einsum("hp,pij->hij", 2 * one - 2.0 / p, edges).abs()
    return found[found.flatten(1).amax(1).argmax()]


def _next(beta: float, score: Floats) -> float:
    """The inverse temperature at which the chains are effectively `KEPT_SHARE` of what they are at `beta`."""

    def share(after: float) -> float:
        weight = np.exp((after - beta) * (score - score.max()))
        return float(weight.sum() ** 2 / (weight**2).sum() / len(weight))

    if share(1.0) >= KEPT_SHARE:
        return 1.0
    low, high = beta, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) >= KEPT_SHARE else (low, middle)
    return max(low, math.nextafter(beta, 2.0))


def _drawn_anew(population: Population, log_weight: Floats, random: np.random.Generator) -> Population:
    """As many chains, each in proportion to its weight (systematic resampling)."""
    weight = np.exp(log_weight - log_weight.max())
    below = np.cumsum(weight / weight.sum())
    level = (random.random() + np.arange(len(weight))) / len(weight)
    row = np.minimum(np.searchsorted(below, level), len(weight) - 1)
    return population.rows(row)

"""A reference where trees cannot be listed: their posterior by populations of Markov chains that cool down.

    found = annealed(moves)         moves: `TreeMoves`, such as those of `epgfn.targets.jc69`
    found.clades                    {leaf set: P(it is a clade)}
    found.apart                     how far two halves of the populations are from each other

As `structure_chains` does it for graphs: each population starts at random trees where the target says little, is cooled in steps that its
own scores choose, chains drawn anew at each in proportion to what the step is worth to them, and moves by whole subtrees. Then all go on
at the target itself until populations agree, or for as long as they may. They know nothing of each other but when to cool on, and nothing
of any policy: what they agree on is a second opinion of a model.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from epgfn.base.lazily import Lazy
from epgfn.gflownet.device import CPU
from epgfn.gflownet.measure.annealing import next_beta, rows_drawn_anew
from epgfn.gflownet.spaces.phylogeny import State

if TYPE_CHECKING:
    from epgfn.gflownet.measure import subtree_moves
    from epgfn.gflownet.measure.subtree_moves import Floats, Nodes, Words
else:
    subtree_moves = Lazy("epgfn.gflownet.measure.subtree_moves")

POPULATIONS, CHAINS, FEWER_CHAINS = 4, 64, 32
"""Populations, and chains in each: where every move asks for the scores of all trees that it chooses from, fewer."""
HOT: Final = 5.0
"""Standard deviation of log R at random trees, nats, which the start is heated to."""
SWEEPS: Final = (1, 5)
"""Moves of every subtree, on average, at each temperature, and where populations then do not agree."""
START_SWEEPS, ROUND, ROUNDS = 2, 4, 12
"""Sweeps before cooling, in a round at the target itself, and how many of those there are at most; what the first gives is forgotten."""
ENOUGH: Final = 0.02
"""No more rounds where halves of the populations differ by less in every clade."""
HOPELESS: Final = 0.3
"""Halves that are so far apart after a round do not come to agree."""
AGREE: Final = 0.1
UNSEEN: Final = 0.05
"""Of R of all trees seen, the most that half of the populations may have missed for trees to be weighed as a list."""
LEAST_SHARE: Final = 0.01
REMEMBERED: Final = 4


class Trees(NamedTuple):
    """C rooted trees over n leaves, as `subtree_moves` has them: `parent` (C, 2n - 1), `children` (C, 2n - 1, 2), and `log_reward` (C,)
    float64 nats."""

    parent: Nodes
    children: Nodes
    log_reward: Floats

    def rows(self, which: npt.NDArray[np.int64] | slice = slice(None)) -> Trees:
        """Some of them, or all, in memory of their own."""
        return Trees(self.parent[which].copy(), self.children[which].copy(), self.log_reward[which].copy())

    def clades(self) -> Tensor:
        """(C, n - 1) int64 in main memory: the leaves below each node that is no leaf, as `phylogeny.State` has them, in no order."""
        found = np.empty(self.parent.shape, np.uint64)
        subtree_moves.clades(self.parent, self.children, found)
        n = (self.parent.shape[1] + 1) // 2
        return torch.from_numpy(found[:, n:].view(np.int64).copy())

    def parts(self) -> Parts:
        chains, size = self.parent.shape
        n = (size + 1) // 2
        whole, right = (np.zeros((chains, n - 1), np.uint64) for _ in range(2))
        above = np.empty((chains, n - 1), np.int32)
        subtree_moves.all_parts(self.parent, self.children, whole, right, above)
        return Parts(whole, right, above)


class Parts(NamedTuple):
    """How C trees split their clades, node by node: `whole` (C, n - 1) leaf sets, `right` the part without the smallest leaf, `above` which
    of the nodes is the parent, -1 at the root."""

    whole: Words
    right: Words
    above: Nodes

    @classmethod
    def of(cls, state: State) -> Parts:
        """Of finished trees, nodes by the slots that they closed."""
        whole, right = (np.ascontiguousarray(part[:, 1:].cpu().numpy()).view(np.uint64) for part in state)
        above = np.full(whole.shape, -1, np.int32)
        subtree_moves.parents_of(whole, right, above)
        return cls(whole, right, above)

    @classmethod
    def joined(cls, parts: Sequence[Parts]) -> Parts:
        whole, right, above = (np.concatenate(each) for each in zip(*parts, strict=True))
        return cls(whole, right, above)

    def rows(self, which: npt.NDArray[np.int64] | npt.NDArray[np.bool_] | slice) -> Parts:
        """Some of the trees."""
        return Parts(self.whole[which], self.right[which], self.above[which])

    def trees(self) -> Trees:
        """The trees; their log-rewards are not known yet, nan."""
        chains, n = len(self.whole), self.whole.shape[1] + 1
        parent = np.full((chains, 2 * n - 1), -1, np.int32)
        children = np.full((chains, 2 * n - 1, 2), -1, np.int32)
        subtree_moves.rooted(self.whole, self.right, parent, children)
        return Trees(parent, children, np.full(chains, math.nan))


class TreeMoves(Protocol):
    """Moves that leave exp(beta log R) as it is."""

    n_leaves: int
    chains: int
    """In each population."""

    def log_reward(self, parts: Parts) -> Floats:
        """(C,) nats."""
        ...

    def move(self, trees: Trees, moves: int, random: np.random.Generator, beta: float = 1.0) -> None:
        """So many of each tree, in place."""
        ...

    def digest(self) -> bytes:
        """Of the target, to remember what was found."""
        ...


class ScoredMoves:
    """Moves on any `score`, trees to (C,) nats, by asking it of all trees that a move chooses from."""

    def __init__(self, n_leaves: int, score: Callable[[Parts], Floats], name: bytes) -> None:
        """`name` tells scores apart."""
        self.n_leaves, self.log_reward, self._name = n_leaves, score, name
        self.chains = FEWER_CHAINS

    def move(self, trees: Trees, moves: int, random: np.random.Generator, beta: float = 1.0) -> None:
        chains, n = len(trees.parent), self.n_leaves
        most = chains * (2 * n - 3)
        cuts, starts = np.empty(chains, np.int32), np.empty(chains + 1, np.int64)
        places, above = np.empty(most, np.int32), np.empty((most, n - 1), np.int32)
        whole, right = (np.empty((most, n - 1), np.uint64) for _ in range(2))
        for _ in range(moves):
            rows = subtree_moves.proposed(
                trees.parent, trees.children, cuts, starts, places, whole, right, above, random
            )
            logs = self.log_reward(Parts(whole[:rows], right[:rows], above[:rows]))
            subtree_moves.settled(
                trees.parent, trees.children, cuts, starts, places, logs, trees.log_reward, beta, random
            )

    def digest(self) -> bytes:
        return hashlib.sha256(b"scored moves " + self._name).digest()


class Annealed(NamedTuple):
    """`clades`: P of each leaf set that a chain showed, of 2 to n - 1 leaves; `apart` the largest difference in one of them between two
    halves of the populations, those that differ most, and `apart_mean` the mean over those that either half shows in a hundredth;
    `listed`: trees are so few that the clades are those of a list, each tree weighed by R; `drawn` (m, n - 1) int64 nodes of trees
    that chains came by, those of all populations look by look; `log_rewards` (m,) nats of these; `populations` as they ended."""

    clades: dict[int, float]
    apart: float
    apart_mean: float
    listed: bool
    drawn: Tensor
    log_rewards: Tensor
    populations: list[Trees]


_remembered: OrderedDict[bytes, Annealed] = OrderedDict()


def at_random(n_leaves: int, count: int, random: np.random.Generator) -> Trees:
    """Trees by joining any two subtrees until one is left; their log-reward is not known yet, nan."""
    size = 2 * n_leaves - 1
    parent = np.full((count, size), -1, np.int32)
    children = np.full((count, size, 2), -1, np.int32)
    for chain in range(count):
        whole = list(range(n_leaves))
        for node in range(n_leaves, size):
            for side in range(2):
                child = whole.pop(int(random.integers(len(whole))))
                parent[chain, child], children[chain, node, side] = node, child
            whole.append(node)
    return Trees(parent, children, np.full(count, math.nan))


def cooled(moves: TreeMoves, chains: int, sweeps: int, randoms: Sequence[np.random.Generator]) -> list[Trees]:
    """A population for each of `randoms` that has cooled down from random trees to the target."""
    sweep = 2 * moves.n_leaves - 2
    found = [at_random(moves.n_leaves, chains, random) for random in randoms]
    for population, random in zip(found, randoms, strict=True):
        moves.move(population, 1, random, 0.0)
    spread = max(float(population.log_reward.std()) for population in found)
    beta = 1.0 if spread <= HOT else HOT / spread
    for population, random in zip(found, randoms, strict=True):
        moves.move(population, START_SWEEPS * sweep, random, beta)
    while beta < 1.0:
        after = min(next_beta(beta, population.log_reward) for population in found)
        for number, random in enumerate(randoms):
            log_weight = (after - beta) * found[number].log_reward
            found[number] = found[number].rows(rows_drawn_anew(log_weight, random))
            moves.move(found[number], sweeps * sweep, random, after)
        beta = after
    return found


def annealed(moves: TreeMoves) -> Annealed:
    """`run`, by a seed of the target alone. The last few are remembered: what teaches a policy also judges it."""
    key = moves.digest()
    if key not in _remembered:
        _remembered[key] = run(moves, int.from_bytes(key[:6], "big"))
        while len(_remembered) > REMEMBERED:
            _remembered.popitem(last=False)
    return _remembered[key]


def run(
    moves: TreeMoves,
    seed: int,
    populations: int = POPULATIONS,
    chains: int | None = None,
    rounds: int = ROUNDS,
    enough: float = ENOUGH,
) -> Annealed:
    """From an even number of `populations`, for at most so many `rounds`, and no more where halves differ by `enough`.

    Where they end further apart than `AGREE`, others are cooled more slowly, and what these say holds, agreed or not.
    """
    for sweeps in SWEEPS:
        randoms = [np.random.default_rng([seed, sweeps, number]) for number in range(populations)]
        hopeless = math.inf if sweeps == SWEEPS[-1] else HOPELESS
        found = _run(moves, chains or moves.chains, sweeps, randoms, rounds, enough, hopeless)
        if found.apart <= AGREE:
            break
    return found


def _run(
    moves: TreeMoves,
    chains: int,
    sweeps: int,
    randoms: Sequence[np.random.Generator],
    rounds: int,
    enough: float,
    hopeless: float,
) -> Annealed:
    """No more rounds either where halves differ by `hopeless`."""
    found = cooled(moves, chains, sweeps, randoms)
    sweep = 2 * moves.n_leaves - 2
    for population, random in zip(found, randoms, strict=True):
        moves.move(population, ROUND * sweep, random)
    seen = [Seen.none(moves.n_leaves) for _ in found]
    for _ in range(rounds):
        for _ in range(ROUND):
            for number, random in enumerate(randoms):
                moves.move(found[number], sweep, random)
                seen[number] = seen[number].and_of(found[number])
        answer = said(seen)
        if not enough < answer.apart < hopeless:
            break
    each = len(seen[0].nodes) // chains
    in_turn = torch.arange(len(found) * each * chains, device=CPU).view(len(found), each, chains)
    order = in_turn.transpose(0, 1).flatten()
    drawn = torch.cat([one.nodes for one in seen])[order]
    log_rewards = torch.cat([one.log_reward for one in seen])[order]
    return Annealed(*answer, drawn, log_rewards, found)


class Seen(NamedTuple):
    """Trees that a population showed: (m, n - 1) int64 `nodes` in ascending order, and (m,) float64 `log_reward` nats."""

    nodes: Tensor
    log_reward: Tensor

    @classmethod
    def none(cls, n_leaves: int) -> Seen:
        return cls(
            torch.zeros(0, n_leaves - 1, dtype=torch.int64, device=CPU),
            torch.zeros(0, dtype=torch.float64, device=CPU),
        )

    def and_of(self, trees: Trees) -> Seen:
        nodes = trees.clades().sort(1).values
        return Seen(
            torch.cat([self.nodes, nodes]),
            torch.cat([self.log_reward, torch.from_numpy(trees.log_reward.copy())]),
        )


class Said(NamedTuple):
    """What populations say, as `Annealed` has it."""

    clades: dict[int, float]
    apart: float
    apart_mean: float
    listed: bool


def said(seen: Sequence[Seen]) -> Said:
    """By an even number of populations: their trees' shares, or, where half of them show nearly all that all show, the share of R of each
    tree among all of them, which holds no noise of how often a chain came by."""
    every = torch.cat([one.nodes for one in seen])
    trees, which = torch.unique(every, dim=0, return_inverse=True)
    value = torch.zeros(len(trees), dtype=torch.float64, device=CPU)
    value[which] = torch.cat([one.log_reward for one in seen])
    counts = torch.zeros(len(seen), len(trees), dtype=torch.float64, device=CPU)
    start = 0
    for row, one in enumerate(seen):
        counts[row] = torch.bincount(which[start : start + len(one.nodes)], minlength=len(trees))
        start += len(one.nodes)
    groups, member = torch.unique(trees, return_inverse=True)
    kept = _proper(groups, trees)

    def of_groups(weight: Tensor) -> Tensor:
        """(W, T) weights of trees that sum to one to (W, M) shares of groups."""
        spread = weight[:, :, None].expand(-1, -1, member.shape[1]).flatten(1)
        found = torch.zeros(len(weight), len(groups), dtype=torch.float64, device=CPU)
        return found.index_add(1, member.flatten(), spread)[:, kept]

    whole = torch.softmax(value, 0)
    halves = _halves(len(seen))
    sides = torch.cat([halves, ~halves]).double()  # (2H, P)
    shown = sides @ counts > 0
    listed = bool((whole * ~shown).sum(1).max() <= UNSEEN)
    if listed:
        weight = torch.softmax(torch.where(shown, value, -torch.inf), 1)
        answer = of_groups(whole[None])[0]
    else:
        weight = sides @ (counts / counts.sum(1, keepdim=True)) / (len(seen) / 2)
        answer = of_groups(counts.sum(0, keepdim=True) / counts.sum())[0]
    apart, mean = halves_apart(of_groups(weight))
    shares = dict(zip(groups[kept].tolist(), answer.tolist(), strict=True))
    return Said(shares, apart, mean, listed)


def _proper(groups: Tensor, trees: Tensor) -> Tensor:
    """Which of `groups` are not the set of all leaves, the one that is in every tree and holds all others."""
    whole = 0
    for node in trees[0].tolist():
        whole |= node
    return groups != whole


def _halves(populations: int) -> Tensor:
    """(H, P) bool: all ways to take half of an even number of them, the first among them."""
    halves = [(0, *rest) for rest in itertools.combinations(range(1, populations), populations // 2 - 1)]
    half = torch.tensor(halves, device=CPU)
    return torch.zeros(len(half), populations, dtype=torch.bool, device=CPU).scatter(1, half, True)


def halves_apart(shares: Tensor) -> tuple[float, float]:
    """Largest |difference| of (2H, M) shares between a half and the other one, H rows further down, of all halves the two that differ
    most in one, and their mean over those of at least a hundredth in either."""
    if not shares.shape[1]:
        return 0.0, 0.0
    first, second = shares.chunk(2)
    difference = (first - second).abs()
    worst = int(difference.amax(1).argmax())
    shown = torch.maximum(first[worst], second[worst]) >= LEAST_SHARE
    mean = float(difference[worst][shown].mean()) if bool(shown.any()) else 0.0
    return float(difference[worst].max()), mean

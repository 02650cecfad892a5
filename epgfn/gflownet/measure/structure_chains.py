"""A reference where no exact answer is in reach: edge probabilities of a modular score by Markov chains over DAGs.

Many chains side by side. Each move leaves p(G) = exp(sum_j phi_j(Pa_j)) / Z as it is:

    parents   a variable's whole parent set is drawn anew from p(Pa_j | all else): all sets without descendants of j (Gibbs);
    reversal  a random edge i -> j is turned round, with new parents for i (j among them) and for j drawn in proportion to their
              scores, and kept by Metropolis-Hastings: Grzegorczyk & Husmeier, Machine Learning 71 (2008), eq. 13 to 17.

Together they reach every DAG within the fan-in. Independent of any policy, so that a policy can be held against it. Up to 14 variables
`epgfn.gflownet.measure.exact` is exact and better.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.spaces.parent_sets import parent_masks, parent_matrix

HOTTEST: Final = 8.0
"""Chains that cool down meet many modes before they settle in one."""


CACHED: Final = 1 << 17
"""Weights worked out at a time, so that they stay in a processor's cache."""
PIECE: Final = 128
"""Parent sets whose weights are added up together."""
LEAST_SUM: Final = 1e-200


class Drawn(NamedTuple):
    """`parents` (C, V) bool, and `log_sum` (C,) float64 log of the sum over all that could have been drawn (nats)."""

    parents: Tensor
    log_sum: Tensor


class ChainMarginals(NamedTuple):
    """`edges` (V, V) float64 P(i -> j); `error` the mean over ordered pairs of |difference| between two halves of the chains,
    divided by two: about what `edges` is off by on average, unless all chains miss the same mode."""

    edges: Tensor
    error: float


@torch.no_grad()
def edge_marginals(
    table: Tensor,
    start: Tensor,
    max_parents: int,
    sweeps: int,
    generator: torch.Generator,
    burn_in: float = 0.25,
) -> ChainMarginals:
    """Edge probabilities over C chains.

    Args:
        table: (V, K) log-scores in nats, sets as `parent_masks(V, max_parents)`. start: (C, V, V) bool DAGs within the
        fan-in, not all alike. sweeps: each is V parent moves and V reversals a chain; the share `burn_in` is not counted.
    """
    chains = Chains(table, start.clone(), max_parents, generator)
    total = torch.zeros(start.shape, dtype=torch.float64)
    kept = 0
    for sweep in range(sweeps):
        chains.sweep()
        if sweep >= burn_in * sweeps:
            total += chains.adjacency
            kept += 1
    by_chain = total / kept
    halves = by_chain[0::2].mean(0), by_chain[1::2].mean(0)
    apart = (halves[0] - halves[1]).abs()
    v = table.shape[0]
    return ChainMarginals(by_chain.mean(0), float(apart.sum() / (v * (v - 1))) / 2)


class Chains:
    """C graphs that change in place: `adjacency` (C, V, V) bool is where they are."""

    def __init__(
        self, table: Tensor, adjacency: Tensor, max_parents: int, generator: torch.Generator
    ) -> None:
        """`table` (V, K) log-scores in nats, sets as `parent_masks(V, max_parents)`; `adjacency` DAGs within the fan-in, overwritten."""
        v = table.shape[0]
        masks = parent_masks(v, max_parents)
        parents = parent_matrix(masks, v)  # (K, V)
        self._scores = table.double().masked_fill(parents.T, -torch.inf)
        self._sets = _padded(masks[None], 0)[0]
        held = parents.T.nonzero()[:, 1].view(v, -1)  # (V, M): the sets that hold each variable
        self._held = _padded(held, len(masks) if len(masks) < len(self._sets) else 0)
        self._holds = _padded(torch.ones_like(held), 0).bool()
        self.adjacency, self.max_parents, self.generator = adjacency, max_parents, generator
        self.rows, self.bits = torch.arange(len(adjacency)), 1 << torch.arange(v)
        self._heat(1.0)

    def sweep(self) -> None:
        """V parent moves and V reversals a chain."""
        for _ in range(len(self._scores)):
            self.new_parents()
            self.reverse()

    def cool(self, sweeps: int) -> None:
        """So many sweeps from hot, with scores divided by `HOTTEST`, to the target itself."""
        for number in range(sweeps):
            self._heat(1 + (HOTTEST - 1) * (1 - (number + 1) / sweeps))
            self.sweep()

    def _heat(self, temperature: float) -> None:
        """Scores divided by `temperature`, with each variable's best at 0, and their exponentials: (V, K')."""
        self._logs = _padded(self._scores / temperature, -torch.inf)
        self._logs -= self._logs.amax(1, keepdim=True)
        self._weights = self._logs.exp()

    def new_parents(self) -> None:
        """Each chain draws the parents of one random variable from their exact conditional."""
        child = torch.randint(len(self._scores), (len(self.rows),), generator=self.generator)
        self.adjacency[self.rows, :, child] = self._drawn(self.adjacency, child).parents

    def reverse(self) -> None:
        """Each chain tries to turn one random edge i -> j of its own, with new parents for both i and j."""
        adjacency, rows = self.adjacency, self.rows
        flat = adjacency.flatten(1)
        edges = flat.sum(1)
        which = (torch.rand(len(rows), generator=self.generator, dtype=torch.float64) * edges).long()
        edge = torch.searchsorted(flat.cumsum(1), which[:, None], right=True)[:, 0]
        edge.clamp_max_(flat.shape[1] - 1)  # of a graph without edges, which stays as it is
        i, j = edge // adjacency.shape[1], edge % adjacency.shape[1]
        orphans = adjacency.clone()
        orphans[rows, :, i] = False
        orphans[rows, :, j] = False
        turned, before = orphans.clone(), orphans.clone()
        with_j = self._drawn(orphans, i, j)
        turned[rows, :, i] = with_j.parents
        anew = self._drawn(turned, j)
        turned[rows, :, j] = anew.parents
        with_i = self._drawn(orphans, j, i)
        before[rows, :, j] = adjacency[rows, :, j]
        old = self._drawn(before, i)
        chance = with_j.log_sum + anew.log_sum - with_i.log_sum - old.log_sum
        chance = chance + edges.log() - turned.flatten(1).sum(1).log()
        level = torch.rand(len(rows), generator=self.generator, dtype=torch.float64).log()
        accepted = (edges > 0) & (level < chance)
        adjacency[accepted] = turned[accepted]

    def _drawn(self, adjacency: Tensor, child: Tensor, holding: Tensor | None = None) -> Drawn:
        """New parents for each chain's own `child` (C,) among those that close no cycle, and that hold its `holding` (C,) if given."""
        below = (_descendants(adjacency, child) * self.bits).sum(1)
        parts = [
            self._drawn_of(below[r], child[r], None if holding is None else holding[r])
            for r in torch.split(self.rows, max(1, CACHED // len(self._sets)))
        ]
        return Drawn(*(torch.cat(field) for field in zip(*parts, strict=True)))

    def _drawn_of(self, below: Tensor, child: Tensor, holding: Tensor | None) -> Drawn:
        if holding is None:
            sets, weights = self._sets, self._weights[child]
            forbidden = (sets & below[:, None]) != 0
        else:
            number = self._held[holding]
            sets, weights = self._sets[number], self._weights[child[:, None], number]
            forbidden = ((sets & below[:, None]) != 0) | ~self._holds[holding]
        weights.masked_fill_(forbidden, 0.0)
        total = weights.view(len(child), -1, PIECE).sum(2)
        shift = torch.zeros(len(child), dtype=torch.float64)
        low = (total.sum(1) < LEAST_SUM).nonzero()[:, 0]
        if len(low):  # all that is allowed is so far below the best that it is lost in rounding
            logs = self._logs[child[low]] if holding is None else self._logs[child[low, None], number[low]]
            logs.masked_fill_(forbidden[low], -torch.inf)
            shift[low] = logs.amax(1)
            weights[low] = (logs - shift[low, None]).exp()
            total[low] = weights[low].view(len(low), -1, PIECE).sum(2)
        column = self._inverted(total, weights)
        chosen = sets[column] if holding is None else sets.gather(1, column[:, None])[:, 0]
        parents = (chosen[:, None] & self.bits) != 0
        return Drawn(parents, total.sum(1).log() + shift)

    def _inverted(self, total: Tensor, weights: Tensor) -> Tensor:
        """(c,) columns of (c, K') `weights`, drawn in proportion: first a piece of `PIECE`, then a column in it."""
        below = total.cumsum(1)
        level = torch.rand(len(total), 1, generator=self.generator, dtype=torch.float64) * below[:, -1:]
        piece = torch.searchsorted(below, level, right=True).clamp_max(below.shape[1] - 1)
        level = level - (below.gather(1, piece) - total.gather(1, piece))
        inside = weights.view(len(total), -1, PIECE)[torch.arange(len(total)), piece[:, 0]].cumsum(1)
        level = torch.minimum(level.clamp_min(0.0), inside[:, -1:] * (1 - 1e-12))
        return piece[:, 0] * PIECE + torch.searchsorted(inside, level, right=True)[:, 0].clamp_max(PIECE - 1)


def _padded(values: Tensor, with_: float) -> Tensor:
    """(n, K) with whole pieces of `PIECE` columns."""
    return torch.nn.functional.pad(values, (0, -values.shape[1] % PIECE), value=with_)


def _descendants(adjacency: Tensor, of: Tensor) -> Tensor:
    """(C, V) bool: in each of C graphs the variable `of` (C,) itself and everything below it."""
    found = torch.nn.functional.one_hot(of, adjacency.shape[1]).float()[:, None]  # (C, 1, V)
    graph = adjacency.float()
    while True:
        more = (found @ graph + found).clamp_max_(1.0)
        if torch.equal(more, found):
            return found[:, 0].bool()
        found = more

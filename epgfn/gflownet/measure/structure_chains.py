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
        self.masks = parent_masks(v, max_parents)
        self.parents = parent_matrix(self.masks, v)  # (K, V)
        self.table = table.double().masked_fill(self.parents.T, -torch.inf)
        self.adjacency, self.max_parents, self.generator = adjacency, max_parents, generator
        self.rows, self.bits = torch.arange(len(adjacency)), 1 << torch.arange(v)

    def sweep(self) -> None:
        """V parent moves and V reversals a chain."""
        for _ in range(self.table.shape[0]):
            self.new_parents()
            self.reverse()

    def cool(self, sweeps: int) -> None:
        """So many sweeps from hot, with scores divided by `HOTTEST`, to the target itself."""
        table = self.table
        for number in range(sweeps):
            self.table = table / (1 + (HOTTEST - 1) * (1 - (number + 1) / sweeps))
            self.sweep()
        self.table = table

    def new_parents(self) -> None:
        """Each chain draws the parents of one random variable from their exact conditional."""
        child = torch.randint(self.table.shape[0], (len(self.rows),), generator=self.generator)
        drawn = self._drawn(self._scores(self.adjacency, child))
        self.adjacency[self.rows, :, child] = self.parents[drawn]

    def reverse(self) -> None:
        """Each chain tries to turn one random edge i -> j of its own, with new parents for both i and j."""
        adjacency, rows = self.adjacency, self.rows
        flat = adjacency.flatten(1)
        edges = flat.sum(1)
        some = torch.where((edges > 0)[:, None], flat, True).float()
        edge = torch.multinomial(some, 1, generator=self.generator)[:, 0]
        i, j = edge // self.table.shape[0], edge % self.table.shape[0]
        orphans = adjacency.clone()
        orphans[rows, :, i] = False
        orphans[rows, :, j] = False
        log_forward, log_backward = [], []
        turned, before = orphans.clone(), orphans.clone()
        with_j = self._scores(orphans, i).masked_fill_(~self._holding(j), -torch.inf)
        log_forward.append(with_j.logsumexp(1))
        turned[rows, :, i] = self.parents[self._drawn(with_j)]
        anew = self._scores(turned, j)
        log_forward.append(anew.logsumexp(1))
        turned[rows, :, j] = self.parents[self._drawn(anew)]
        log_backward.append(self._scores(orphans, j).masked_fill_(~self._holding(i), -torch.inf).logsumexp(1))
        before[rows, :, j] = adjacency[rows, :, j]
        log_backward.append(self._scores(before, i).logsumexp(1))
        chance = sum(log_forward) - sum(log_backward) + edges.log() - turned.flatten(1).sum(1).log()
        level = torch.rand(len(rows), generator=self.generator, dtype=torch.float64).log()
        accepted = (edges > 0) & (level < chance)
        adjacency[accepted] = turned[accepted]

    def _scores(self, adjacency: Tensor, child: Tensor) -> Tensor:
        """(C, K) scores of the parent sets of each chain's own `child` (C,); -inf where one would close a cycle."""
        below = (_descendants(adjacency, child) * self.bits).sum(1)
        return self.table[child].masked_fill_((self.masks & below[:, None]) != 0, -torch.inf)

    def _holding(self, variable: Tensor) -> Tensor:
        """(C, K) bool: the sets that hold each chain's own `variable`."""
        return self.parents.T[variable]

    def _drawn(self, score: Tensor) -> Tensor:
        """(C,) a column of (C, K) `score`, with probability proportional to its exponential."""
        weight = (score - score.amax(1, keepdim=True)).exp_().cumsum_(1)
        level = torch.rand(len(score), 1, generator=self.generator, dtype=torch.float64) * weight[:, -1:]
        return torch.searchsorted(weight, level, right=True)[:, 0].clamp_max(score.shape[1] - 1)


def _descendants(adjacency: Tensor, of: Tensor) -> Tensor:
    """(C, V) bool: in each of C graphs the variable `of` (C,) itself and everything below it."""
    found = torch.nn.functional.one_hot(of, adjacency.shape[1]).float()[:, None]  # (C, 1, V)
    graph = adjacency.float()
    while True:
        more = (found @ graph + found).clamp_max_(1.0)
        if torch.equal(more, found):
            return found[:, 0].bool()
        found = more

"""Structure MCMC on the exact product of all nodes' scores: Metropolis over DAGs, many chains at once.

A move picks an ordered pair (i, j) uniformly and, with equal chances, takes the edge i -> j in or out, or turns i -> j around.
Proposals are symmetric; what closes a cycle or has too many parents is refused. Madigan & York, International Statistical
Review 63 (1995).
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from epgfn.bench.baselines.base import Case, Found
from epgfn.spaces import DagBySinks
from epgfn.spaces.parent_index import modular_score

CHAINS = 512
BURN_IN = 0.2
KEPT = 2000
"""Times the chains are looked at, spread evenly over the time after the burn-in."""


def structure_chains(case: Case) -> Found | None:
    """Where the product's scores are at hand: for as many CPU-seconds as a local and the global model took together."""
    federation = case.federation
    if federation.scores is None or not isinstance(federation.space, DagBySinks):
        return None
    generator = torch.Generator().manual_seed(case.seed)
    chains = Chains(federation.scores, federation.max_parents, CHAINS, generator)
    began = time.process_time()
    while time.process_time() - began < BURN_IN * case.cpu_s:
        chains.step()
    kept: list[Tensor] = []
    while (spent := time.process_time() - began) < case.cpu_s or not kept:
        chains.step()
        share = (spent / case.cpu_s - BURN_IN) / (1 - BURN_IN)
        if len(kept) <= share * KEPT:
            kept.append(chains.adjacency.clone())
    spent = time.process_time() - began
    final = federation.space.terminal(torch.cat(kept))
    return Found(federation.yardstick.of_objects(final), None, spent)


class Chains:
    """`n` chains that start from the empty graph; `adjacency` (n, V, V) bool is where they are."""

    def __init__(self, scores: Tensor, max_parents: int, n: int, generator: torch.Generator) -> None:
        """`scores` (V, K) float64 nats."""
        self._scores, self._max_parents, self._generator = scores, max_parents, generator
        self._variables = len(scores)
        self._rows = torch.arange(n)
        self.adjacency = torch.zeros(n, self._variables, self._variables, dtype=torch.bool)
        self._value = modular_score(scores, self.adjacency, max_parents)

    def step(self) -> None:
        """One move of every chain."""
        proposed, possible = self._proposal()
        value = modular_score(
            self._scores, torch.where(possible[:, None, None], proposed, self.adjacency), self._max_parents
        )
        chance = (value - self._value).exp()
        accepted = possible & (torch.rand(len(chance), generator=self._generator) < chance)
        self.adjacency = torch.where(accepted[:, None, None], proposed, self.adjacency)
        self._value = torch.where(accepted, value, self._value)

    def _proposal(self) -> tuple[Tensor, Tensor]:
        """Proposed graphs (n, V, V), and (n,) which of them are DAGs that may be."""
        n, v = len(self._rows), self._variables
        pair = torch.randint(v * (v - 1), (n,), generator=self._generator)
        i, j = pair // (v - 1), pair % (v - 1)
        j = j + (j >= i)
        turn = torch.rand(n, generator=self._generator) < 0.5
        edge = self.adjacency[self._rows, i, j]
        proposed = self.adjacency.clone()
        proposed[self._rows, i, j] = ~edge & ~turn
        back = proposed[self._rows, j, i]
        proposed[self._rows, j, i] = torch.where(turn, edge, back)
        few = (proposed.sum(1) <= self._max_parents).all(1)
        possible = few & ~(turn & ~edge) & _acyclic(proposed)
        return proposed, possible


def _acyclic(adjacency: Tensor) -> Tensor:
    """(n,) bool: by squaring, all paths of up to V edges; a variable that reaches itself lies on a cycle."""
    reach, length = adjacency.float(), 1
    while length < adjacency.shape[1]:
        reach = ((reach + reach @ reach) > 0).float()
        length *= 2
    return ~reach.diagonal(dim1=1, dim2=2).any(1)

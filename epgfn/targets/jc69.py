"""Likelihood of an alignment on a tree: Jukes & Cantor's model, one fixed branch length, Felsenstein's pruning.

A site evolves from the root, where the four bases are equally likely, along each branch of length b (expected changes a
site) with

    P(same) = 1/4 + 3/4 e,   P(another, each) = 1/4 - 1/4 e,   e = exp(-4 b / 3).

The partial likelihood of a leaf is 1 for each base its character allows (so gaps and N say nothing), and that of a node is
prod over its two children c of e L_c(x) + (1 - e)/4 sum_y L_c(y); log f(D | tree) = sum over sites of log 1/4 sum_x L_root(x).
Jukes & Cantor 1969; Felsenstein, Journal of Molecular Evolution 17 (1981).

Sites that look the same are computed once, with their number as weight, and so is each subtree that several trees of a batch
have in common. `epgfn.gflownet.rewards.remembered` keeps what trees of earlier batches were worth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.spaces.base import take
from epgfn.gflownet.spaces.phylogeny import Phylogeny, State, distinct

_BATCH_NUMBERS = 1 << 23  # 64 MiB of float64 partial likelihoods at once
_LEAST_LOG = -600.0  # what float64 surely holds
MAX_BRANCH = 10.0
"""Longer branches leave nothing of the signal: e is below 2e-6."""


class Patterns(NamedTuple):
    """The P distinct sites of an alignment: `partials` (n, P, 4) float64, 1 for each base a leaf's character allows, and
    `weights` (P,) float64, how many sites look so."""

    partials: Tensor
    weights: Tensor


def compress(codes: Tensor) -> Patterns:
    """Distinct sites of an alignment (n, sites) uint8, each character the sum of 1, 2, 4, 8 for A, C, G, T it may be.

    Raises:
        ValueError: a code outside 1 to 15.
    """
    if codes.ndim != 2 or not bool(((codes >= 1) & (codes <= 15)).all()):
        raise ValueError("codes must be (leaves, sites), each 1 to 15")
    distinct, weights = torch.unique(codes, dim=1, return_counts=True)
    partials = (distinct[:, :, None] >> torch.arange(4)) & 1
    return Patterns(partials.double(), weights.double())


def site_patterns(n_leaves: int) -> Tensor:
    """(C, n) uint8 codes: one site for each way to have four bases on n leaves up to renaming them, which changes no likelihood."""
    ways = [[0]]
    for _ in range(n_leaves - 1):
        ways = [[*way, base] for way in ways for base in range(min(max(way) + 2, 4))]
    return (1 << torch.tensor(ways)).to(torch.uint8)


def pattern_of(codes: Tensor) -> Tensor:
    """The row of `site_patterns` that each site has up to renaming bases: (m, n) uint8 -> (m,) int64; -1 where a base is not known."""
    listed = site_patterns(codes.shape[1])
    digits = 4 ** torch.arange(codes.shape[1] - 1, -1, -1)
    shown = codes[:, :, None] == 1 << torch.arange(4)  # (m, n, 4)
    first = torch.where(shown.any(1), shown.int().argmax(1), codes.shape[1])  # (m, 4)
    earlier = (first[:, None, :] < first[:, :, None]).sum(2)  # (m, 4): the new name of each base
    names = (shown * earlier[:, None, :]).sum(2)
    order = (listed.double().log2().long() * digits).sum(
        1
    )  # increasing, since patterns are listed in that order
    row = torch.searchsorted(order, (names * digits).sum(1))
    return torch.where(shown.any(2).all(1), row, -1)


def by_site(space: Phylogeny, branch_length: float) -> Callable[[Tensor, State], Tensor]:
    """log f of single sites: codes (m, n) uint8, a row a site, and B finished trees -> (m, B) float64 nats."""

    def per_record(records: Tensor, state: State) -> Tensor:
        patterns, which = torch.unique(records, dim=0, return_inverse=True)
        target = Jc69(space, patterns.T, branch_length)  # whose patterns stand in the same order
        first, row = distinct(space, state)
        block = max(1, _BATCH_NUMBERS // target.patterns.partials.numel())
        parts = [target.site_log_likelihoods(take(state, part)) for part in torch.split(first, block)]
        return torch.cat(parts)[row].T[which]

    return per_record


def simulate(
    space: Phylogeny, state: State, n_sites: int, branch_length: float, generator: torch.Generator
) -> Tensor:
    """`n_sites` sites evolved by the model along the first tree of `state`: codes (n, n_sites) uint8 as `compress` takes them."""
    decay = math.exp(-4 * branch_length / 3)
    joins = space.joins(take(state, torch.tensor([0])))
    bases = torch.zeros(space.n_leaves, n_sites, dtype=torch.int64)
    bases[0] = torch.randint(4, (n_sites,), generator=generator)
    for left, right in zip(joins.left[0].flip(0).tolist(), joins.right[0].flip(0).tolist(), strict=True):
        parent = bases[left].clone()
        for child in (left, right):
            kept = torch.rand(n_sites, generator=generator) < decay
            bases[child] = torch.where(kept, parent, torch.randint(4, (n_sites,), generator=generator))
    return (1 << bases).to(torch.uint8)


class Jc69:
    """log f(D | tree) of one party's sites for batches of finished trees."""

    def __init__(self, space: Phylogeny, codes: Tensor, branch_length: float) -> None:
        """`codes` (n, sites) uint8 as `compress` takes them, leaves in the space's order; `branch_length` in expected
        changes per site.

        Raises:
            UsageError: no sites, another number of sequences than leaves, or a branch length outside (0, `MAX_BRANCH`].
        """
        if not 0 < branch_length <= MAX_BRANCH:
            raise UsageError(
                f"the branch length must be above 0 and at most {MAX_BRANCH:g} changes per site; choose another"
            )
        if len(codes) != space.n_leaves or codes.shape[1] == 0:
            raise UsageError(
                f"an alignment for this space has {space.n_leaves} sequences and at least one site; give another file"
            )
        self.space = space
        self.patterns = compress(codes)
        self._decay = math.exp(-4 * branch_length / 3)
        least = (1 - self._decay) / 4  # a partial likelihood falls at most to this share along a branch
        self._underflows = 2 * (space.n_leaves - 1) * math.log(max(least, 1e-300)) < _LEAST_LOG

    def log_likelihood(self, state: State) -> Tensor:
        """(B,) float64 nats of the finished trees `state`.

        Raises:
            EpgfnError: sites that this tree cannot give, as with differing sequences and a vanishing branch.
        """
        first, row = distinct(self.space, state)
        block = max(1, _BATCH_NUMBERS // self.patterns.partials.numel())
        parts = torch.split(first, block)
        total = torch.cat(
            [self.site_log_likelihoods(take(state, part)) @ self.patterns.weights for part in parts]
        )
        if not bool(torch.isfinite(total).all()):
            raise EpgfnError("the alignment has no finite likelihood at this branch length; set a longer one")
        return total[row]

    def site_log_likelihoods(self, state: State) -> Tensor:
        """(B, P) float64: log f of one site of each pattern, without its weight."""
        children, root = self.space.subtrees(state)
        n, patterns = self.space.n_leaves, self.patterns.partials.shape[1]
        made = n + sum(len(pairs) for pairs in children)
        above = torch.empty(
            made, 4, patterns, dtype=torch.float64
        )  # partial likelihoods above each subtree's branch
        log_scale = torch.zeros(made, patterns if self._underflows else 1, dtype=torch.float64)
        above[:n] = self._along_branch(self.patterns.partials.transpose(1, 2))
        start = n
        for left, right in (pairs.T for pairs in children):
            new = slice(start, start := start + len(left))
            node = above[left].mul_(above[right])
            if self._underflows:
                largest = node.amax(1)
                node = node / largest[:, None]
                log_scale[new] = log_scale[left] + log_scale[right] + largest.log()
            above[new] = self._along_branch(node)
        return above[root].mean(1).log() + log_scale[root]  # a branch changes no mean over the bases

    def _along_branch(self, partial: Tensor) -> Tensor:
        """(M, 4, P): partial likelihoods at the upper end of a branch, from those at its lower end."""
        change = partial.sum(1, keepdim=True) * ((1 - self._decay) / 4)
        return change.add(partial, alpha=self._decay)

"""Chains over trees on Jukes and Cantor's likelihood, all branches alike: an alignment as `subtree_moves` reads it.

Sites that differ in the names of their bases only are one, with their number as weight: all bases are alike to the model.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from typing import Final

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.measure import subtree_moves
from epgfn.gflownet.measure.subtree_moves import TOGETHER, Floats
from epgfn.gflownet.measure.tree_chains import CHAINS, FEWER_CHAINS, Parts, Trees
from epgfn.targets.jc69 import compress

FEW: Final = 32
"""Taxa beyond which populations are of fewer chains: a sweep takes eight times as long where there are twice as many."""
LEAST_LOG: Final = -600.0
"""Nats that a partial likelihood in float64 surely holds."""


class Jc69Moves:
    """`epgfn.gflownet.measure.tree_chains.TreeMoves` on one party's sites, or on several parties' together."""

    def __init__(self, codes: Tensor, branch_length: float) -> None:
        """`codes` (n, sites) uint8 as `jc69.compress` takes them; `branch_length` in expected changes per site.

        Raises:
            UsageError: branches so short that float64 does not hold the likelihood of any tree.
        """
        self.n_leaves = len(codes)
        self.chains = CHAINS if self.n_leaves <= FEW else FEWER_CHAINS
        self._decay = math.exp(-4 * branch_length / 3)
        if self.n_leaves * math.log(max((1 - self._decay) / 4, 1e-300)) < LEAST_LOG:
            raise UsageError(
                "branches are too short for chains on so many taxa; choose a larger target.branch_length"
            )
        partials, weights = compress(renamed(codes))
        order = weights.argsort(stable=True)
        weight = weights[order].numpy()
        edges = np.nonzero(np.diff(weight))[0] + 1
        starts = np.concatenate([[0], edges])
        ends = [*edges.tolist(), len(weight)]
        cuts = [
            at
            for start, end in zip(starts.tolist(), ends, strict=True)
            for at in [*range(start + TOGETHER, end, TOGETHER), end]
        ]
        self._ends = np.array(cuts, np.int64)
        self._weight = weight[self._ends - 1].copy()
        leaves = partials[:, order].transpose(1, 2).contiguous().numpy().copy()
        for leaf in leaves:
            subtree_moves.carry(leaf, self._decay)
        self._leaves = leaves

    def move(self, trees: Trees, moves: int, random: np.random.Generator, beta: float = 1.0) -> None:
        subtree_moves.moves(*trees, self._leaves, self._ends, self._weight, self._decay, moves, beta, random)

    def log_reward(self, parts: Parts) -> Floats:
        """(C,) nats."""
        trees = parts.trees()
        subtree_moves.worths(
            trees.parent,
            trees.children,
            self._leaves,
            self._ends,
            self._weight,
            self._decay,
            trees.log_reward,
        )
        return trees.log_reward

    def digest(self) -> bytes:
        found = hashlib.sha256(f"jc69 {self._decay!r} {self._leaves.shape}".encode())
        for part in (self._leaves, self._ends, self._weight):
            found.update(part.tobytes())
        return found.digest()


def renamed(codes: Tensor) -> Tensor:
    """(n, sites) uint8: of all ways to rename a site's bases the one that comes first, so that equal patterns are equal sites."""
    whole = codes.T.long()  # (sites, n)
    found = whole
    for names in itertools.permutations(range(4)):
        named = sum(((whole >> base) & 1) << name for base, name in enumerate(names))
        assert isinstance(named, Tensor)
        difference = named - found
        first = (difference != 0).to(torch.uint8).argmax(1, keepdim=True)
        found = torch.where(difference.gather(1, first) < 0, named, found)
    return found.T.to(torch.uint8)

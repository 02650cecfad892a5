"""The policy for rooted trees: scores of splits with their exact flow, and a network over subtrees for the rest.

    log p_F(join A, B | forest) = phi(A, B) + log g(partition after) - log #roots(after) + r(A, B, forest)  + const,

    phi       a score for each split (unordered pair of leaf sets), and g the exact flow it gives (`partitions`); carried
              for up to `partitions.MAX_LEAVES` leaves, beyond which both are left out;
    #roots    subtrees that are no leaves, one over p_B;
    r         a network: each node of a subtree is embedded from the leaf sets below its two children, a subtree is the sum
              over its nodes, a pair the sum of its two subtrees, beside the mean over all of the forest. Which child or
              subtree comes first does not matter, nor the order of joining.

Without r this samples the trees of the best score that is a sum over splits. A likelihood is no such sum, but where it is
large it nearly is, and r learns what is missing. Scores come from `split_regression`, r from training.
Compare the subsplit distributions of Zhang & Matsen, NeurIPS 2018.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import gelu

from epgfn.gflownet.policies import partitions
from epgfn.gflownet.policies.base import Choices
from epgfn.gflownet.policies.bounds import bounded, bounded_hidden
from epgfn.gflownet.policies.partitions import partitions_of, split_list
from epgfn.gflownet.policies.spec import TensorSpec
from epgfn.gflownet.spaces.base import take
from epgfn.gflownet.spaces.phylogeny import Phylogeny, State, distinct

SCORES = "split_table"


def has_scores(space: Phylogeny) -> bool:
    """The policy carries a score for each split."""
    return space.n_leaves <= partitions.MAX_LEAVES


def spec(space: Phylogeny, hidden: int) -> dict[str, TensorSpec]:
    """Tensors of one model; h = `hidden`."""
    n, h = space.n_leaves, hidden
    shapes: dict[str, tuple[int, ...]] = {
        "node.0.weight": (2 * n, h),  # from the leaves below a node's children
        "node.0.bias": (1, h),
        "node.1.weight": (h, h),
        "root.weight": (n, h),  # from the leaves of a subtree
        "root.bias": (1, h),
        "pair.weight": (h, h),
        "forest.weight": (h, h),
        "forest.bias": (1, h),
        "score.0.weight": (h, h),
        "score.0.bias": (1, h),
        "score.1.weight": (h, 1),
    }
    if has_scores(space):
        shapes[SCORES] = (len(split_list(n)),)
    return {name: TensorSpec(shape, "float32") for name, shape in shapes.items()}


def initial_tensors(
    space: Phylogeny, hidden: int, generator: torch.Generator, scores: Tensor | None = None
) -> dict[str, Tensor]:
    """A fresh model: r = 0, around (S,) `scores` (nats; None: 0), whose largest becomes 0."""
    tensors: dict[str, Tensor] = {}
    for name, entry in spec(space, hidden).items():
        tensors[name] = torch.zeros(entry.shape)
        if name.endswith("weight") and name != "score.1.weight":
            tensors[name].uniform_(-1, 1, generator=generator).mul_(math.sqrt(3 / entry.shape[0]))
    if scores is not None and has_scores(space):
        tensors[SCORES] = (scores - scores.max()).float()
    return tensors


class TreeNet:
    """N models evaluated together; see the module for the equation."""

    def __init__(self, space: Phylogeny, models: Sequence[Mapping[str, Tensor]]) -> None:
        self.space = space
        self.n_models = len(models)
        self.weights = {name: torch.stack([m[name] for m in models]) for name in models[0] if name != SCORES}
        if has_scores(space):
            self.partitions = partitions_of(space.n_leaves)
            self.scores = torch.stack([m[SCORES] for m in models])  # (N, S)
            potential = [self.partitions.potential(s) for s in self.scores]
            self.flow = (
                torch.stack(potential) + self.partitions.log_pb
            )  # (N, P) of g p_B, for steps into a partition

    def parameters(self) -> list[Tensor]:
        return list(self.weights.values())

    def tensors(self, model: int = 0) -> dict[str, Tensor]:
        net = {name: w[model].detach().clone() for name, w in self.weights.items()}
        return {**net, SCORES: self.scores[model].clone()} if has_scores(self.space) else net

    def choices(self, state: State) -> Choices:
        """Each distinct forest is evaluated once: a batch that nears its posterior has few."""
        first, row = distinct(self.space, state)
        found = self._choices(take(state, first))
        return Choices(found.action[row], found.log_prob[:, row])

    def _choices(self, state: State) -> Choices:
        held = self.space.open(state)
        k, rows = int(held[0].sum()), len(held)
        if k == 1:  # finished: one action, for the sake of being a distribution
            nothing = torch.zeros(rows, 1, dtype=torch.int64)
            return Choices(nothing, torch.zeros(self.n_models, rows, 1))
        slots = held.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :k]  # ascending slots
        side = torch.triu_indices(k, k, 1)
        left, right = slots[:, side[0]], slots[:, side[1]]  # (B, L)
        logits = self._guess(state, held, left, right)
        if k > 2:  # of two subtrees there is nothing to choose
            logits = logits + self._residual(state, slots, side)
        return Choices(self.space.number[left, right], logits.log_softmax(2))

    def _guess(self, state: State, held: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """All of the logits but r: (N, B, L)."""
        if not has_scores(self.space):
            grown = self.space.backward_mask(state)
            after = grown.sum(1, keepdim=True) + 1
            after = after - grown.gather(1, left).long() - grown.gather(1, right).long()
            return -after.float().log().expand(self.n_models, -1, -1)
        k, parts = int(held[0].sum()), self.partitions
        level = parts.levels[self.space.n_leaves - k]
        row = parts.row(parts.key(torch.where(held, state.clades, 0)), k)
        guess = self.scores[:, level.split[row]] + self.flow[:, level.target[row]]
        return (guess - guess.amax(2, keepdim=True)).float()

    def _residual(self, state: State, slots: Tensor, side: Tensor) -> Tensor:
        """r of the pairs `side` (2, L) of the k subtrees in `slots` (B, k): (N, B, L)."""
        subtrees = self._subtrees(state, slots)  # (N, B, k, h)
        pair = subtrees @ self._weight("pair.weight")
        forest = subtrees.mean(2, keepdim=True) @ self._weight("forest.weight") + self._weight("forest.bias")
        hidden = bounded_hidden(gelu(pair[:, :, side[0]] + pair[:, :, side[1]] + forest))  # (N, B, L, h)
        hidden = gelu(hidden @ self._weight("score.0.weight") + self._weight("score.0.bias"))
        return bounded((hidden @ self._weight("score.1.weight"))[..., 0])

    def _subtrees(self, state: State, slots: Tensor) -> Tensor:
        """An embedding of each subtree of the forest: (N, B, k, h)."""
        space, roots = self.space, state.clades.gather(1, slots)
        halves = [space.members(state.nodes & ~state.clades), space.members(state.clades)]  # (B, n, n) each
        nodes = torch.zeros(())
        for first, second in (halves, halves[::-1]):  # either child first, so that neither is
            below = torch.cat([first, second], 2)
            nodes = nodes + gelu(below @ self._weight("node.0.weight") + self._weight("node.0.bias"))
        within = (state.nodes[:, None] & roots[:, :, None]) == state.nodes[:, None]  # (B, k, n)
        within = within & (state.nodes != 0)[:, None]
        inside = (within.float() @ nodes) @ self._weight("node.1.weight")  # (N, B, k, h)
        return gelu(inside + space.members(roots) @ self._weight("root.weight") + self._weight("root.bias"))

    def _weight(self, name: str) -> Tensor:
        return self.weights[name].unsqueeze(1)  # (N, 1, in, out), for (N or 1, B, any, in)

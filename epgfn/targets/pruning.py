"""Felsenstein's pruning on unrooted trees whose branches have lengths of their own, with first and second derivatives, for a batch of
trees at once.

An unrooted tree over n taxa is a rooted one over the first n - 1 (`epgfn.gflownet.spaces.phylogeny`), the last taxon hanging from its
root. So each of the 2 n - 3 nodes below it has the one branch above it: branch v < n - 1 is that of leaf v, those after it are of the
joins in their order, and the last leads to the last taxon. With a reversible model it makes no difference where a tree is rooted
(Felsenstein, Journal of Molecular Evolution 17, 1981).

Along branch v the likelihood of a site is L = sum over its ends x of U_v(x) (P(t_v) D_v)(x), U_v what everything above says and D_v
what everything below says: linear in P(t_v). A second derivative by two branches carries the derivative of what is below one of
them up to where their ways meet.

Shapes: B trees, V = 2 n - 3 branches, K rates of a site, P site patterns.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.spaces.phylogeny import Phylogeny, State
from epgfn.targets.jc69 import Patterns
from epgfn.targets.substitution import Substitution


class Shape(NamedTuple):
    """How B trees are put together: `left`, `right` (B, n - 2) int64: the two nodes that each join puts below a new one."""

    left: Tensor
    right: Tensor

    @property
    def leaves(self) -> int:
        """Of the rooted trees: n - 1."""
        return self.left.shape[1] + 1


def shape_of(space: Phylogeny, state: State) -> Shape:
    """Of finished trees over the first n - 1 taxa."""
    joins, leaves = space.joins(state), space.n_leaves
    number = torch.arange(leaves).repeat(len(state.nodes), 1)  # of the subtree in each slot
    left, right = [], []
    for step in range(leaves - 1):
        into, out = joins.left[:, step, None], joins.right[:, step, None]
        left.append(number.gather(1, into)[:, 0])
        right.append(number.gather(1, out)[:, 0])
        number.scatter_(1, into, leaves + step)
    return Shape(torch.stack(left, 1), torch.stack(right, 1))


def members(shape: Shape) -> Tensor:
    """(B, V, n) bool: the taxa below each branch; below the last one are all but the last."""
    trees, leaves = len(shape.left), shape.leaves
    below = torch.zeros(trees, 2 * leaves - 1, leaves + 1, dtype=torch.bool)
    below[:, :leaves, :leaves] = torch.eye(leaves, dtype=torch.bool)
    many = torch.arange(trees)
    for step in range(leaves - 1):
        below[:, leaves + step] = below[many, shape.left[:, step]] | below[many, shape.right[:, step]]
    return below


class Pruned(NamedTuple):
    """One evaluation: `log_site` (B, P) log-likelihoods; `below` D and `above` U (B, V, K, 4, P), on scales of their own such that
    sum U (P D) is the same number `level` (B, P) along every branch of a tree; `change` (B, V, K, 4, 4); `scale` (B, n - 2, P) what
    each join was divided by."""

    shape: Shape
    log_site: Tensor
    below: Tensor
    above: Tensor
    level: Tensor
    change: Tensor
    scale: Tensor


def prune(shape: Shape, length: Tensor, model: Substitution, patterns: Patterns) -> Pruned:
    """Trees `shape` with branch lengths (B, V) float64; `patterns` of n taxa, the last of them the one at the root."""
    leaves, many = shape.leaves, torch.arange(len(length))
    tips = patterns.partials.transpose(1, 2)[:, None]  # (n, 1, 4, P)
    change = model.changes(length)
    speeds, sites = change.shape[2], tips.shape[3]
    below = torch.empty(len(length), 2 * leaves - 1, speeds, 4, sites, dtype=torch.float64)
    below[:, :leaves] = tips[:leaves]
    scale = torch.empty(len(length), leaves - 1, sites, dtype=torch.float64)
    arrived = torch.empty_like(below)
    arrived[:, :leaves] = change[:, :leaves] @ below[:, :leaves]
    for step in range(leaves - 1):
        node = arrived[many, shape.left[:, step]] * arrived[many, shape.right[:, step]]
        largest = node.amax((1, 2))
        scale[:, step] = largest
        below[:, leaves + step] = node / largest[:, None, None]
        arrived[:, leaves + step] = change[:, leaves + step] @ below[:, leaves + step]
    above = torch.empty_like(below)
    above[:, -1] = model.frequencies[:, None] * tips[leaves] / speeds
    for step in range(leaves - 2, -1, -1):
        number = leaves + step
        down = change[:, number].mT @ above[:, number] / scale[:, step, None, None]
        left, right = shape.left[:, step], shape.right[:, step]
        above[many, left] = down * arrived[many, right]
        above[many, right] = down * arrived[many, left]
    level = (above[:, -1] * arrived[:, -1]).sum((1, 2))
    return Pruned(shape, level.log() + scale.log().sum(1), below, above, level, change, scale)


def slopes(done: Pruned, model: Substitution) -> Tensor:
    """(B, V, P): d log L / d t of every site by every branch."""
    pushed = _turned(done.change, model) @ done.below
    return (done.above * pushed).sum((2, 3)) / done.level[:, None]


def curvature(done: Pruned, model: Substitution, patterns: Patterns) -> Tensor:
    """(B, V, V): the second derivatives by branch lengths of the log-likelihood of all sites."""
    shape, leaves, many = done.shape, done.shape.leaves, torch.arange(len(done.level))
    turned = _turned(done.change, model)
    pushed = turned @ done.below
    arrived = done.change @ done.below
    slope = (done.above * pushed).sum((2, 3)) / done.level[:, None]
    each = patterns.weights / done.level  # (B, P)
    twice = (done.above * (_turned(turned, model) @ done.below)).sum((2, 3))
    found = torch.diag_embed((twice * each[:, None]).sum(2) / 2)  # the halves, and what is above the diagonal
    carried = pushed.clone()  # the derivative by each branch of what arrives above it
    holder = torch.arange(2 * leaves - 1).repeat(len(many), 1)  # the node above which that is
    for step in range(leaves - 1):
        node, left, right = leaves + step, shape.left[:, step], shape.right[:, step]
        in_left = holder == left[:, None]
        inside = in_left | (holder == right[:, None])
        members, which = _padded(inside)
        mine = carried[many[:, None], members] * which[..., None, None, None]  # (B, M, K, 4, P)
        of_left = in_left.gather(1, members)[..., None, None, None]
        down = done.change[:, node].mT @ done.above[:, node] / done.scale[:, step, None, None]
        meet = (mine * of_left * (down * each[:, None, None])[:, None]).flatten(2) @ (
            mine * ~of_left
        ).flatten(2).mT
        other = torch.where(of_left, arrived[many, right][:, None], arrived[many, left][:, None])
        mine = mine * other / done.scale[:, step, None, None, None]
        turn = turned[:, node].mT @ done.above[:, node] * each[:, None, None]
        passed = (mine.flatten(2) @ turn.flatten(1)[..., None])[..., 0]  # (B, M)
        found[many[:, None, None], members[:, :, None], members[:, None]] += (
            meet * which[:, :, None] * which[:, None]
        )
        found[many[:, None], members, node] += passed * which
        mine = done.change[:, node, None] @ mine
        carried[many[:, None], members] = torch.where(
            which[..., None, None, None], mine, carried[many[:, None], members]
        )
        holder = torch.where(inside, node, holder)
    return found + found.mT - (slope * patterns.weights) @ slope.mT


def along(done: Pruned, model: Substitution) -> Tensor:
    """(B, V, K, 4, P) c such that with one branch's length t, all others as they are, the likelihood of a site relative to what it is
    now is sum over K and 4 of c exp(values speeds t)."""
    parts = (model.left @ done.below) * (model.right.T @ done.above)
    return parts / done.level[:, None, None, None]


def _turned(change: Tensor, model: Substitution) -> Tensor:
    """d P / d t: (..., K, 4, 4)."""
    return model.speeds[:, None, None] * (model.rates @ change)


def _padded(inside: Tensor) -> tuple[Tensor, Tensor]:
    """The columns that are set in each row of (B, V) bool, filled up with others: (B, M) int64, and (B, M) bool: which are."""
    order = inside.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    members = order[:, : int(inside.sum(1).max())]
    return members, inside.gather(1, members)

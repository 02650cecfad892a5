"""Rooted binary trees over labelled leaves: start with n single leaves, join two subtrees until one is left.

State     a forest. A subtree is held in the slot of its smallest leaf; joining the subtrees of slots i < j keeps i and
          closes j. So each new node belongs to the one slot it closed, and equal forests are equal tensors, whatever the
          order of joining.
Action    the pair i < j of subtrees to join, numbered as `torch.triu_indices(n, n, 1)` lists them: n - 1 steps, always.
Backward  split the root of a subtree that is no leaf, uniformly: p_B = 1 / #such subtrees.

A set of leaves is a 64-bit mask in an int64, bit i = leaf i; with 64 leaves the number may be negative, which is only its
sign bit. A forest of k trees over n leaves can be (2n - k - 1)! / ((k - 1)! (n - k)! 2^(n - k)) different ones; for k = 1 that
is (2n - 3)!!, 10,395 for seven leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.spaces.base import Back

MAX_LEAVES = 64
MAX_LISTED = 9
"""Leaves up to which all trees are listed: 2,027,025 of them."""


class State(NamedTuple):
    """`nodes` (B, n) int64: the leaves below the node whose making closed slot j, 0 while j is open. `clades` (B, n)
    int64: the leaves of the subtree in slot j, as they were when j was closed."""

    nodes: Tensor
    clades: Tensor


class Joins(NamedTuple):
    """The n - 1 joins of finished trees, children before parents: at step t slot `right` goes into slot `left`; (B, n - 1)
    int64 each."""

    left: Tensor
    right: Tensor


class Subtrees(NamedTuple):
    """The distinct subtrees of a batch of finished trees. Number i < n is leaf i; those after it are numbered in the order of
    `children`, one (M, 2) int64 for each size from 2 to n leaves: the numbers of their two subtrees. `root` (B,) int64: the
    subtree that is the whole tree."""

    children: list[Tensor]
    root: Tensor


class Phylogeny:
    """The space; n = `n_leaves`."""

    stop_action: int | None = None

    def __init__(self, n_leaves: int) -> None:
        if not 2 <= n_leaves <= MAX_LEAVES:
            raise ValueError(f"needs 2 to {MAX_LEAVES} leaves")
        self.n_leaves = n_leaves
        self.pairs = torch.triu_indices(n_leaves, n_leaves, 1)
        """(2, A) int64: slots i < j of each action."""
        self.n_actions = self.pairs.shape[1]
        self.n_backward = n_leaves
        self.n_features = 2 * n_leaves * n_leaves
        self.max_steps = n_leaves - 1
        self.leaves = torch.ones(n_leaves, dtype=torch.int64) << torch.arange(n_leaves)
        """(n,) int64: the mask of each leaf."""
        self.number = torch.zeros(n_leaves, n_leaves, dtype=torch.int64)
        """(n, n) int64: the action that joins slots i < j."""
        self.number[self.pairs[0], self.pairs[1]] = torch.arange(self.n_actions)

    def initial(self, n: int) -> State:
        return State(torch.zeros(n, self.n_leaves, dtype=torch.int64), self.leaves.repeat(n, 1))

    def open(self, state: State) -> Tensor:
        """(B, n) bool: the slots that hold a subtree of the forest."""
        return state.nodes == 0

    def forward_mask(self, state: State) -> Tensor:
        held = self.open(state)
        return held[:, self.pairs[0]] & held[:, self.pairs[1]]

    def step(self, state: State, action: Tensor) -> State:
        left, right = (slots[action, None] for slots in self.pairs)  # (B, 1) each
        done = self.is_terminating(state)[:, None]
        union = state.clades.gather(1, left) | state.clades.gather(1, right)
        nodes = state.nodes.scatter(1, right, torch.where(done, state.nodes.gather(1, right), union))
        clades = state.clades.scatter(1, left, torch.where(done, state.clades.gather(1, left), union))
        return State(nodes, clades)

    def backward_mask(self, state: State) -> Tensor:
        return self.open(state) & (state.clades != self.leaves)

    def step_back(self, state: State, choice: Tensor) -> Back[State]:
        left = choice[:, None]  # (B, 1)
        whole = state.clades.gather(1, left)
        made = (state.nodes == whole) & self.backward_mask(state).gather(1, left)  # (B, n), at most one
        can, right = made.any(1, keepdim=True), made.to(torch.uint8).argmax(1, keepdim=True)
        part = torch.where(can, whole & ~state.clades.gather(1, right), whole)
        before = State(state.nodes.masked_fill(made, 0), state.clades.scatter(1, left, part))
        return Back(before, self.number[left, right][:, 0])

    def is_terminating(self, state: State) -> Tensor:
        return (state.nodes[:, 1:] != 0).all(1)

    def features(self, state: State) -> Tensor:
        """(B, 2 n^2) of zeros and ones: the leaves below each node, and the leaves of each subtree of the forest."""
        roots = torch.where(self.open(state), state.clades, 0)
        return self.members(torch.cat([state.nodes, roots], 1)).flatten(1)

    def members(self, masks: Tensor) -> Tensor:
        """Leaves of each mask: int64 of any shape (...) -> (..., n) float32 of zeros and ones."""
        return ((masks.unsqueeze(-1) & self.leaves) != 0).float()

    def key(self, state: State) -> Tensor:
        """Nodes side by side, as many to a word as fit."""
        n = self.n_leaves
        words = torch.split(state.nodes[:, 1:], max(1, 63 // n), dim=1)
        return torch.stack([(w << (n * torch.arange(w.shape[1]))).sum(1) for w in words], dim=1)

    def joins(self, state: State) -> Joins:
        """How each of the finished trees `state` is put together, smaller nodes first, so that children come before parents."""
        nodes = state.nodes[:, 1:]
        size = self.members(nodes).sum(2)
        right = size.argsort(dim=1, stable=True) + 1  # (B, n - 1)
        whole = state.nodes.gather(1, right)
        left = (self.members(whole) > 0).to(torch.uint8).argmax(2)  # the smallest leaf
        return Joins(left, right)

    def subtrees(self, state: State) -> Subtrees:
        """Each subtree of the finished trees `state` once, however many of them have it."""
        size = self.members(state.nodes).sum(2)
        slot = (self.members(state.nodes) > 0).to(torch.uint8).argmax(2)  # the smallest leaf of each node
        number = torch.arange(self.n_leaves).repeat(len(state.nodes), 1)  # of the subtree in each slot
        made, children = self.n_leaves, []
        for leaves in range(2, self.n_leaves + 1):
            row, right = (size == leaves).nonzero(as_tuple=True)
            left = slot[row, right]
            pair = (number[row, left] << 32) | number[row, right]
            found, which = torch.unique(pair, return_inverse=True)
            number[row, left] = made + which
            children.append(torch.stack([found >> 32, found & 0xFFFFFFFF], 1))
            made += len(found)
        return Subtrees(children, number[:, 0])

    def terminal(self, nodes: Tensor) -> State:
        """The states whose nodes are `nodes` (B, n) int64, as in `State`; the subtree of a slot is its largest node."""
        smallest = nodes & -nodes  # the mask of the smallest leaf of each node
        own = smallest[:, None, :] == self.leaves[:, None]  # (B, slot, node)
        clades = self.leaves.repeat(len(nodes), 1)
        for j in range(1, self.n_leaves):
            clades = clades | torch.where(own[:, :, j], nodes[:, None, j], 0)
        return State(nodes, clades)

    def of_clades(self, clades: Tensor) -> State:
        """Finished trees of their n - 1 leaf sets of two leaves or more, (B, n - 1) int64 in any order."""
        order = self.members(clades).sum(2).argsort(dim=1, stable=True)
        ordered = clades.gather(1, order)
        nodes = torch.zeros(len(clades), self.n_leaves, dtype=torch.int64)
        held = self.leaves.repeat(len(clades), 1)  # of the subtree in each slot, 0 where it was closed
        row = torch.arange(len(clades))
        for whole in ordered.unbind(1):  # children before parents
            inside = (held != 0) & ((held & whole[:, None]) == held)
            left = inside.to(torch.uint8).argmax(1)
            right = self.n_leaves - 1 - inside.flip(1).to(torch.uint8).argmax(1)
            nodes[row, right] = whole
            held[row, right] = 0
            held[row, left] = whole
        return self.terminal(nodes)

    def trees(self) -> State:
        """All (2n - 3)!! finished trees, each once.

        Leaf k is put on each of the 2k - 1 edges of each tree over the leaves before it, the one above the root included.

        Raises:
            ValueError: more than `MAX_LISTED` leaves.
        """
        if self.n_leaves > MAX_LISTED:
            raise ValueError(f"lists the trees of at most {MAX_LISTED} leaves")
        nodes = torch.zeros(1, self.n_leaves, dtype=torch.int64)
        for k in range(1, self.n_leaves):
            new = self.leaves[k]
            edges = torch.cat([nodes[:, 1:k], self.leaves[:k].expand(len(nodes), -1)], 1)  # (B, 2k - 1)
            old, below = nodes[:, None], edges[:, :, None]  # (B, 1, n), (B, 2k - 1, 1)
            above = ((old & below) == below) & (old != below)
            grown = torch.where(above, old | new, old)
            grown[:, :, k] = edges | new
            nodes = grown.flatten(0, 1)
        return self.terminal(nodes)

    def decode(self, state: State) -> list[str]:
        """Newick, leaves by number; a forest is its trees one after the other, `(0,2);1;`."""
        return self.newick(state, [str(i) for i in range(self.n_leaves)])

    def newick(self, state: State, names: Sequence[str], outgroup: str | None = None) -> list[str]:
        """Newick with the leaves' `names`, quoted where Newick asks for it; one string a row. With an `outgroup` finished trees of three
        leaves or more are written as unrooted ones, that taxon beside the two subtrees below their root."""
        labels = [_label(name) for name in names]
        found = []
        for nodes in state.nodes.tolist():
            trees: dict[int, str] = dict(enumerate(labels))
            sets = {
                j: {i for i in range(self.n_leaves) if node >> i & 1} for j, node in enumerate(nodes) if node
            }
            for j, leaves in sorted(sets.items(), key=lambda entry: len(entry[1])):
                trees[min(leaves)] = f"({trees[min(leaves)]},{trees.pop(j)})"
            if outgroup is not None:
                trees[0] = f"{trees[0][:-1]},{_label(outgroup)})"
            found.append("".join(f"{trees[i]};" for i in sorted(trees)))
        return found


def distinct(space: Phylogeny, state: State) -> tuple[Tensor, Tensor]:
    """The first row of each distinct forest, (M,) int64, and for each of the B rows which of the M it is, (B,) int64."""
    keys = space.key(state)
    one = keys[:, 0] if keys.shape[1] == 1 else keys  # far faster to sort
    found, row = torch.unique(one, return_inverse=True, **({} if one.dim() == 1 else {"dim": 0}))
    first = torch.full((len(found),), len(row))
    return first.scatter_reduce(0, row, torch.arange(len(row)), "amin"), row


def _label(name: str) -> str:
    """A Newick label: in quotes where it holds blanks or one of Newick's own characters."""
    plain = name and not any(c.isspace() or c in "()[]{}:;,'\"_" for c in name)
    return name if plain else "'" + name.replace("'", "''") + "'"

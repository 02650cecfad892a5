"""Directed acyclic graphs grown by sinks: add a variable together with its whole parent set.

State     (S, G_S): a set of variables and a DAG on it. Starts empty, ends when S holds all V variables: V steps, always.
Action    (j, Pa) = j * K + k: variable j not in S, and parents Pa within S, number k of `parent_sets`, that are `admissible` for j.
Backward  remove a sink of G_S, uniformly: p_B = 1 / #sinks.

With a modular score log R(G) = sum_j phi_j(Pa_j) the exact flow through a state is exp(sum of phi so far) times a
function of S and its sinks alone, which is why structure posteriors are easy in this graph.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.spaces.base import Back, pack_bits
from epgfn.gflownet.spaces.edge_rules import EdgeRules, RuledDags
from epgfn.gflownet.spaces.parent_index import member_terms, parent_index, set_offsets

if TYPE_CHECKING:
    import networkx as nx


class State(NamedTuple):
    """`members` (B, V) bool is S, `sinks` (B, V) bool its variables without children, `adjacency` (B, V, V) bool is G_S."""

    members: Tensor
    sinks: Tensor
    adjacency: Tensor


class Subsets(NamedTuple):
    """All subsets of {0 .. s-1} with at most `max_parents` members, ordered as `parent_sets` orders them: M of them.

    `members[r]` is (C(s, r), r) int64. Pairs of positions are numbered as the sets of size two: `pair_index`
    (2, s(s-1)/2) says which they are, `pair_number[r]` (r(r-1)/2, C(s, r)) which of them each set of size r has.
    `holding` (s, M') int64: the numbers of the sets that hold each position.
    """

    members: list[Tensor]
    pair_index: Tensor
    pair_number: list[Tensor]
    holding: Tensor


class Legal(NamedTuple):
    """The actions of B states with s members each, whatever a space's rules bar of them: J = V - s candidates and M parent sets.

    `members` (B, s) int64 the variables in S, `candidates` (B, J) those outside, both ascending; `sets` (B, M) int64
    the numbers of the parent sets within S; `subsets` those sets over positions in `members`. Row b's actions are
    candidates[b, :, None] * K + sets[b, None, :].
    """

    members: Tensor
    candidates: Tensor
    sets: Tensor
    subsets: Subsets


class DagBySinks(RuledDags):
    """The space; V = `n_variables`, fan-in at most `max_parents`; graphs that do not keep `rules` are no part of it."""

    stop_action: int | None = None

    def __init__(self, n_variables: int, max_parents: int, rules: EdgeRules | None = None) -> None:
        super().__init__(n_variables, max_parents, rules)
        self.n_sets = sum(math.comb(n_variables, r) for r in range(max_parents + 1))
        self.n_actions = n_variables * self.n_sets
        self.n_backward = n_variables
        self.n_features = 2 * n_variables
        self.max_steps = n_variables
        self._offsets = set_offsets(n_variables, max_parents)
        self._terms = member_terms(n_variables, max_parents)
        self._subsets: dict[int, Subsets] = {}

    def initial(self, n: int) -> State:
        v = self.n_variables
        empty = torch.zeros(n, v, dtype=torch.bool)
        return State(empty, empty.clone(), torch.zeros(n, v, v, dtype=torch.bool))

    def terminal(self, adjacency: Tensor) -> State:
        """The finished states of the DAGs `adjacency` (B, V, V) bool."""
        return State(torch.ones(adjacency.shape[:2], dtype=torch.bool), ~adjacency.any(2), adjacency)

    def forward_mask(self, state: State) -> Tensor:
        within = ~(self.parents & ~state.members[:, None]).any(2)  # (B, K)
        allowed = ~state.members[:, :, None] & within[:, None]
        return (allowed if self.rules is None else allowed & self.admissible).flatten(1)

    def step(self, state: State, action: Tensor) -> State:
        done = self.is_terminating(state)
        child, parents = action // self.n_sets, self.parents[action % self.n_sets]  # (B,), (B, V)
        new = torch.nn.functional.one_hot(child, self.n_variables).bool() & ~done[:, None]
        edges = parents[:, :, None] & new[:, None]  # (B, V, V)
        sinks = (state.sinks & ~(parents & ~done[:, None])) | new
        return State(state.members | new, sinks, state.adjacency | edges)

    def backward_mask(self, state: State) -> Tensor:
        return state.sinks

    def step_back(self, state: State, choice: Tensor) -> Back[State]:
        gone = torch.nn.functional.one_hot(choice, self.n_variables).bool() & state.members
        column = state.adjacency[torch.arange(len(choice)), :, choice].unsqueeze(2)  # (B, V, 1)
        action = choice * self.n_sets + parent_index(column, self.max_parents)[:, 0]
        adjacency = state.adjacency & ~gone[:, None]
        members = state.members & ~gone
        return Back(State(members, members & ~adjacency.any(2), adjacency), action)

    def set_number(self, parents: Tensor) -> Tensor:
        """(B,) int64 numbers of (B, V) bool parent sets within the fan-in."""
        return parent_index(parents[:, :, None], self.max_parents)[:, 0]

    def is_terminating(self, state: State) -> Tensor:
        return state.members.all(1)

    def features(self, state: State) -> Tensor:
        """(B, 2V): members and sinks as -1 or 1. The rest of the graph does not matter to a modular score."""
        return torch.cat([state.members, state.sinks], 1).float() * 2 - 1

    def key(self, state: State) -> Tensor:
        return pack_bits(torch.cat([state.members, state.adjacency.flatten(1)], 1))

    def decode(self, state: State) -> list[nx.DiGraph]:
        """networkx graphs over the variables' numbers."""
        import networkx as nx  # loaded here: training needs none

        graphs = []
        for members, adjacency in zip(state.members, state.adjacency, strict=True):
            graph = nx.DiGraph()
            graph.add_nodes_from(members.nonzero()[:, 0].tolist())
            graph.add_edges_from(adjacency.nonzero().tolist())
            graphs.append(graph)
        return graphs

    def legal(self, state: State) -> Legal:
        """The actions without those that no rule need bar: a few hundred instead of V * K, since V * K is nearly all illegal.

        Every row must have the same number of members, as at the t-th step of any trajectory.
        """
        size = int(state.members[0].sum())
        order = state.members.logical_not().to(torch.uint8).argsort(dim=1, stable=True)
        members, candidates = order[:, :size], order[:, size:]
        subsets = self._subsets_of(size)
        sets = []
        for r, positions in enumerate(subsets.members):
            number = self._offsets[r].expand(len(members), len(positions))
            for i in range(r):
                number = number - self._terms[r, i][members][:, positions[:, i]]
            sets.append(number)
        return Legal(members, candidates, torch.cat(sets, 1), subsets)

    def _subsets_of(self, size: int) -> Subsets:
        if size not in self._subsets:
            top = min(size, self.max_parents)
            members = [
                torch.tensor(list(itertools.combinations(range(size), r)), dtype=torch.int64).view(
                    math.comb(size, r), r
                )
                for r in range(top + 1)
            ]
            pair_index = torch.triu_indices(size, size, 1)
            pair_number = [_pair_numbers(m, size) for m in members]
            self._subsets[size] = Subsets(members, pair_index, pair_number, _holding(members, size))
        return self._subsets[size]


def _pair_numbers(sets: Tensor, size: int) -> Tensor:
    """Numbers of the pairs in each set: (C, r) ascending positions below `size` -> (r(r-1)/2, C)."""
    low, high = (sets[:, index] for index in torch.triu_indices(sets.shape[1], sets.shape[1], 1))
    return (low * (2 * size - low - 1) // 2 + high - low - 1).T


def _holding(members: list[Tensor], size: int) -> Tensor:
    """(s, M') numbers of the sets that hold each position, ascending."""
    start, found = 0, []
    for sets in members:
        number = torch.arange(start, start + len(sets))[:, None].expand_as(sets)
        order = sets.flatten().argsort(stable=True)
        found.append(number.flatten()[order].view(size, sets.numel() // max(size, 1)))
        start += len(sets)
    return torch.cat(found, 1)

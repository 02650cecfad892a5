"""Directed acyclic graphs edge by edge: start with no edges but those that are required, add one at a time, stop anywhere.

State     (G, its transitive closure, stopped or not).
Action    i * V + j: add the edge i -> j; V * V: stop.
Backward  from a stopped state: not yet stopped, the one way back. Otherwise remove any edge that is not required,
          uniformly: p_B = 1 / #those.

An edge i -> j is allowed when the rules allow it, it is new, j does not reach i, and j has room for a parent. Reachability is kept as a
matrix C[i, j] = "i reaches j" (itself included) and updated for a new edge by C | C[:, i] C[j, :] (Deleu et al., UAI 2022).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.spaces.base import Back, pack_bits
from epgfn.gflownet.spaces.edge_rules import EdgeRules, RuledDags

if TYPE_CHECKING:
    import networkx as nx


class State(NamedTuple):
    """`adjacency` (B, V, V) bool, `closure` (B, V, V) bool [b, i, j] = i reaches j, `stopped` (B,) bool."""

    adjacency: Tensor
    closure: Tensor
    stopped: Tensor


def closure_of(adjacency: Tensor) -> Tensor:
    """Reflexive transitive closure: (B, V, V) bool -> (B, V, V) bool, by repeated squaring."""
    v = adjacency.shape[-1]
    reach = (adjacency | torch.eye(v, dtype=torch.bool)).float()
    for _ in range(max(v - 1, 1).bit_length()):
        reach = (reach @ reach).clamp_max(1.0)
    return reach > 0


class DagByEdges(RuledDags):
    """The space; V = `n_variables`, fan-in at most `max_parents`; graphs that do not keep `rules` are no part of it."""

    def __init__(self, n_variables: int, max_parents: int, rules: EdgeRules | None = None) -> None:
        super().__init__(n_variables, max_parents, rules)
        self.stop_action: int | None = n_variables * n_variables
        self.n_actions = n_variables * n_variables + 1
        self.n_backward = self.n_actions
        self.n_features = n_variables * n_variables
        self.max_steps = sum(min(i, max_parents) for i in range(n_variables)) + 1

    def initial(self, n: int) -> State:
        v = self.n_variables
        first = self.fewest_edges.expand(1, v, v)
        closure = torch.eye(v, dtype=torch.bool) if self.rules is None else closure_of(first)
        each = (first.expand(n, v, v).clone(), closure.expand(n, v, v).clone())
        return State(*each, torch.zeros(n, dtype=torch.bool))

    def terminal(self, adjacency: Tensor) -> State:
        """The finished states of the DAGs `adjacency` (B, V, V) bool."""
        return State(adjacency, closure_of(adjacency), torch.ones(len(adjacency), dtype=torch.bool))

    def forward_mask(self, state: State) -> Tensor:
        room = state.adjacency.sum(1) < self.max_parents  # (B, V) of the child
        allowed = ~state.adjacency & ~state.closure.transpose(1, 2) & room[:, None]
        if self.rules is not None:
            allowed = allowed & self.rules.allowed
        mask = torch.cat([allowed.flatten(1), torch.ones(len(allowed), 1, dtype=torch.bool)], 1)
        return mask & ~state.stopped[:, None]

    def step(self, state: State, action: Tensor) -> State:
        stop = state.stopped | (action == self.stop_action)
        one_hot = torch.nn.functional.one_hot(action, self.n_actions)[:, :-1].bool() & ~stop[:, None]
        edge = one_hot.view_as(state.adjacency)
        tail, head = edge.any(2), edge.any(1)  # (B, V) each
        above = (state.closure & tail[:, None]).any(2)  # what reaches the tail
        below = (state.closure & head[:, :, None]).any(1)  # what the head reaches
        closure = state.closure | (above[:, :, None] & below[:, None])
        return State(state.adjacency | edge, closure, stop)

    def backward_mask(self, state: State) -> Tensor:
        loose = state.adjacency if self.rules is None else state.adjacency & ~self.rules.required
        edges = loose.flatten(1) & ~state.stopped[:, None]
        return torch.cat([edges, state.stopped[:, None]], 1)

    def step_back(self, state: State, choice: Tensor) -> Back[State]:
        one_hot = torch.nn.functional.one_hot(choice, self.n_actions)[:, :-1].bool() & ~state.stopped[:, None]
        adjacency = state.adjacency & ~one_hot.view_as(state.adjacency)
        return Back(State(adjacency, closure_of(adjacency), torch.zeros_like(state.stopped)), choice)

    def is_terminating(self, state: State) -> Tensor:
        return state.stopped

    def features(self, state: State) -> Tensor:
        """(B, V * V): edges as -1 or 1."""
        return state.adjacency.flatten(1).float() * 2 - 1

    def key(self, state: State) -> Tensor:
        return pack_bits(torch.cat([state.stopped[:, None], state.adjacency.flatten(1)], 1))

    def decode(self, state: State) -> list[nx.DiGraph]:
        """networkx graphs over the variables' numbers."""
        import networkx as nx  # loaded here: training needs none

        graphs = []
        for adjacency in state.adjacency:
            graph = nx.DiGraph()
            graph.add_nodes_from(range(self.n_variables))
            graph.add_edges_from(adjacency.nonzero().tolist())
            graphs.append(graph)
        return graphs

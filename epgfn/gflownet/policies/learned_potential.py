"""The policy for DAGs by sinks beyond what 2^V numbers can hold: `variable_first` with an order potential that is learned.

L(S + j) starts from completions in reference orders (`reference_orders`), which the model carries as ranks beside its score table;
what they lack, the network's term r_j learns with the rest. Memory grows with V^3 instead of 2^V.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from epgfn.gflownet.policies import order_potential
from epgfn.gflownet.policies.reference_orders import ORDERS, completion, log_completions, search_orders
from epgfn.gflownet.policies.spec import TensorSpec
from epgfn.gflownet.policies.variable_first import VariableFirst
from epgfn.gflownet.spaces.dag_by_sinks import DagBySinks, Legal, State

RANKS = "reference_orders"


def spec(space: DagBySinks, hidden: int) -> dict[str, TensorSpec]:
    """Tensors of one model: those of `order_potential`, and M orders as ranks (M, V)."""
    ranks = TensorSpec((ORDERS, space.n_variables), "float32")
    return {**order_potential.spec(space, hidden), RANKS: ranks}


def initial_tensors(
    space: DagBySinks, hidden: int, table: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """A fresh model around a (V, K) table of scores (nats, float64)."""
    tensors = order_potential.initial_tensors(space, hidden, table, generator)
    return {**tensors, RANKS: search_orders(space, tensors[order_potential.SCORES], generator)}


class LearnedPotential(VariableFirst):
    """N models evaluated together; see the module."""

    def __init__(self, space: DagBySinks, models: Sequence[Mapping[str, Tensor]]) -> None:
        self.ranks = torch.stack([m[RANKS] for m in models])  # (N, M, V)
        super().__init__(space, [{n: t for n, t in m.items() if n != RANKS} for m in models])
        pairs = zip(self.scores, self.ranks, strict=True)
        self._completions = [completion(space, table, ranks) for table, ranks in pairs]

    def tensors(self, model: int = 0) -> dict[str, Tensor]:
        return {**super().tensors(model), RANKS: self.ranks[model].clone()}

    def gain(self, state: State, legal: Legal) -> Tensor:
        each = [log_completions(parts, state.members) for parts in self._completions]
        return torch.stack(each).gather(2, legal.candidates.expand(self.n_models, -1, -1))

    def _potential(self) -> Tensor:
        return torch.zeros(self.n_models, 0, dtype=torch.float64)

"""The policy for DAGs edge by edge: one network over the whole graph, and a small one per variable on its parent column.

    logit(i -> j) = g(A)[i, j] + h_j(A[:, j])[i],    logit(stop) = g(A)[stop],

softmax over the allowed actions. A modular score makes adding i -> j depend on j's parents first of all; h_j sees just them.
The local score differences themselves, added to the logits, made training slower: see `docs/policies.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from epgfn.gflownet.policies.base import Choices
from epgfn.gflownet.policies.bounds import bounded
from epgfn.gflownet.policies.mlp import mlp, mlp_init, mlp_spec
from epgfn.gflownet.policies.mlp_net import distinct
from epgfn.gflownet.policies.spec import TensorSpec
from epgfn.gflownet.spaces.dag_by_edges import DagByEdges, State


def _column_width(hidden: int) -> int:
    return max(8, hidden // 4)


def spec(space: DagByEdges, hidden: int) -> dict[str, TensorSpec]:
    """Tensors of one model: `net.*` for g, `column.*` for the V networks h_j."""
    v, width = space.n_variables, _column_width(hidden)
    column = {
        "0.weight": (v, v, width),
        "0.bias": (v, 1, width),
        "1.weight": (v, width, v),
        "1.bias": (v, 1, v),
    }
    shapes = {f"column.{name}": TensorSpec(shape, "float32") for name, shape in column.items()}
    return {**mlp_spec(space.n_features, hidden, space.n_actions), **shapes}


def initial_tensors(space: DagByEdges, hidden: int, generator: torch.Generator) -> dict[str, Tensor]:
    """A fresh model: uniform over the allowed actions."""
    tensors = mlp_init(space.n_features, hidden, space.n_actions, generator)
    for name, entry in spec(space, hidden).items():
        if name.startswith("column."):
            tensors[name] = torch.zeros(entry.shape)
    tensors["column.0.weight"].normal_(0, 1 / math.sqrt(space.n_variables), generator=generator)
    return tensors


class EdgeNet:
    """N models evaluated together; see the module for the equation."""

    def __init__(self, space: DagByEdges, models: Sequence[Mapping[str, Tensor]]) -> None:
        self.space = space
        self.n_models = len(models)
        self.weights = {name: torch.stack([m[name] for m in models]) for name in models[0]}
        self._actions = torch.arange(space.n_actions)

    def parameters(self) -> list[Tensor]:
        return list(self.weights.values())

    def tensors(self, model: int = 0) -> dict[str, Tensor]:
        return {name: w[model].detach().clone() for name, w in self.weights.items()}

    def choices(self, state: State) -> Choices:
        """Each distinct state is evaluated once."""
        once, which = distinct(self.space, state)
        mask = self.space.forward_mask(once)
        mask[:, -1] = True  # allowed wherever a state may act, and makes a terminal row a distribution
        log_prob = self._logits(once).masked_fill(~mask, -torch.inf).log_softmax(2)
        return Choices(self._actions.expand(len(which), -1), log_prob[:, which])

    def _logits(self, state: State) -> Tensor:
        """(N, B, V * V + 1)."""
        x = self.space.features(state)
        n, b, v = self.n_models, len(x), self.space.n_variables
        logits = mlp(self.weights, x, torch.relu)
        parents = x.view(b, v, v).permute(2, 0, 1)  # (V child, B, V parent)
        hidden = torch.relu(parents @ self.weights["column.0.weight"] + self.weights["column.0.bias"])
        # (N, V child, B, V parent)
        column = hidden @ self.weights["column.1.weight"] + self.weights["column.1.bias"]
        edges = logits[:, :, :-1] + column.permute(0, 2, 3, 1).reshape(n, b, v * v)
        return bounded(torch.cat([edges, logits[:, :, -1:]], 2))

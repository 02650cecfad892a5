"""The policy for DAGs edge by edge that grows with the variables, not with their pairs: attention over variables.

Each variable is a token: an embedding of its own, (V, d), is all that says which one it is. In each of `LAYERS` layers

    h += sum over heads of softmax_i(q_j . k_i / sqrt(d / H) + b(i, j)) v_i  +  sum over parents i of m_i  +  sum over children i of c_i
    h += two-layer network(h)                                               (inputs normalised first)

where b(i, j) is learned for what i is to j: parent, child, ancestor, descendant. Sums over parents beside the average that
attention takes, because a score depends on how many there are. Then

    logit(i -> j) = t(h_i) . u(h_j) / sqrt(d),    logit(stop) = sum_j w . relu(s(h_j)) / V,

softmax over the allowed actions. Parameters: V d + LAYERS (10 d^2 + ...) instead of the V^3 of `edge_net`; renaming the variables
together with their embeddings renames the probabilities and changes nothing else. d = a quarter of the study's `hidden`.
Attention: Vaswani et al., NeurIPS 2017; over a graph under construction: Deleu et al., UAI 2022, arXiv 2202.13903.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, relu

from epgfn.gflownet.policies.base import Choices
from epgfn.gflownet.policies.bounds import bounded, bounded_hidden
from epgfn.gflownet.policies.mlp_net import distinct
from epgfn.gflownet.policies.spec import TensorSpec
from epgfn.gflownet.spaces.dag_by_edges import DagByEdges, State

HEADS = 4
LAYERS = 2
VARIABLES = "variable"
RELATIONS = 4
"""Of i to j: parent, child, ancestor (or itself), descendant (or itself)."""


def width(hidden: int) -> int:
    """d: a quarter of `hidden`, a multiple of the number of heads."""
    return max(2, hidden // (4 * HEADS)) * HEADS


def spec(space: DagByEdges, hidden: int) -> dict[str, TensorSpec]:
    """Tensors of one model."""
    d = width(hidden)
    shapes: dict[str, tuple[int, ...]] = {
        VARIABLES: (space.n_variables, d),
        "tail.weight": (d, d),
        "head.weight": (d, d),
        "stop.0.weight": (d, d),
        "stop.0.bias": (d,),
        "stop.1.weight": (d, 1),
    }
    for layer in range(LAYERS):
        shapes |= {
            f"{layer}.relation": (RELATIONS, HEADS),
            f"{layer}.mix.weight": (d, 5 * d),  # query, key, value, to children, to parents
            f"{layer}.out.weight": (d, d),
            f"{layer}.net.0.weight": (d, 2 * d),
            f"{layer}.net.0.bias": (2 * d,),
            f"{layer}.net.1.weight": (2 * d, d),
            f"{layer}.net.1.bias": (d,),
        }
    return {name: TensorSpec(shape, "float32") for name, shape in shapes.items()}


def initial_tensors(space: DagByEdges, hidden: int, generator: torch.Generator) -> dict[str, Tensor]:
    """A fresh model: uniform over the allowed actions."""
    tensors = {}
    for name, entry in spec(space, hidden).items():
        tensors[name] = torch.zeros(entry.shape)
        if name == VARIABLES:
            tensors[name].normal_(generator=generator)
        elif name.endswith("weight") and name not in ("tail.weight", "stop.1.weight"):
            tensors[name].uniform_(-1, 1, generator=generator).div_(math.sqrt(entry.shape[0]))
    return tensors


class EdgeAttention:
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
        mask = mask | ~mask.any(1, keepdim=True)  # a terminal row must be a distribution, over anything
        log_prob = self._logits(once).masked_fill(~mask, -torch.inf).log_softmax(2)
        return Choices(self._actions.expand(len(which), -1), log_prob[:, which])

    def _logits(self, state: State) -> Tensor:
        """(N, B, V * V + 1)."""
        parents = state.adjacency.transpose(1, 2).float()  # (B, V child, V parent)
        above = state.closure.transpose(1, 2).float()
        relations = torch.stack([parents, parents.transpose(1, 2), above, above.transpose(1, 2)], 3)
        h = self.weights[VARIABLES].unsqueeze(1).expand(-1, len(parents), -1, -1)  # (N, B, V, d)
        for layer in range(LAYERS):
            h = bounded_hidden(h + self._mixed(layer, h, parents, relations))
            inner = relu(self._linear(f"{layer}.net.0", _normal(h)))
            h = bounded_hidden(h + self._linear(f"{layer}.net.1", inner))
        h = _normal(h)
        tail, head = self._linear("tail", h), self._linear("head", h)
        edges = tail @ head.transpose(2, 3) / math.sqrt(h.shape[3])  # (N, B, V tail, V head)
        stop = self._linear("stop.1", relu(self._linear("stop.0", h))).mean(2)  # (N, B, 1)
        return bounded(torch.cat([edges.flatten(2), stop], 2))

    def _mixed(self, layer: int, h: Tensor, parents: Tensor, relations: Tensor) -> Tensor:
        """What each variable takes from the others, (N, B, V, d)."""
        n, b, v, d = h.shape
        query, key, value, down, up = self._linear(f"{layer}.mix", _normal(h)).chunk(5, 3)
        heads = [x.reshape(n, b, v, HEADS, d // HEADS).transpose(2, 3) for x in (query, key, value)]
        bias = relations @ self.weights[f"{layer}.relation"][:, None, None]  # (N, B, V, V, H)
        scores = heads[0] @ heads[1].transpose(3, 4) / math.sqrt(d // HEADS) + bias.permute(0, 1, 4, 2, 3)
        seen = (scores.softmax(4) @ heads[2]).transpose(2, 3).reshape(n, b, v, d)
        return self._linear(f"{layer}.out", seen + parents @ down + parents.transpose(1, 2) @ up)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        """(N, B, V, in) -> (N, B, V, out)."""
        n, b, v, _ = x.shape
        y = x.reshape(n, b * v, -1) @ self.weights[f"{name}.weight"]
        if f"{name}.bias" in self.weights:
            y = y + self.weights[f"{name}.bias"][:, None]
        return y.view(n, b, v, -1)


def _normal(h: Tensor) -> Tensor:
    """Each token to mean 0 and variance 1."""
    return layer_norm(h, h.shape[-1:])

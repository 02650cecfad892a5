"""The policy for any space with up to a few hundred actions: one network from features to logits.

    log p_F(a | s) = log softmax over the allowed a of net(features(s))[a]

Many trajectories of a batch pass through the same states, so each distinct state is evaluated once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Generic

import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.base.memo import mixed
from epgfn.gflownet.device import CPU
from epgfn.gflownet.policies.base import Choices
from epgfn.gflownet.policies.bounds import LOGIT, bounded
from epgfn.gflownet.policies.mlp import (
    LAYERS,
    frozen_layers,
    later_layers,
    mlp,
    mlp_init,
    mlp_spec,
    relu_layers,
    relu_mlp_of,
)
from epgfn.gflownet.policies.row_sums import RowTable, row_table, sums
from epgfn.gflownet.policies.spec import TensorSpec
from epgfn.gflownet.spaces.base import InRows, Space, State, take

MAX_ACTIONS = 2000
MAX_BYTES = 8 << 30
"""Most that weights, or the features of a batch, may take."""
ROOM = 2048
"""States that a record has room for at first."""
LAST_WEIGHT = f"net.{LAYERS - 1}.weight"


def spec(space: Space[Any], hidden: int) -> dict[str, TensorSpec]:
    """Tensors of one model."""
    return mlp_spec(space.n_features, hidden, space.n_actions)


def initial_tensors(space: Space[Any], hidden: int, generator: torch.Generator) -> dict[str, Tensor]:
    """A fresh model. Its last layer is random too, so that gradients reach all layers at once: see `docs/speed.md`."""
    tensors = mlp_init(space.n_features, hidden, space.n_actions, generator)
    tensors[LAST_WEIGHT].uniform_(-1, 1, generator=generator).div_(math.sqrt(hidden))
    return tensors


def require_room(space: Space[Any], batch: int) -> None:
    """Raises:
    UsageError: the space has too many actions for this policy, or a `batch` of trajectories takes too much memory.
    """
    if space.n_actions > MAX_ACTIONS:
        raise UsageError(
            f"the space has {space.n_actions} actions and policy 'mlp' takes {MAX_ACTIONS} at most; merge categories"
        )
    features = 4 * batch * space.max_steps * space.n_features
    if features > MAX_BYTES:
        raise UsageError(
            f"a batch would take {features / 2**30:.0f} GiB, with up to {space.max_steps} steps of {space.n_features} features; "
            "choose smaller objects or a smaller batch"
        )


def distinct(space: Space[State], state: State) -> tuple[State, Tensor]:
    """The distinct states among B, and for each of the B, (B,) int64, which of them it is. Finished ones count as one."""
    names = torch.where(space.is_terminating(state), -1, mixed(space.key(state)))
    unique, inverse = torch.unique(names, return_inverse=True)
    first = torch.empty(len(unique), dtype=torch.int64)
    first[inverse] = torch.arange(len(names))  # any row of those that are equal
    return take(state, first), inverse


class MlpNet(Generic[State]):
    """N models evaluated together; see the module for the equation."""

    def __init__(self, space: Space[State], models: Sequence[Mapping[str, Tensor]]) -> None:
        self.space = space
        self.n_models = len(models)
        self.weights = {name: torch.stack([m[name] for m in models]) for name in models[0]}
        self._actions = torch.arange(space.n_actions)

    def parameters(self) -> list[Tensor]:
        return list(self.weights.values())

    def tensors(self, model: int = 0) -> dict[str, Tensor]:
        return {name: w[model].detach().clone() for name, w in self.weights.items()}

    def choices(self, state: State) -> Choices:
        once, which = distinct(self.space, state)
        allowed = self.space.forward_mask(once)
        allowed = allowed | ~allowed.any(1, keepdim=True)  # a terminal row is a distribution over anything
        logits = bounded(self._logits(once))
        log_prob = _log_softmax(logits, allowed)[:, which]
        return Choices(self._actions.expand(len(which), -1), log_prob)

    def _logits(self, state: State) -> Tensor:
        """(N, B, A)."""
        table = row_table(self.space)
        trained = torch.is_grad_enabled() and any(weight.requires_grad for weight in self.weights.values())
        if (
            trained
            or table is None
            or not isinstance(self.space, InRows)
            or torch.get_default_device() != CPU
        ):
            return mlp(self.weights, self.space.features(state), torch.relu)
        rows = self.space.rows(state)
        first = torch.stack([sums(table.times(weight), rows) for weight in self.weights["net.0.weight"]])
        return later_layers(self.weights, first + self.weights["net.0.bias"].unsqueeze(1), torch.relu)

    def record(self, table: RowTable | None = None) -> Recording:
        """Of the one model there is."""
        return Recording(self.weights, table)


class Recording:
    """Evaluations of an `MlpNet` of one model that are needed twice: at once to draw actions, and afterwards, all of them together, for one
    backward pass. What the network computed is kept in between, so there is no second forward pass."""

    def __init__(self, weights: dict[str, Tensor], table: RowTable | None = None) -> None:
        """`table`: features are told by (B, K) int64 numbers of its rows, whose sum they are."""
        self._weights, self._frozen, self._table = weights, frozen_layers(weights, table), table
        self._logits: list[Tensor] = []
        self._hidden: list[Tensor] = []  # (room, width) each, of which the first `_used` rows are filled
        self._used = 0

    def evaluate(self, features: Tensor) -> Tensor:
        """Logits of all actions in B states with `features` (B, F): (A, B), without gradients."""
        start, end = self._used, self._used + len(features)
        if not self._hidden or end > len(self._hidden[0]):
            self._make_room(end)
        logits = relu_layers(self._frozen, features, [layer[start:end] for layer in self._hidden])
        logits.clamp_(-LOGIT, LOGIT)
        self._logits.append(logits)
        self._used = end
        return logits

    def log_prob(self, features: Tensor, penalty: Tensor) -> Tensor:
        """(A, M) log p_F in all M states so far; of these, in their order, `features` (M, F) again, and `penalty` (A, M), 0 or
        -inf where an action is not allowed. Differentiable in the weights, which must be as they were."""
        hidden = [layer[: self._used] for layer in self._hidden]
        logits = relu_mlp_of(self._weights, features, hidden, torch.cat(self._logits, 1), self._table)
        return (logits + penalty).log_softmax(0)

    def _make_room(self, rows: int) -> None:
        """For at least so many, and for twice as many when there are some already, so that little is moved."""
        room = 2 * rows if self._hidden else max(rows, ROOM)
        larger = [torch.empty(room, len(bias)) for bias, _ in self._frozen[:-1]]
        for new, old in zip(larger, self._hidden, strict=False):
            new[: self._used] = old[: self._used]
        self._hidden = larger


def _log_softmax(logits: Tensor, allowed: Tensor) -> Tensor:
    """Over the actions `allowed` (B, A), at least one a row: (N, B, A)."""
    return logits.masked_fill(~allowed, -torch.inf).log_softmax(2)

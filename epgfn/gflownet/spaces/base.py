"""What a state graph must offer, so that policies, rollouts and losses work in any of them.

A space describes how objects are built step by step. Its `State` is a `NamedTuple` of tensors whose first axis is the
batch; every method acts on the whole batch at once and returns new tensors.

    forward   `forward_mask(s)` says which of the `n_actions` actions may be taken, `step(s, action)` takes one a row.
    backward  `backward_mask(s)` says which of the `n_backward` ways back exist, `step_back(s, choice)` takes one a row and
              returns the state before together with the action that leads forward again.

A row whose state is terminal stays as it is under `step`; a row that is initial stays as it is under `step_back`. Where
every state may stop, `stop_action` is the action that does so, and the stopped state is the terminal one. In the other
spaces `stop_action` is None. Throughout, the backward policy is uniform: log p_B(s | s') = -log #ways back of s'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

State = TypeVar("State", bound=tuple[Tensor, ...])
"""The NamedTuple of tensors that is a space's own batch of states."""


LogReward = Callable[[State], Tensor]
"""B states to (B,) log R in nats: of finished objects; of any state too where a loss says so."""


class Back(NamedTuple, Generic[State]):
    """A step against the arrows: the state before, and (B,) int64 the action that leads from it to the state after."""

    state: State
    action: Tensor


class Space(Protocol[State]):
    """One state graph, over its own kind of `State`; B states in a batch, A = `n_actions`, F = `n_features`."""

    n_actions: int
    n_backward: int
    n_features: int
    max_steps: int
    """Most actions a trajectory may have, stopping included."""
    stop_action: int | None

    def initial(self, n: int) -> State:
        """The initial state, `n` times."""
        ...

    def forward_mask(self, state: State) -> Tensor:
        """(B, A) bool: the actions that may be taken; all False where the state is terminal."""
        ...

    def step(self, state: State, action: Tensor) -> State:
        """The states after (B,) int64 `action`; the actions must be allowed, and are ignored in terminal rows."""
        ...

    def backward_mask(self, state: State) -> Tensor:
        """(B, n_backward) bool: the ways back; all False where the state is initial."""
        ...

    def step_back(self, state: State, choice: Tensor) -> Back[State]:
        """The states before, and the actions that lead forward again; `choice` is ignored in initial rows."""
        ...

    def is_terminating(self, state: State) -> Tensor:
        """(B,) bool: the state is a finished object."""
        ...

    def features(self, state: State) -> Tensor:
        """(B, F) float32 input for a network. Never depends on anyone's data."""
        ...

    def key(self, state: State) -> Tensor:
        """(B, words) int64: equal exactly where the states are equal."""
        ...

    def decode(self, state: State) -> list[Any]:
        """The objects, in their natural form, one a row."""
        ...


Whole = npt.NDArray[np.int64]
Truth = npt.NDArray[np.bool_]


@runtime_checkable
class InRows(Protocol[State]):
    """A space whose features are sums of a few rows of one fixed table, such that no two acting states read the same rows; and which takes
    its steps on them, in numpy, whose small operations take a fraction of the time of PyTorch's. K rows a state, in a fixed order."""

    def rows(self, state: State) -> Tensor:
        """(B, K) int64: the rows of the table whose sum is `features`, of states that act."""
        ...

    def row_features(self) -> Tensor:
        """(R, F) float32: the table."""
        ...

    def allowed(self, rows: Whole) -> Truth:
        """(M, A): `forward_mask` of states that have not stopped, by their (M, K) rows; all False where one is finished all the same."""
        ...

    def after(self, rows: Whole, action: Whole) -> Whole:
        """(M, K): the rows after (M,) allowed actions, none of which stops; in place of those given."""
        ...

    def of_rows(self, rows: Tensor, stopped: Tensor) -> State:
        """The states of (M, K) rows, (M,) bool whether they have stopped."""
        ...


def take(state: State, index: Tensor) -> State:
    """The rows `index` ((M,) int64 or (B,) bool) of a batch of states."""
    make: Callable[..., State] = type(state)
    return make(*(field[index] for field in state))


def where(condition: Tensor, yes: State, no: State) -> State:
    """Row by row `yes` where (B,) `condition` holds, else `no`."""
    make: Callable[..., State] = type(yes)
    rows = zip(yes, no, strict=True)
    return make(*(torch.where(condition.view(-1, *[1] * (a.dim() - 1)), a, b) for a, b in rows))


def joined(states: Sequence[State]) -> State:
    """The rows of several batches of states, one batch after the other."""
    make: Callable[..., State] = type(states[0])
    return make(*(torch.cat(fields) for fields in zip(*states, strict=True)))


def log_uniform_backward(space: Space[State], state: State) -> Tensor:
    """(B,) float32 log p_B of any one way back from `state`: -log of their number, 0 where there is none (nats)."""
    return -space.backward_mask(state).sum(1).clamp_min(1).float().log()


def pack_bits(bits: Tensor) -> Tensor:
    """(B, n) bool -> (B, ceil(n / 62)) int64, 62 bits a word: a key that is equal exactly where the bits are."""
    words = torch.split(bits, 62, dim=1)
    return torch.stack([(w.long() << torch.arange(w.shape[1])).sum(1) for w in words], dim=1)


def distinct(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of (B, W) int64: one of each kind, (D,), by ascending kind, and which kind each row is, (B,). Word by word, which is far faster
    to sort than whole rows."""
    kind = torch.zeros(len(keys), dtype=torch.int64)
    for word in keys.T:
        found, of = torch.unique(word, return_inverse=True)
        kind = torch.unique(kind * len(found) + of, return_inverse=True)[1]
    first = torch.empty(int(kind.max()) + 1 if len(kind) else 0, dtype=torch.int64)
    first[kind] = torch.arange(len(keys))
    return first, kind


def pack_digits(digits: Tensor, base: int) -> Tensor:
    """(B, n) int64 in 0 .. base - 1, base at least 2 -> (B, words) int64, as many a word as fit: equal where the digits are."""
    room = int(62 / math.log2(base) + 1e-9)
    words = torch.split(digits, room, dim=1)
    return torch.stack([(w * base ** torch.arange(w.shape[1])).sum(1) for w in words], dim=1)

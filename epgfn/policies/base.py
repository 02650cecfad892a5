"""What a policy must offer. One object holds N models of the same shape and evaluates them together."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor


class Choices(NamedTuple):
    """What may be done in B states: `action` (B, L) int64 numbers, `log_prob` (N, B, L) float32 of N models (nats).

    L is at most the number of actions of the space; policies list only what they must. Forbidden actions have log
    probability -inf, and every row of `log_prob` sums to one.
    """

    action: Tensor
    log_prob: Tensor


class Policy(Protocol):
    """log p_F of N models in one space. `parameters` are what training changes."""

    n_models: int

    def choices(self, state: Any) -> Choices:
        """log p_F(. | s) of states that lie at the same step of their trajectories.

        A terminal row must be a distribution too, over anything; nobody uses it.
        """
        ...

    def parameters(self) -> list[Tensor]:
        """Trainable tensors, all with a leading axis N."""
        ...

    def tensors(self, model: int = 0) -> dict[str, Tensor]:
        """What a model file holds, float32, for one of the N models."""
        ...

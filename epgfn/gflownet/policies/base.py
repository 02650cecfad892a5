"""What a policy must offer. One object holds N models of the same shape and evaluates them together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from torch import Generator, Tensor

from epgfn.gflownet.spaces.base import Space, State

if TYPE_CHECKING:
    from epgfn.gflownet.policies.row_sums import RowTable
    from epgfn.gflownet.sampling.rollout import Evaluated, Rollout, Trajectories


State_contra = TypeVar("State_contra", bound=tuple[Tensor, ...], contravariant=True)
"""`State` where it is only taken: a policy that reads any state serves every space."""


class Choices(NamedTuple):
    """What may be done in B states: `action` (B, L) int64 numbers, `log_prob` (N, B, L) float32 of N models (nats).

    L is at most the number of actions of the space; policies list only what they must. Forbidden actions have log
    probability -inf, and every row of `log_prob` sums to one.
    """

    action: Tensor
    log_prob: Tensor


class Policy(Protocol[State_contra]):
    """log p_F of N models in one space. `parameters` are what training changes."""

    n_models: int

    def choices(self, state: State_contra) -> Choices:
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


class Record(Protocol):
    """Evaluations of one model whose intermediate values are kept, so that gradients take no second forward pass."""

    def evaluate(self, features: Tensor) -> Tensor:
        """Logits of all actions in B states with `features` (B, F): (A, B), without gradients."""
        ...

    def log_prob(self, features: Tensor, penalty: Tensor) -> Tensor:
        """(A, M) log p_F in all M states so far, differentiable; of these, in their order, `features` (M, F) again, and
        `penalty` (A, M), 0 or -inf where an action is not allowed."""
        ...


@runtime_checkable
class RecordingPolicy(Protocol):
    """A policy that reads nothing of a state but its features and its allowed actions, and lists all actions in order."""

    n_models: int

    def record(self, table: RowTable | None = None) -> Record:
        """An empty record, for one batch of trajectories; asked for only where there is one model. With the `table` of the space's
        features it takes (B, K) int64 numbers of rows, whose sums the features are, in place of these."""
        ...


@runtime_checkable
class WalkingPolicy(Protocol[State]):
    """A policy with a way of its own, and a cheaper one, to follow trajectories than listing all actions of every state."""

    def sample(
        self, n: int, *, generator: Generator, temperature: float = 1.0, exploration: float = 0.0
    ) -> Rollout[State]:
        """As `epgfn.gflownet.sampling.rollout.sample`; tempering and exploration may act on each part of a choice by itself."""
        ...

    def evaluate(self, trajectories: Trajectories[State]) -> Evaluated:
        """As `epgfn.gflownet.sampling.rollout.evaluate`."""
        ...


@runtime_checkable
class OneWay(Protocol):
    """A policy that does not walk all of its space, but one way into each object: `ways` is the state graph of its first model, with the
    same finished states, in which p_B = 1. N models may each have another; `alone(n)` is one of them by itself."""

    n_models: int
    ways: Space[Any]

    def alone(self, model: int) -> Policy[Any]: ...


@runtime_checkable
class Summing(Protocol):
    """A policy that adds up its probabilities where they are too many to be listed."""

    def totals(self, state: Any) -> Tensor:
        """(N, B): the probabilities of all that may be done in each state, added up; 1 in finished ones."""
        ...


@runtime_checkable
class Stating(Protocol):
    """A policy whose models say how far their log-probabilities are off from the log-rewards that they were made for."""

    def error(self, model: int = 0) -> float:
        """Nats, a standard deviation."""
        ...


def walked(policy: object, space: Space[State]) -> Space[State]:
    """The state graph in which the first model of `policy` builds the objects of `space`, by which its p_B is to be taken."""
    return policy.ways if isinstance(policy, OneWay) else space

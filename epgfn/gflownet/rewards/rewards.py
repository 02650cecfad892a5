"""Rewards of objects that are not graphs: one file each, and one line in `REWARDS`.

A reward is made for a space (which it checks) and maps finished states to (B,) float64 log R in nats. `LogReward` is all
that training and exact evaluation ask for, so any function of states will do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.rewards.grid import HypergridReward
from epgfn.gflownet.rewards.multiset import MultisetReward
from epgfn.gflownet.rewards.sequence import SequenceReward
from epgfn.gflownet.spaces.base import LogReward, Space, State

REWARDS: dict[str, Callable[..., LogReward[Any]]] = {
    "hypergrid": HypergridReward,
    "multiset": MultisetReward,
    "sequence": SequenceReward,
}


def require_fits(log_reward: LogReward[State], space: Space[State]) -> None:
    """Check that a reward that says which `space` it was made for, itself or as a method's object, is used in such a one.

    Raises:
        UsageError: it was made for another.
    """
    made_for = getattr(getattr(log_reward, "__self__", log_reward), "space", space)
    if shape_of(made_for) != shape_of(space):
        raise UsageError(
            f"the target was made for {_in_words(made_for)} and cannot score objects of {_in_words(space)}; make it for this space"
        )


def shape_of(space: Space[Any]) -> tuple[str, dict[str, int]]:
    """The kind of a space and all its sizes: equal where two spaces are the same."""
    return type(space).__name__, {k: v for k, v in vars(space).items() if isinstance(v, int) and k[0] != "_"}


def _in_words(space: Space[Any]) -> str:
    kind, sizes = shape_of(space)
    return f"{kind}({', '.join(f'{name} {size}' for name, size in list(sizes.items())[:2])})"


def checked(log_reward: LogReward[State], state: State) -> Tensor:
    """`log_reward` of B states, (B,), after a look at it.

    Raises:
        EpgfnError: it is not one finite number a state.
    """
    value = log_reward(state)
    if value.shape != (len(state[0]),):
        raise EpgfnError(
            f"the target gives values of shape {tuple(value.shape)} for {len(state[0])} objects; it must give one each"
        )
    if not bool(torch.isfinite(value).all()):
        raise EpgfnError(
            "the target gives a score that is not finite; check its settings and the data it was made from"
        )
    return value


__all__ = [
    "REWARDS",
    "HypergridReward",
    "LogReward",
    "MultisetReward",
    "SequenceReward",
    "checked",
    "require_fits",
]

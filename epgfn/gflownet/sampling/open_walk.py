"""Trajectories through a space whose states are too many to list: step by step, each distinct state of a step evaluated once.

What a policy computes while trajectories are drawn is kept in its record, so that gradients take no second forward pass. What changes
from step to step is a few small numbers a trajectory, which numpy handles in a fraction of PyTorch's time, on the same memory: for
processors alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from epgfn.base.memo import mixed
from epgfn.gflownet.policies.base import Record
from epgfn.gflownet.policies.row_sums import RowTable
from epgfn.gflownet.sampling.draws import Floats, running_sums
from epgfn.gflownet.spaces.base import InRows, Space, State, take

Whole = npt.NDArray[np.int64]
Truth = npt.NDArray[np.bool_]
State_co = TypeVar("State_co", bound=tuple[Tensor, ...], covariant=True)
SLOTS = 1 << 14
"""Of the table in which equal states of a step find each other."""


class OpenWalk(NamedTuple, Generic[State]):
    """`states` (T + 1 batches of B), the same from where a trajectory has ended; of each step `row` (T, B) int64, the record's row for
    its state, and `action` (T, B) int64, both of no meaning after the end, which `active` (T, B) bool tells. Of the M states in the
    record `inputs`, what it was given, and `penalty` (A, M), 0 or -inf where an action is not allowed."""

    states: tuple[State, ...]
    row: Tensor
    action: Tensor
    active: Tensor
    inputs: Tensor
    penalty: Tensor


@torch.no_grad()
def open_walk(
    record: Record,
    space: Space[State],
    table: RowTable | None,
    noise: Tensor,
    temperature: float,
    exploration: float,
    preference: Tensor | None = None,
) -> OpenWalk[State]:
    """One trajectory for each column of `noise` (most steps, B), numbers in [0, 1).

    Each action is drawn from (1 - e) softmax(log p_F / temperature) + e uniform over the allowed ones, e = `exploration`.

    Args:
        preference: (B, A) float32 nats, which each trajectory adds to log p_F of the actions all along.
        table: of the features of `space`, where they are sums of its rows: the record then takes numbers of rows for features.
    """
    numbers, (most, n) = noise.numpy(), noise.shape
    path = _path_of(space, n, table)
    walking, place, known, step = np.arange(n), np.zeros(SLOTS, dtype=np.int64), 0, 0
    row, action = (np.zeros((most, n), dtype=np.int64) for _ in range(2))
    active = np.zeros((most, n), dtype=np.bool_)
    wished = None if preference is None else preference.numpy().T
    inputs, penalties = [], []
    with np.errstate(all="ignore"):  # of a policy of NaN training says so itself
        while len(walking) and step < most:
            first, which = _distinct(path.names(), place)
            given, allowed = path.at(first)
            penalty = np.where(allowed.T, np.float32(0), np.float32(-np.inf))
            logits: Floats = record.evaluate(given).numpy() + penalty
            if wished is None:
                sums = running_sums(logits, temperature, exploration).take(which, 1)
            else:
                sums = running_sums(logits.take(which, 1) + wished[:, walking], temperature, exploration)
            chosen = (sums <= numbers[step].take(walking)).sum(0)
            np.minimum(chosen, len(sums) - 1, out=chosen)  # of a policy of NaN
            row[step][walking], active[step][walking] = which + known, True
            action[step][walking] = chosen
            walking = walking[path.go(chosen)]
            known += len(first)
            step += 1
            inputs.append(given)
            penalties.append(penalty)
    rows, actions, acting = (torch.from_numpy(each[:step]) for each in (row, action, active))
    every = torch.from_numpy(np.concatenate(penalties, 1))
    return OpenWalk(path.states(), rows, actions, acting, torch.cat(inputs), every)


def _path_of(space: Space[State], n: int, table: RowTable | None) -> _Path[State]:
    if table is not None and isinstance(space, InRows):
        return _InRows(space, space, n, table)
    return _AnyStates(space, n)


class _Path(Protocol[State_co]):
    """Where W of B trajectories are that have not ended, and have been."""

    def names(self) -> Whole:
        """(W,) numbers that are equal where states are, and but for a chance of about M^2 / 2^65 among M states nowhere else."""
        ...

    def at(self, first: Whole) -> tuple[Tensor, Truth]:
        """For M of the W the record's input and (M, A) the allowed actions."""
        ...

    def go(self, chosen: Whole) -> Truth:
        """Take (W,) actions; which of the W have not ended then."""
        ...

    def states(self) -> tuple[State_co, ...]:
        """(T + 1) batches of B states."""
        ...


class _InRows(Generic[State]):
    """States as the rows that they are sums of."""

    def __init__(self, space: Space[State], by_rows: InRows[State], n: int, table: RowTable) -> None:
        self._stop, self._space = space.stop_action, by_rows
        self._name = np.random.default_rng(0).integers(-(1 << 63), 1 << 63, table.n_rows, dtype=np.int64)
        self._walking = np.arange(n)
        self._at: Whole = by_rows.rows(space.initial(n)).numpy()
        self._kept = [self._at]
        self._stopped = [np.zeros(n, dtype=np.bool_)]
        self._allowed: Truth = by_rows.allowed(self._at)

    def names(self) -> Whole:
        found: Whole = self._name.take(self._at).sum(1)
        return found

    def at(self, first: Whole) -> tuple[Tensor, Truth]:
        return torch.from_numpy(self._at[first]), self._allowed[first]

    def go(self, chosen: Whole) -> Truth:
        kept, stopped, at = self._kept[-1].copy(), self._stopped[-1], self._at
        if self._stop is not None:
            going: Truth = np.asarray(chosen != self._stop, dtype=np.bool_)
            stopped = stopped.copy()
            stopped[self._walking[~going]] = True
            walking = self._walking[going]
            at = self._space.after(at[going], chosen[going])
            kept[walking] = at
            self._allowed = self._space.allowed(at)
        else:
            at = self._space.after(at.copy(), chosen)
            kept[self._walking] = at
            allowed = self._space.allowed(at)
            going = np.asarray(allowed.any(1), dtype=np.bool_)
            walking, at, self._allowed = self._walking[going], at[going], allowed[going]
        self._at, self._walking = at, walking
        self._kept.append(kept)
        self._stopped.append(stopped)
        return going

    def states(self) -> tuple[State, ...]:
        kept, stopped = np.stack(self._kept), np.stack(self._stopped)
        every = self._space.of_rows(torch.from_numpy(kept).flatten(0, 1), torch.from_numpy(stopped).flatten())
        make: Callable[..., State] = type(every)
        fields = (field.view(*stopped.shape, *field.shape[1:]).unbind(0) for field in every)
        return tuple(make(*of_step) for of_step in zip(*fields, strict=True))


class _AnyStates(Generic[State]):
    """States as the space has them."""

    def __init__(self, space: Space[State], n: int) -> None:
        self._space, self._walking = space, np.arange(n)
        self._states = [space.initial(n)]

    def names(self) -> Whole:
        found: Whole = mixed(self._space.key(self._states[-1])).numpy()[self._walking]
        return found

    def at(self, first: Whole) -> tuple[Tensor, Truth]:
        met = take(self._states[-1], torch.from_numpy(self._walking[first]))
        return self._space.features(met), self._space.forward_mask(met).numpy()

    def go(self, chosen: Whole) -> Truth:
        state = self._states[-1]
        action = np.zeros(len(state[0]), dtype=np.int64)
        action[self._walking] = chosen
        after = self._space.step(state, torch.from_numpy(action))
        self._states.append(after)
        going: Truth = ~self._space.is_terminating(after).numpy()[self._walking]
        self._walking = self._walking[going]
        return going

    def states(self) -> tuple[State, ...]:
        return tuple(self._states)


def _distinct(names: Whole, place: Whole) -> tuple[Whole, Whole]:
    """(M,) places of different numbers among (W,) `names`, and which of them each is. Seldom a number is there twice, where another fell
    into the same slot of the scratch `place`, which costs an evaluation more."""
    number, slot = np.arange(len(names)), names & (len(place) - 1)
    place[slot] = number
    winner = place[slot]  # of equal ones that which wrote last
    winner = np.where(names[winner] == names, winner, number)
    own = winner == number
    return own.nonzero()[0], (own.cumsum() - 1)[winner]

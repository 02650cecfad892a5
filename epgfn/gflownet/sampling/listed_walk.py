"""Trajectories through a space whose states are all listed: a step is a look-up, and each state is evaluated once for a batch.

On a processor the look-ups are numpy's, whose small operations take a fraction of the time of PyTorch's, on the same memory;
on an accelerator all of it is PyTorch's. Both draw the same trajectories, but for the rounding of sums.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from epgfn.gflownet.policies.base import Record
from epgfn.gflownet.sampling.draws import Floats, behaviour, cumulative, draw, running_sums
from epgfn.gflownet.sampling.state_graph import StateGraph

FEW_STATES = 512
"""Listed states up to which all are evaluated for each batch."""
Whole = npt.NDArray[np.int64]


class Sampler(NamedTuple):
    """Who acts: from (1 - e) softmax(log p_F / temperature) + e uniform over the allowed actions, e = `exploration`."""

    record: Record
    temperature: float
    exploration: float


class Walk(NamedTuple):
    """`state` (T + 1, B) int64 numbers of the graph, the same from where a trajectory has ended; of each step `row` (T, B) int64,
    the record's row for its state, and `action` (T, B) int64, both of no meaning after the end; `met` (M,) int64 the states of
    the record's rows."""

    state: Tensor
    row: Tensor
    action: Tensor
    met: Tensor


def walk(sampler: Sampler, graph: StateGraph[Any], noise: Tensor) -> Walk:
    """One trajectory for each column of `noise` (most steps, B), numbers in [0, 1)."""
    follow = _by_numpy if noise.device.type == "cpu" else _by_torch
    with torch.no_grad(), np.errstate(all="ignore"):  # of a policy of NaN training says so itself
        return follow(sampler, graph, noise)


def _by_numpy(sampler: Sampler, graph: StateGraph[Any], noise: Tensor) -> Walk:
    book, after, numbers = _Cache(sampler, graph), graph.after.numpy(), noise.numpy()
    (most, n), n_acting = numbers.shape, graph.n_acting
    state, row, action = (np.zeros((steps, n), dtype=np.int64) for steps in (most + 1, most, most))
    at, walking, step = state[0], np.arange(n), 0  # where those are that have not ended, and which
    while len(at) and step < most:
        row[step][walking], sums = book.look_up(at)
        chosen = (sums <= numbers[step].take(walking)).sum(0)
        action[step][walking] = chosen
        at = after[at, chosen]
        step += 1
        state[step] = state[step - 1]
        state[step][walking] = at
        going_on = at < n_acting
        at, walking = at[going_on], walking[going_on]
    tables = (state[: step + 1], row[:step], action[:step], np.concatenate(book.met))
    return Walk(*(torch.from_numpy(table) for table in tables))


class _Cache:
    """What the sampler does in the states of a graph: in all of them, worked out at the start, where they are few; else in those
    met, step by step, since a state of the graph can only be met at one step. `met` are those worked out."""

    def __init__(self, sampler: Sampler, graph: StateGraph[Any]) -> None:
        self._sampler, self._known = sampler, 0
        self._features, self._penalty = graph.features.numpy(), graph.penalty.numpy()
        self._place: Whole = np.empty(graph.n_acting, dtype=np.int64)  # of a state among those met; scratch
        self.met: list[Whole] = []
        few = graph.n_acting <= FEW_STATES
        self._all = self._sums(np.arange(graph.n_acting)) if few else None

    def look_up(self, state: Whole) -> tuple[Whole, Floats]:
        """The record's rows for (B,) states, and the running sums (A, B) of the probabilities of their actions."""
        if self._all is not None:
            return state, self._all.take(state, 1)
        place, number, known = self._place, np.arange(len(state)), self._known
        place[state] = number
        met = state[place[state] == number]  # of equal ones only that which wrote last
        place[met] = number[: len(met)]
        which = place[state]
        self._known += len(met)
        return which + known, self._sums(met).take(which, 1)

    def _sums(self, state: Whole) -> Floats:
        """(A, M)."""
        record, temperature, exploration = self._sampler
        self.met.append(state)
        evaluated = record.evaluate(torch.from_numpy(self._features.take(state, 0)))
        logits: Floats = evaluated.numpy() + self._penalty.take(state, 1)
        return running_sums(logits, temperature, exploration)


def _by_torch(sampler: Sampler, graph: StateGraph[Any], noise: Tensor) -> Walk:
    """What has ended is looked up as the initial state, and nothing comes of it."""
    known, at = 0, torch.zeros(noise.shape[1], dtype=torch.int64)
    states, rows, actions, met = [at], [], [], []
    if few := graph.n_acting <= FEW_STATES:
        met.append(torch.arange(graph.n_acting))
        sums = _sums(sampler, graph, met[0])
    for numbers in noise:
        going_on = at < graph.n_acting
        if not bool(going_on.any()):
            break
        which = at * going_on
        if not few:
            found, which = torch.unique(which, return_inverse=True)
            sums = _sums(sampler, graph, found)
            known += len(met[-1]) if met else 0
            met.append(found)
        rows.append(which + known)
        chosen = draw(sums.index_select(0, which), numbers)
        chosen.clamp_max_(sums.shape[1] - 1)  # of a policy of NaN, so that training can say so
        actions.append(chosen)
        at = graph.after[at, chosen]
        states.append(at)
    return Walk(torch.stack(states), torch.stack(rows), torch.stack(actions), torch.cat(met))


def _sums(sampler: Sampler, graph: StateGraph[Any], state: Tensor) -> Tensor:
    """(M, A) running sums of the probabilities of the actions in M states."""
    logits = sampler.record.evaluate(graph.features.index_select(0, state))
    logits = logits + graph.penalty.index_select(1, state)
    return cumulative(behaviour(logits.mT, sampler.temperature, sampler.exploration))

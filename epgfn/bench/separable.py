"""Exact answers about objects whose log-reward is a sum over their parts, however many objects there are, by dynamic programming.

    points on a grid   sum over coordinates of t_i(x_i)                     coordinates are independent
    multisets          sum over kinds of t_k(x_k), the x_k add up to m      convolutions of the kinds before and after one
    sequences          sum over places of t_i(x_i), of any length           places given the length are independent

Nothing of training, sampling or state graphs is in what is worked out. All in float64 and nats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import logsumexp
from torch import Tensor

from epgfn.gflownet.measure.estimates import own_samples
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.spaces.base import LogReward, Space
from epgfn.study import Study
from epgfn.study.objects import questions, space_of

Floats = npt.NDArray[np.float64]


class Answers(NamedTuple):
    """`log_z`, the log of the sum of all rewards; `parts`: probabilities, row by row as the table has its parts."""

    log_z: float
    parts: Floats


class Truth(NamedTuple):
    """What a table says of a study's objects: `log_z`, and the `probabilities` of the study's questions by name."""

    log_z: float
    probabilities: dict[str, float]


def truth_of(study: Study, table: Floats) -> Truth:
    """Exactly, of a study of points, multisets or sequences; `table` as its kind has its parts."""
    space = space_of(study)
    if study.kind.name == "multiset":
        log_z, parts = of_multisets(table)
        answers = parts[:, ::-1].cumsum(1)[:, ::-1][:, 1:].ravel()  # of a kind at least so many
    elif study.kind.name == "sequence":
        (log_z, parts), longer = of_sequences(table)
        answers = np.concatenate([parts.ravel(), longer])
    else:
        log_z, parts = of_points(table)
        answers = parts.ravel()
    names = questions(study, space.initial(1)).names
    return Truth(log_z, dict(zip(names, answers.tolist(), strict=True)))


def reward_of(study: Study, table: Floats) -> LogReward[Any]:
    """The same table as what training is given: finished states to (B,) float64 sums over their parts."""
    values, parts = torch.from_numpy(table), torch.arange(len(table))
    read: Callable[[Any], Tensor] = {
        "multiset": lambda state: state.counts,
        "sequence": lambda state: state.letters,
    }.get(study.kind.name, lambda state: state.position)
    if study.kind.name == "sequence":
        values = torch.cat([torch.zeros(len(table), 1, dtype=torch.float64), values], 1)  # no letter
    return lambda state: values[parts, read(state)].sum(1)


def distance_at_most(
    policy: Policy[Any], space: Space[Any], reward: LogReward[Any], log_z: float, n: int, seed: int
) -> tuple[float, float]:
    """A bound of the total variation between p_T and R / Z, and its standard error: the distance of whole trajectories,

    TV(p_F, R p_B / Z) = E over tau ~ p_F of max(0, 1 - w),    w = R p_B / (Z p_F),

    by `n` own samples. As Z is the exact one, what the model never visits counts in full.
    """
    own = own_samples(policy, space, reward, n, torch.Generator().manual_seed(seed))
    lacks = (1 - (own.log_weight.double() - log_z).exp()).clamp_min(0)
    return float(lacks.mean()), float(lacks.std()) / n**0.5


def of_points(table: Floats) -> Answers:
    """(D, S) table -> (D, S) P(x_i = s)."""
    log_z = logsumexp(table, axis=1, keepdims=True)
    return Answers(float(log_z.sum()), np.exp(table - log_z))


def of_multisets(table: Floats) -> Answers:
    """(d, m + 1) table of counts -> (d, m + 1) P(x_k = c)."""
    before, after = _running(table), _running(table[::-1])[::-1]
    log_z, size = float(before[-1][-1]), table.shape[1] - 1
    others = np.array([_convolved(before[k], after[k + 1])[::-1] for k in range(len(table))])
    assert others.shape[1] == size + 1
    return Answers(log_z, np.exp(table + others - log_z))


def of_sequences(table: Floats) -> tuple[Answers, Floats]:
    """(L, A) table -> (L, A) P(x_i = a), a place that is not there being no letter, and (L,) P(length > i)."""
    each = logsumexp(table, axis=1)
    of_length = np.concatenate([[0.0], each.cumsum()])
    log_z = float(logsumexp(of_length))
    longer = np.exp([logsumexp(of_length[i:]) - log_z for i in range(1, len(of_length))])
    return Answers(log_z, longer[:, None] * np.exp(table - each[:, None])), longer


def _running(table: Floats) -> list[Floats]:
    """Of the first 0, 1, .. rows, (m + 1,) log sums of rewards of all counts that add up to 0 .. m."""
    sums = [np.where(np.arange(table.shape[1]) == 0, 0.0, -np.inf)]
    for row in table:
        sums.append(_convolved(sums[-1], row))
    return sums


def _convolved(one: Floats, other: Floats) -> Floats:
    """log sum over i of exp(one[i] + other[c - i])."""
    pairs = np.full((len(one), len(one)), -np.inf)
    for i in range(len(one)):
        pairs[i, i:] = one[i] + other[: len(one) - i]
    with np.errstate(divide="ignore"):
        return np.asarray(logsumexp(pairs, axis=0))

"""How good a model is where its objects cannot be listed: estimates from samples, for any space and policy, in nats.

For a trajectory tau = (s_0 -> ... -> x), with p_B uniform,

    log w(tau) = log R(x) + log p_B(tau | x) - log p_F(tau),        E over tau ~ p_F of w = Z.

ELBO   E over tau ~ p_F of log w, at most log Z: small where the model puts mass that the target has not.
EUBO   E over x ~ p and tau ~ p_B(. | x) of log w, at least log Z: large where the model misses mass that the target has. It needs
       objects drawn from the target itself. Blessing et al., ICML 2024, arXiv 2406.07423, here for discrete trajectories.

EUBO - ELBO is at least the Jeffreys divergence of the model's p_T and the target, and 0 exactly when the flow is right everywhere.
Where all objects can be listed, `epgfn.gflownet.measure.sweep` is exact and better.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Generic, NamedTuple

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError
from epgfn.gflownet.policies.base import OneWay, Policy, walked
from epgfn.gflownet.sampling.rollout import evaluate, sample, sample_backward
from epgfn.gflownet.spaces.base import LogReward, Space, State, joined, take
from epgfn.gflownet.training.loop import effective_share

BLOCK = 2000
"""Trajectories worked out at a time."""


class LogTerminating(NamedTuple):
    """`value` (B,) float64 estimates of log p_T(x) in nats, and `error` (B,) their standard errors."""

    value: Tensor
    error: Tensor


class Mean(NamedTuple):
    """A mean over samples and its standard error, nats."""

    value: float
    error: float


class Own(NamedTuple, Generic[State]):
    """What n own samples say: `final` the objects, `log_reward` and `log_weight` (n,) float64 in nats, `elbo`,
    `log_z` (log of the mean weight), and `effective_share` of the samples once weighted, from 0 to 1."""

    final: State
    log_reward: Tensor
    log_weight: Tensor
    elbo: Mean
    log_z: float
    effective_share: float


class Top(NamedTuple, Generic[State]):
    """The k best objects seen, best first: `final`, `log_reward` (k,), and their estimated `log_p_t`."""

    final: State
    log_reward: Tensor
    log_p_t: LogTerminating


@torch.no_grad()
def own_samples(
    policy: Policy[State],
    space: Space[State],
    log_reward: LogReward[State],
    n: int,
    generator: torch.Generator,
) -> Own[State]:
    """`n` trajectories of the first model of `policy`, weighted towards the target.

    Raises:
        EpgfnError: a log-reward is not finite.
    """
    finals, rewards, weights = [], [], []
    for rows in _blocks(n):
        drawn = sample(policy, space, len(rows), generator=generator)
        reward = _finite(log_reward(drawn.trajectories.final))
        log_pf = drawn.evaluated.log_pf[0].double().sum(0)
        finals.append(drawn.trajectories.final)
        rewards.append(reward)
        weights.append(reward + drawn.trajectories.log_pb.double().sum(0) - log_pf)
    weight = torch.cat(weights)
    log_z = float(weight.logsumexp(0)) - math.log(n)
    return Own(joined(finals), torch.cat(rewards), weight, _mean(weight), log_z, effective_share(weight))


@torch.no_grad()
def defended_samples(
    policy: Policy[State],
    defence: Policy[State],
    space: Space[State],
    log_reward: LogReward[State],
    n: int,
    generator: torch.Generator,
) -> Own[State]:
    """`n` trajectories of `policy` and half as many of `defence`, first models both, weighted together: each by R(x) p_B(tau | x) over
    2/3 p_F(tau) + 1/3 p_F'(tau). Where either draws an object its weight is no larger than 3 times what that one alone would give it:
    defensive mixture sampling, Owen & Zhou, JASA 95 (2000). Those of `policy` come first.

    Raises:
        EpgfnError: a log-reward is not finite.
    """
    finals, rewards, weights = [], [], []
    for drawer, size in ((policy, n), (defence, n // 2)):
        for rows in _blocks(size):
            trajectories = sample(drawer, space, len(rows), generator=generator).trajectories
            reward = _finite(log_reward(trajectories.final))
            own, other = (
                evaluate(one, space, trajectories).log_pf[0].double().sum(0) for one in (policy, defence)
            )
            mixed = torch.logaddexp(own + math.log(2 / 3), other + math.log(1 / 3))
            finals.append(trajectories.final)
            rewards.append(reward)
            weights.append(reward + trajectories.log_pb.double().sum(0) - mixed)
    weight = torch.cat(weights)
    log_z = float(weight.logsumexp(0)) - math.log(len(weight))
    return Own(joined(finals), torch.cat(rewards), weight, _mean(weight), log_z, effective_share(weight))


@torch.no_grad()
def log_terminating(
    policy: Policy[State], space: Space[State], final: State, trajectories: int, generator: torch.Generator
) -> LogTerminating:
    """log p_T(x) = log E over tau ~ p_B(. | x) of p_F(tau) / p_B(tau | x), by M = `trajectories` draws for each of B objects.

    The mean is unbiased; its logarithm is low by about half its variance. The standard error is that of the mean, relative to it.
    First model of `policy`; where that has one way into each object, one draw is exact.
    """
    if trajectories < 2:
        raise ValueError("a standard error needs at least two trajectories per object")
    n = len(final[0])
    if isinstance(policy, OneWay):
        each = [_log_weight(policy, space, take(final, rows), generator) for rows in _blocks(n)]
        return LogTerminating(-torch.cat(each), torch.zeros(n, dtype=torch.float64))
    repeated = torch.arange(n).repeat_interleave(trajectories)
    ratio = torch.cat(
        [
            -_log_weight(policy, space, take(final, repeated[rows]), generator)
            for rows in _blocks(len(repeated))
        ]
    )
    ratio = ratio.view(n, trajectories)
    value = ratio.logsumexp(1) - math.log(trajectories)
    relative = (ratio - value[:, None]).exp().std(1) / math.sqrt(trajectories)
    return LogTerminating(value, relative)


@torch.no_grad()
def upper_bound(
    policy: Policy[State],
    space: Space[State],
    log_reward: LogReward[State],
    drawn: State,
    generator: torch.Generator,
) -> Mean:
    """EUBO, of finished states `drawn` from the target, one backward trajectory each."""
    n = len(drawn[0])
    parts = []
    for rows in _blocks(n):
        part = take(drawn, rows)
        parts.append(_finite(log_reward(part)) + _log_weight(policy, space, part, generator))
    return _mean(torch.cat(parts))


def correlation(log_p_t: Tensor, log_reward: Tensor) -> float:
    """Pearson correlation of log p_T with log R over (B,) objects: 1 where p_T is proportional to a power of R."""
    pair = torch.stack([log_p_t.double(), log_reward.double()])
    return float(torch.corrcoef(pair)[0, 1])


@torch.no_grad()
def top(
    policy: Policy[State],
    space: Space[State],
    own: Own[State],
    k: int,
    trajectories: int,
    generator: torch.Generator,
) -> Top[State]:
    """The `k` different objects of the largest log R among own samples, fewer if there are fewer."""
    keys = space.key(own.final)
    order = own.log_reward.argsort(descending=True, stable=True)
    seen: set[tuple[int, ...]] = set()
    kept = []
    for row in order.tolist():
        key = tuple(keys[row].tolist())
        if key not in seen:
            seen.add(key)
            kept.append(row)
        if len(kept) == k:
            break
    best = take(own.final, torch.tensor(kept))
    return Top(best, own.log_reward[kept], log_terminating(policy, space, best, trajectories, generator))


def _log_weight(
    policy: Policy[State], space: Space[State], final: State, generator: torch.Generator
) -> Tensor:
    """log p_B - log p_F of one backward trajectory into each object: (B,) float64."""
    back = sample_backward(walked(policy, space), final, generator=generator)
    log_pf = evaluate(policy, space, back).log_pf[0].double().sum(0)
    return back.log_pb.double().sum(0) - log_pf


def _blocks(n: int) -> Iterator[Tensor]:
    return iter(torch.split(torch.arange(n), BLOCK))


def _mean(values: Tensor) -> Mean:
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Mean(float(values.mean()), error)


def _finite(log_reward: Tensor) -> Tensor:
    if not bool(torch.isfinite(log_reward).all()):
        raise EpgfnError(
            "the target gives a log-reward that is not finite; check its settings against the records"
        )
    return log_reward.double()

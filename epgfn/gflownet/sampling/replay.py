"""Replay: finished objects seen before, and new trajectories into them, mixed into the batches of training.

Balance losses hold on every trajectory, so any trajectory may be trained on. Those into remembered objects are drawn from the
uniform backward policy. What is remembered are the distinct objects of highest reward.

Source: Shen et al., ICML 2023, arXiv 2305.07170 (prioritised replay; there mixed by reward quantile).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, cast

import torch
from torch import Tensor

from epgfn.gflownet.policies.base import Policy, walked
from epgfn.gflownet.sampling.rollout import (
    Draw,
    Evaluated,
    Rollout,
    Trajectories,
    evaluate,
    evaluate_together,
    sample_backward,
    sample_once,
)
from epgfn.gflownet.spaces.base import Space, State, joined, take


class Replay(Generic[State]):
    """At most `capacity` distinct finished states; `state` a batch of M, `log_reward` (M,) float32 in nats."""

    def __init__(self, space: Space[State], capacity: int) -> None:
        self.space = space
        self.capacity = capacity
        self.state = take(space.initial(1), torch.zeros(0, dtype=torch.int64))
        self.log_reward = torch.zeros(0)

    def __len__(self) -> int:
        return len(self.log_reward)

    @torch.no_grad()
    def add(self, final: State, log_reward: Tensor) -> None:
        """Remember the B finished states `final` of (B,) `log_reward`; beyond `capacity` the lowest are forgotten."""
        state = joined([self.state, final])
        value = torch.cat([self.log_reward, log_reward.float()])
        found, which = torch.unique(self.space.key(state), dim=0, return_inverse=True)
        first = torch.full((len(found),), len(value))
        first.scatter_reduce_(0, which, torch.arange(len(value)), "amin")
        if len(first) > self.capacity:
            first = first[value[first].topk(self.capacity).indices]
        self.state, self.log_reward = take(state, first), value[first]

    def draw(self, n: int, generator: torch.Generator) -> State:
        """`n` of the remembered states, uniformly, with repetition."""
        return take(self.state, torch.randint(len(self), (n,), generator=generator))

    def tensors(self) -> dict[str, Tensor]:
        """All that is remembered, by name."""
        fields = zip(_names(self.state), self.state, strict=True)
        return {"log_reward": self.log_reward, **{f"state.{name}": field for name, field in fields}}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Remember what `tensors` of another buffer of this space gave."""
        self.log_reward = tensors["log_reward"]
        make: Callable[..., State] = type(self.state)
        self.state = make(*(tensors[f"state.{name}"] for name in _names(self.state)))


def _names(state: tuple[Tensor, ...]) -> tuple[str, ...]:
    """Of a batch of states, which is a NamedTuple."""
    return cast(NamedTuple, state)._fields


def with_replayed(
    fresh: Rollout[State],
    memory: Replay[State],
    n: int,
    policy: Policy[State],
    draw: Draw,
    generator: torch.Generator,
) -> Rollout[State]:
    """The trajectories of `fresh`, drawn by `draw`, then `n` into remembered objects, whose `log_q` is not known and NaN."""
    if n == 0:
        return fresh
    space = memory.space
    replayed = sample_backward(walked(policy, space), memory.draw(n, generator), generator=generator)
    evaluated = (evaluate_together if draw is sample_once else evaluate)(policy, space, replayed)
    return side_by_side(fresh, Rollout(replayed, evaluated, torch.full((n,), torch.nan)))


def side_by_side(first: Rollout[State], second: Rollout[State]) -> Rollout[State]:
    """Two batches of trajectories in one space as one batch, the shorter ones at rest until the longest have ended."""
    steps = max(len(first.trajectories.states), len(second.trajectories.states))
    ours, our_log_p = _padded(first.trajectories, first.evaluated, steps)
    theirs, their_log_p = _padded(second.trajectories, second.evaluated, steps)
    log_stop = None
    if our_log_p.log_stop is not None and their_log_p.log_stop is not None:
        log_stop = torch.cat([our_log_p.log_stop, their_log_p.log_stop], 2)
    both = Evaluated(torch.cat([our_log_p.log_pf, their_log_p.log_pf], 2), log_stop)
    return Rollout(_joined(ours, theirs), both, torch.cat([first.log_q, second.log_q]))


def _padded(
    trajectories: Trajectories[State], evaluated: Evaluated, steps: int
) -> tuple[Trajectories[State], Evaluated]:
    """The same with rests in the final state up to `steps` steps."""
    more = steps - len(trajectories.states)
    if more == 0:
        return trajectories, evaluated
    pad = torch.nn.functional.pad
    longer = trajectories._replace(
        states=trajectories.states + (trajectories.final,) * more,
        actions=pad(trajectories.actions, (0, 0, 0, more)),
        active=pad(trajectories.active, (0, 0, 0, more)),
        log_pb=pad(trajectories.log_pb, (0, 0, 0, more)),
    )
    stop = None if evaluated.log_stop is None else pad(evaluated.log_stop, (0, 0, 0, more))
    return longer, Evaluated(pad(evaluated.log_pf, (0, 0, 0, more)), stop)


def _joined(first: Trajectories[State], second: Trajectories[State]) -> Trajectories[State]:
    """Two batches of trajectories of as many steps, side by side."""
    return Trajectories(
        tuple(joined(pair) for pair in zip(first.states, second.states, strict=True)),
        torch.cat([first.actions, second.actions], 1),
        torch.cat([first.active, second.active], 1),
        torch.cat([first.log_pb, second.log_pb], 1),
        joined([first.final, second.final]),
    )

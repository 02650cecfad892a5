"""Exploration for products: trajectories as other parties might prefer them.

A product of N rewards lives where the sum of all is large, which may be where each party alone hardly ever goes: an object of
one-millionth of a party's own mass may hold a tenth of the product's. Flatter sampling does not lead there, since it goes
everywhere but seldom to the same place twice. What the other rewards do to a policy is to prefer some actions throughout a
trajectory; nobody knows which, so each trajectory is drawn under preferences of its own:

    q(a | s) = softmax over allowed a of (log p_F(a | s) + spread * g_a),    g_a standard normal, once for each trajectory.

    train_reward(space, log_reward, seed=1, draw=with_preferences(sample_once, share=0.5, spread=1.5))

Balance losses hold on every trajectory, so this changes where a model is accurate, never what it converges to.
"""

from __future__ import annotations

from typing import Generic

import torch
from torch import Tensor

from epgfn.gflownet.policies.base import Choices, Policy
from epgfn.gflownet.sampling.replay import side_by_side
from epgfn.gflownet.sampling.rollout import (
    Draw,
    Rollout,
    evaluate,
    evaluate_together,
    is_open,
    sample,
    sample_once,
    sample_open,
)
from epgfn.gflownet.spaces.base import Space, State


class Tilted(Generic[State]):
    """`policy`, drawn from under a preference for actions in each of B rows: `preference` (B, A) nats. Not to be trained."""

    def __init__(self, policy: Policy[State], preference: Tensor) -> None:
        self.n_models = policy.n_models
        self._policy, self._preference = policy, preference

    def choices(self, state: State) -> Choices:
        action, log_prob = self._policy.choices(state)
        logits = log_prob + self._preference.gather(1, action)  # (N, B, L)
        return Choices(action, logits.log_softmax(2))

    def parameters(self) -> list[Tensor]:
        return []

    def tensors(self, model: int = 0) -> dict[str, Tensor]:
        return self._policy.tensors(model)


def with_preferences(draw: Draw, *, share: float, spread: float) -> Draw:
    """`draw` (`sample` or `sample_once`) with a `share` of each batch, 0 to 1, under preferences of `spread` nats."""
    if not (0 <= share <= 1 and spread >= 0):
        raise ValueError("share must be from 0 to 1 and spread at least 0")

    def mixed(
        policy: Policy[State], space: Space[State], n: int, *, generator: torch.Generator, **how: float
    ) -> Rollout[State]:
        tilted = round(share * n)
        if tilted == 0:
            return draw(policy, space, n, generator=generator, **how)
        preference = spread * torch.randn(tilted, space.n_actions, generator=generator)
        if draw is sample_once and is_open(policy, space):
            every = torch.cat([torch.zeros(n - tilted, space.n_actions), preference])
            return sample_open(policy, space, n, generator=generator, preference=every, **how)
        with torch.no_grad():
            other = sample(Tilted(policy, preference), space, tilted, generator=generator, **how)
        judge = evaluate_together if draw is sample_once else evaluate
        other = other._replace(evaluated=judge(policy, space, other.trajectories))
        if tilted == n:
            return other
        return side_by_side(draw(policy, space, n - tilted, generator=generator, **how), other)

    return mixed

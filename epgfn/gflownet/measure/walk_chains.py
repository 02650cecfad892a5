"""Markov chains over the finished objects of any space, by walking back along the arrows and forward again.

From x a chain follows the uniform backward policy for a random number of steps to some s, path b, and from there an exploring form q of a
policy to a finished x', path f. It goes to x' with probability min(1, A),

    A = R(x') p_B(f | x') c^|f| q(b | s) / (R(x) p_B(b | x) c^|b| q(f | s)),

c the chance to go back one step more, drawn anew for each move. That leaves R / Z as it is (Metropolis-Hastings over objects and the
paths into them), whatever the policy, whose faults so cost moves but no correctness. Long ways back are how a chain leaves a mode. Compare
Zhang et al., ICML 2022, arXiv 2202.01361 (back-and-forth proposals).

Graphs of a score table have better moves: `structure_chains`.
"""

from __future__ import annotations

from typing import Final, Generic

import torch
from torch import Tensor

from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.sampling.draws import behaviour, cumulative, draw
from epgfn.gflownet.spaces.base import LogReward, Space, State, log_uniform_backward, where

TEMPERATURE, EXPLORATION = 1.5, 0.1
"""Of q."""
HOTTEST: Final = 8.0
"""Chains that cool down begin with R to the power of one over this, and so meet many modes before they settle in one."""


class WalkChains(Generic[State]):
    """B chains that move in place: `state` is where they are, `log_reward` (B,) float64 nats what that is worth."""

    def __init__(
        self,
        space: Space[State],
        policy: Policy[State],
        log_reward: LogReward[State],
        state: State,
        generator: torch.Generator,
    ) -> None:
        """`policy`'s first model leads the way; `state` are finished objects."""
        self.space, self.policy, self.generator = space, policy, generator
        self._log_reward = log_reward
        self.state, self.log_reward = state, log_reward(state).double()

    @torch.no_grad()
    def cool(self, moves: int) -> None:
        """So many moves from hot to the target itself."""
        for number in range(moves):
            self.move(1 + (HOTTEST - 1) * (1 - (number + 1) / moves))

    @torch.no_grad()
    def move(self, temperature: float = 1.0) -> Tensor:
        """One move of each chain; (B,) bool which were taken. At a `temperature` above 1 the target is R to the power of one over it."""
        n = len(self.log_reward)
        further = 1 - self._noise(n).square()  # one step in some moves, most of the way in others
        below, back, back_steps = self._walk_back(further)
        after, forth, steps = self._walk_on(below)
        log_reward = self._log_reward(after).double()
        gain = (log_reward - self.log_reward) / temperature
        chance = gain + forth - back + (steps - back_steps) * further.log()
        taken = self._noise(n).log() < chance
        self.state = where(taken, after, self.state)
        self.log_reward = torch.where(taken, log_reward, self.log_reward)
        return taken

    def _walk_back(self, further: Tensor) -> tuple[State, Tensor, Tensor]:
        """States before, log p_B - log q of the paths, and their lengths, (B,) float64 each. Where all trajectories are equally
        long, all go back equally far, for policies that take states of one step only."""
        space, state = self.space, self.state
        together = space.stop_action is None
        if together:
            further.fill_(float(further[0]))
        ratio, steps = torch.zeros_like(further), torch.zeros_like(further)
        walking = torch.ones(len(further), dtype=torch.bool)
        while bool((walking := walking & space.backward_mask(state).any(1)).any()):
            ways = torch.where(walking[:, None], space.backward_mask(state), True).float()
            before = space.step_back(state, torch.multinomial(ways, 1, generator=self.generator)[:, 0])
            action, probability = self._behaviour(before.state)
            column = (action == before.action[:, None]).to(torch.uint8).argmax(1)
            log_q = probability.gather(1, column[:, None])[:, 0].double().log()
            ratio += torch.where(walking, log_uniform_backward(space, state).double() - log_q, 0.0)
            steps += walking
            state = where(walking, before.state, state)
            coin = self._noise(len(further))
            walking = walking & ((coin[:1] if together else coin) < further)
        return state, ratio, steps

    def _walk_on(self, state: State) -> tuple[State, Tensor, Tensor]:
        """Finished states, log p_B - log q of the paths, and their lengths."""
        space, n = self.space, len(self.log_reward)
        ratio, steps = torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
        while bool((running := ~space.is_terminating(state)).any()):
            action, probability = self._behaviour(state)
            column = draw(cumulative(probability), torch.rand(n, generator=self.generator))
            log_q = probability.gather(1, column[:, None])[:, 0].double().log()
            chosen = action.gather(1, column[:, None])[:, 0]
            state = where(running, space.step(state, chosen), state)
            ratio += torch.where(running, log_uniform_backward(space, state).double() - log_q, 0.0)
            steps += running
        return state, ratio, steps

    def _behaviour(self, state: State) -> tuple[Tensor, Tensor]:
        """Actions (B, L) and q (B, L) of them."""
        choices = self.policy.choices(state)
        return choices.action, behaviour(choices.log_prob[0], TEMPERATURE, EXPLORATION)

    def _noise(self, n: int) -> Tensor:
        return torch.rand(n, generator=self.generator, dtype=torch.float64)

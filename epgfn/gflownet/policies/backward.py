"""A learned backward policy: one network from features to logits over the ways back, in place of the uniform one.

    log p_B(s | s') = log softmax over the ways back w of s' of net(features(s'))[w]

Any p_B has a p_F that samples the same target, so this is a matter of how easily p_F is learned. It is trained jointly, by
the same loss (Malkin et al., NeurIPS 2022, arXiv 2201.13259). What aggregation reads off a local model needs p_B to be known
to all, so studies keep the uniform one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError
from epgfn.gflownet.policies.mlp import mlp, mlp_init
from epgfn.gflownet.sampling.rollout import Trajectories
from epgfn.gflownet.spaces.base import Space


def initial_tensors(space: Space, hidden: int, generator: torch.Generator) -> dict[str, Tensor]:
    """A fresh network, as `mlp_init` starts it."""
    return mlp_init(space.n_features, hidden, space.n_backward, generator)


class BackwardNet:
    """log p_B of given trajectories; `tensors` as `initial_tensors` gives them."""

    def __init__(self, space: Space, tensors: Mapping[str, Tensor]) -> None:
        self.space = space
        self.weights = {name: tensor.unsqueeze(0) for name, tensor in tensors.items()}

    def parameters(self) -> list[Tensor]:
        """What training changes."""
        return list(self.weights.values())

    def tensors(self) -> dict[str, Tensor]:
        """The network's tensors, float32."""
        return {name: weight[0].detach().clone() for name, weight in self.weights.items()}

    def log_prob(self, state: Any) -> Tensor:
        """(B, n_backward) nats of the ways back of B states, -inf where there is none such; initial states are not asked for."""
        logits = mlp(self.weights, self.space.features(state), torch.relu)[0]
        return logits.masked_fill(~self.space.backward_mask(state), -torch.inf).log_softmax(1)

    def log_pb(self, trajectories: Trajectories) -> Tensor:
        """(T, B) log p_B(s_t | s_t+1) of the steps taken, 0 where not active."""
        active, after = trajectories.active, _states_after(trajectories)
        way = ways_back(self.space, after, trajectories.actions[active])
        taken = self.log_prob(after).gather(1, way[:, None])[:, 0]
        return torch.zeros(active.shape).masked_scatter(active, taken)


@torch.no_grad()
def ways_back(space: Space, after: Any, action: Tensor) -> Tensor:
    """(M,) int64: which way back undoes the (M,) `action` that led to the M states `after`.

    Raises:
        EpgfnError: none does.
    """
    allowed = space.backward_mask(after)
    guess = action.clamp_max(space.n_backward - 1)  # in most spaces ways back are numbered as actions are
    if bool(_undoes(space, after, action, allowed, guess).all()):
        return guess
    way = torch.full_like(action, -1)
    for number in range(space.n_backward):
        candidate = torch.full_like(action, number)
        way = torch.where(_undoes(space, after, action, allowed, candidate), number, way)
    if bool((way < 0).any()):
        raise EpgfnError("a step of this space has no way back; its step_back does not undo its step")
    return way


def _undoes(space: Space, after: Any, action: Tensor, allowed: Tensor, way: Tensor) -> Tensor:
    return allowed.gather(1, way[:, None])[:, 0] & (space.step_back(after, way).action == action)


def _states_after(trajectories: Trajectories) -> Any:
    """The M states that the active steps lead to."""
    states = [*trajectories.states[1:], trajectories.final]
    fields = zip(*states, strict=True)
    return type(trajectories.final)(*(torch.stack(field)[trajectories.active] for field in fields))

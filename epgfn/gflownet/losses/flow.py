"""A learned log F(s): the network beside the policy that losses of edges and of pieces need."""

from __future__ import annotations

import math
from typing import Generic

import torch
from torch import Tensor

from epgfn.gflownet.device import seeded
from epgfn.gflownet.losses.base import Task
from epgfn.gflownet.policies.mlp import LAYERS, mlp, mlp_init
from epgfn.gflownet.policies.mlp_net import distinct
from epgfn.gflownet.sampling.rollout import Trajectories
from epgfn.gflownet.spaces.base import State

_LAST_BIAS = f"net.{LAYERS - 1}.bias"


class Flow(Generic[State]):
    """`level` (1,) is what the flow adds to its network: NaN until it is filled. A flow that is log Z everywhere is a better start
    than 0."""

    def __init__(self, task: Task[State]) -> None:
        fresh = mlp_init(task.space.n_features, task.hidden, 1, task.generator or seeded(0))
        self._space = task.space
        self._tensors = {name: tensor.unsqueeze(0) for name, tensor in fresh.items()}
        self.level = self._tensors[_LAST_BIAS].fill_(math.nan)

    def parameters(self) -> list[Tensor]:
        """What training changes."""
        return list(self._tensors.values())

    def log_flow(self, trajectories: Trajectories[State]) -> Tensor:
        """(T, B) log F(s) of the states acted in, 0 where not active."""
        active = trajectories.active
        once, which = distinct(self._space, trajectories.acting())
        values = mlp(self._tensors, self._space.features(once))[0, which, 0]
        return torch.zeros(active.shape).masked_scatter(active, values)

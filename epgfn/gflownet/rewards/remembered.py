"""A reward that keeps what objects are worth: for targets that cost more than looking an object up.

    target = Jc69(space, codes, branch_length=0.1)
    log_reward = Remembered(space, target.log_likelihood)

A policy that nears its posterior draws the same few objects over and over again, and each is then scored once in a training.
"""

from __future__ import annotations

from typing import Generic

import numpy as np
import torch
from torch import Tensor

from epgfn.gflownet.spaces.base import LogReward, Space, State, take

MAX_OBJECTS = 1_000_000
"""Objects kept by default, at some hundred bytes each."""


class Remembered(Generic[State]):
    """`log_reward` of finished states, each distinct one computed once.

    When the next batch would make them more than `most`, all are forgotten first. The values are those of `log_reward`, unchanged.
    """

    def __init__(self, space: Space[State], log_reward: LogReward[State], most: int = MAX_OBJECTS) -> None:
        self._space, self._log_reward, self._most = space, log_reward, most
        self._values: dict[bytes, float] = {}

    def __call__(self, state: State) -> Tensor:
        """(B,) float64 nats."""
        keys = self._space.key(state).contiguous().numpy()
        names: list[bytes] = keys.view(np.dtype((np.void, keys.shape[1] * 8)))[:, 0].tolist()
        unknown = {name: row for row, name in enumerate(names) if name not in self._values}
        if unknown:
            if len(self._values) + len(unknown) > self._most:
                self._values.clear()
                unknown = {name: row for row, name in enumerate(names)}
            rows = torch.tensor(list(unknown.values()))
            found = self._log_reward(take(state, rows)).double().tolist()
            self._values.update(zip(unknown, found, strict=True))
        return torch.tensor([self._values[name] for name in names], dtype=torch.float64)

"""A world of four variables and three nodes, small enough to list every graph."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from epgfn.study import Study

BY_SINKS = Study.from_bytes(
    b"""
name = "four"
roster = ["north", "south", "west"]
seed = 3
variables = [
  { name = "a", centre = 0, scale = 1 }, { name = "b", centre = 0, scale = 1 },
  { name = "c", centre = 0, scale = 1 }, { name = "d", centre = 0, scale = 1 },
]

[space]
max_parents = 3

[policy]
hidden = 64

[training]
steps = 80
batch = 64
learning_rate = 1e-2

[aggregation]
steps = 80
batch = 64
learning_rate = 1e-2
samples = 200
"""
)
LONGER = {"steps": 220, "batch": 64, "learning_rate": 1e-2, "exploration": 0.3}
BY_EDGES = BY_SINKS.with_changes(
    {
        "space": {"kind": "dag-by-edges"},
        "policy": {"kind": "edge-net"},
        "training": {**LONGER, "objective": "modified-detailed"},
        "aggregation": {**LONGER, "objective": "aggregating-edges"},
    }
)


def records(node: int) -> np.ndarray:
    """15 records of a -> b <- c, b -> d."""
    noise = np.random.default_rng(node).normal(size=(15, 4))
    a, c = noise[:, 0], noise[:, 2]
    b = 0.5 * a - 0.4 * c + noise[:, 1]
    return np.column_stack([a, b, c, 0.3 * b + noise[:, 3]])


def l1(mass: Tensor, log_reward: Tensor) -> float:
    """Sum over objects of |p_T - R / Z|, never halved."""
    return float((mass - torch.softmax(log_reward.double(), 0)).abs().sum())

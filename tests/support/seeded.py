"""Noise with a seed, for tests of what a release is good for: chance must not decide whether they pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from epgfn.privacy.mechanisms import discrete, gradient


def seeded_gaussian(seed: int = 0) -> Callable[[Any, float], Any]:
    """As `discrete.discrete_gaussian`, but for the seed; the continuous Gaussian rounded, which is as good at these scales."""
    rng = np.random.default_rng(seed)
    return lambda values, scale: values + np.rint(rng.normal(size=np.shape(values)) * scale).astype(np.int64)


def seed_noise(patch: pytest.MonkeyPatch, seed: int = 0) -> None:
    """From now on every release and every step of DP-SGD in this process has seeded noise."""
    count = iter(range(1 << 30))
    patch.setattr(discrete, "discrete_gaussian", seeded_gaussian(seed))
    patch.setattr(gradient, "os_generator", lambda: torch.Generator().manual_seed((seed << 32) + next(count)))

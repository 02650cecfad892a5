"""Simulated records, the same for the same generator."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Tails = Literal["gaussian", "student", "laplace"]


def noise(shape: tuple[int, int], tails: Tails, rng: np.random.Generator) -> Floats:
    """Unit variance: Gaussian, Student's t with 5 degrees of freedom, or Laplace."""
    if tails == "student":
        return np.asarray(rng.standard_t(5, shape) / math.sqrt(5 / 3))
    if tails == "laplace":
        return np.asarray(rng.laplace(size=shape) / math.sqrt(2))
    return rng.normal(size=shape)

"""The hypergrid's exact answer in plain numpy, for libraries that do not come with one.

R(x) = .1 + .5 prod 1[.25 < |u_i|] + 2 prod 1[.3 < |u_i| < .4],   u_i = x_i / (side - 1) - 1/2
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def positions(n_dimensions: int, side: int) -> npt.NDArray[np.int64]:
    """(S, D) all positions, the last coordinate fastest."""
    axes = np.meshgrid(*[np.arange(side)] * n_dimensions, indexing="ij")
    return np.stack(axes, -1).reshape(-1, n_dimensions)


def target(n_dimensions: int, side: int) -> Floats:
    """(S,) the normalised reward."""
    far = np.abs(positions(n_dimensions, side) / (side - 1) - 0.5)
    reward = 0.1 + 0.5 * (far > 0.25).all(1) + 2.0 * ((far > 0.3) & (far < 0.4)).all(1)
    return np.asarray(reward / reward.sum())


def l1(probabilities: Floats, n_dimensions: int, side: int) -> float:
    """Sum over positions of |p_T - p|, from (S, D + 1) probabilities of the actions, stopping last; p_T by one sweep."""
    where = positions(n_dimensions, side)
    strides = side ** np.arange(n_dimensions - 1, -1, -1)
    level = where.sum(1)
    mass = np.zeros(len(where))
    mass[0] = 1.0
    for number in range(level.max()):
        here = np.nonzero(level == number)[0]
        for d in range(n_dimensions):
            able = here[where[here, d] < side - 1]
            mass[able + strides[d]] += mass[able] * probabilities[able, d]
    return float(np.abs(mass * probabilities[:, -1] - target(n_dimensions, side)).sum())

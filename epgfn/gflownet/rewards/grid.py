"""The hypergrid reward: 2^D modes of the same height near the corners, with little in between.

    R(x) = R0 + R1 prod_i 1[0.25 < |u_i|] + R2 prod_i 1[0.3 < |u_i| < 0.4],    u_i = x_i / (side - 1) - 1/2

Source: Bengio et al., NeurIPS 2021, arXiv 2106.04399, section 4.1. The smaller R0, the harder it is to find all modes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.spaces.hypergrid import Hypergrid, State

R0, R1, R2 = 0.1, 0.5, 2.0


def log_reward(position: Tensor, side: int, r0: float = R0, r1: float = R1, r2: float = R2) -> Tensor:
    """log R(x) in nats: (B, D) int64 coordinates in 0 .. side - 1 -> (B,) float64."""
    far = (position.double() / (side - 1) - 0.5).abs()
    plateau = (far > 0.25).all(1).double()
    mode = ((far > 0.3) & (far < 0.4)).all(1).double()
    return (r0 + r1 * plateau + r2 * mode).log()


class HypergridReward:
    """`log_reward` of the finished states of a hypergrid.

    Raises:
        UsageError: the space is not a hypergrid; R0 is not above zero, or a reward would not be positive and finite.
    """

    def __init__(self, space: Hypergrid, r0: float = R0, r1: float = R1, r2: float = R2) -> None:
        if not isinstance(space, Hypergrid):
            raise UsageError("the grid reward needs a hypergrid; choose another target for this space")
        values = torch.tensor([r0, r0 + r1, r0 + r1 + r2, r0 + r2], dtype=torch.float64)
        if not bool((torch.isfinite(values) & (values > 0)).all()):
            raise UsageError(
                "the grid reward is not positive and finite everywhere; choose r0 > 0, r1 >= 0, r2 >= 0"
            )
        self.space = space
        self.side = space.side
        self.r0, self.r1, self.r2 = r0, r1, r2

    def __call__(self, state: State) -> Tensor:
        return log_reward(state.position, self.side, self.r0, self.r1, self.r2)

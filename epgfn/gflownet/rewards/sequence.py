"""The sequence reward: each letter has a value, each place a weight, and the products add up.

    log R(x) = sum_i g(i) r(x_i),    i = 1 .. length of x

Source: da Silva et al., ICML 2024, arXiv 2406.03288, experiments on sequences (g and r drawn at random, party by party).
"""

from __future__ import annotations

import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.spaces.sequence import Sequence, State


def log_reward(letters: Tensor, weights: Tensor, values: Tensor) -> Tensor:
    """log R(x) in nats: (B, L) int64 letters from 1 on and 0 for none, (L,) weights, (A,) values -> (B,) float64."""
    table = torch.cat([torch.zeros(1, dtype=torch.float64), values.double()])  # no letter adds nothing
    return table[letters] @ weights.double()


class SequenceReward:
    """`log_reward` of the finished states of a space of sequences; `weights` (L,) of places, `values` (A,) of letters.

    Raises:
        UsageError: the space does not hold sequences, or the numbers are not L and A finite ones.
    """

    def __init__(self, space: Sequence, weights: Tensor, values: Tensor) -> None:
        if not isinstance(space, Sequence):
            raise UsageError("the sequence reward needs sequences; choose another target for this space")
        shapes = tuple(weights.shape) == (space.max_length,) and tuple(values.shape) == (space.n_letters,)
        if not shapes or not bool(torch.isfinite(torch.outer(weights, values)).all()):
            raise UsageError(
                f"the sequence reward needs {space.max_length} finite weights, one for each place, and {space.n_letters} "
                "finite values, one for each letter"
            )
        self.space = space
        self.weights, self.values = weights.double(), values.double()

    def __call__(self, state: State) -> Tensor:
        return log_reward(state.letters, self.weights, self.values)


def random_weights(space: Sequence, seed: int, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """(L,) weights of places from 0 to 1 and (A,) values of letters within +-`spread` nats, both uniform, float64:
    one party's synthetic target."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(space.max_length, generator=generator, dtype=torch.float64)
    values = torch.rand(space.n_letters, generator=generator, dtype=torch.float64) * 2 - 1
    return weights, values * spread

"""The multiset reward: each item has a value, and log-values add up.

    log R(x) = sum_i x_i v_i

Source: da Silva et al., ICML 2024, arXiv 2406.03288, experiments on multisets (values drawn uniformly, party by party).
"""

from __future__ import annotations

import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.spaces.multiset import Multiset, State


def log_reward(counts: Tensor, values: Tensor) -> Tensor:
    """log R(x) in nats: (B, d) int64 counts, (d,) log-values of one item each -> (B,) float64."""
    return counts.double() @ values.double()


class MultisetReward:
    """`log_reward` of the finished states of a space of multisets; `values` (d,) in nats.

    Raises:
        UsageError: the space does not hold multisets, or `values` are not d finite numbers.
    """

    def __init__(self, space: Multiset, values: Tensor) -> None:
        if not isinstance(space, Multiset):
            raise UsageError("the multiset reward needs multisets; choose another target for this space")
        if tuple(values.shape) != (space.n_items,) or not bool(torch.isfinite(values).all()):
            raise UsageError(
                f"the multiset reward needs {space.n_items} finite log-values, one for each kind of item"
            )
        self.space = space
        self.values = values.double()

    def __call__(self, state: State) -> Tensor:
        return log_reward(state.counts, self.values)


def random_values(space: Multiset, seed: int, spread: float = 1.5) -> Tensor:
    """(d,) float64 log-values drawn uniformly from 0 to `spread` nats, one party's synthetic target."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(space.n_items, generator=generator, dtype=torch.float64) * spread

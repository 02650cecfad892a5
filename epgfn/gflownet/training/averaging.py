"""The mean of a model's weights over the end of its training, which is steadier than the last step's.

Source: Izmailov et al., UAI 2018, arXiv 1803.05407 (there with another schedule).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Average:
    """Mean of `parameters` over the steps of the last `share` (0 to 1) of a run of `steps`."""

    def __init__(self, parameters: Sequence[Tensor], share: float, steps: int) -> None:
        self.parameters = parameters
        self.first = steps - round(share * steps) + 1
        """The first step, from 1, whose weights count."""
        self.means = [tensor.detach().clone() for tensor in parameters]

    @torch.no_grad()
    def add(self, step: int) -> None:
        """Take in the weights after `step`; called once a step, in order."""
        if step >= self.first:
            torch._foreach_lerp_(self.means, list(self.parameters), 1 / (step - self.first + 1))

    @torch.no_grad()
    def apply(self) -> None:
        """Give the parameters their mean."""
        for tensor, mean in zip(self.parameters, self.means, strict=True):
            tensor.copy_(mean)

"""Adam, by torch's function instead of its class: the class imports torch's compiler, a second or more of every start."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

BETAS, EPSILON = (0.9, 0.999), 1e-8


class Adam:
    """Changes tensors in place along their gradients; `groups` of (tensors, learning rate).

    Source: Kingma & Ba, ICLR 2015, arXiv 1412.6980.
    """

    def __init__(self, groups: Sequence[tuple[Sequence[Tensor], float]]) -> None:
        self.groups = [(list(tensors), rate) for tensors, rate in groups if tensors]
        self.trained = [tensor for tensors, _ in self.groups for tensor in tensors]
        self.moments = [
            [(torch.zeros_like(tensor), torch.zeros_like(tensor), torch.zeros(())) for tensor in tensors]
            for tensors, _ in self.groups
        ]
        """Of each tensor the running mean of its gradient, of the gradient's square, and the number of steps."""
        for tensor in self.trained:
            tensor.requires_grad_(True)

    def forget_gradients(self) -> None:
        """Before the next backward pass."""
        for tensor in self.trained:
            tensor.grad = None

    @torch.no_grad()
    def step(self, share: float) -> None:
        """One step with every learning rate times `share`; tensors without a gradient stay."""
        for (tensors, rate), moments in zip(self.groups, self.moments, strict=True):
            rows = [
                (tensor, tensor.grad, *moment)
                for tensor, moment in zip(tensors, moments, strict=True)
                if tensor.grad is not None
            ]
            if not rows:
                continue
            values, gradients, mean, square, step = (list(column) for column in zip(*rows, strict=True))
            adam(
                values,
                gradients,
                mean,
                square,
                [],
                step,
                fused=True,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=rate * share,
                weight_decay=0.0,
                eps=EPSILON,
                maximize=False,
            )

    def tensors(self) -> dict[str, Tensor]:
        """The tensors and their moments by name, those that go into a checkpoint."""
        found = {f"trained.{i}": tensor.detach() for i, tensor in enumerate(self.trained)}
        for i, moments in enumerate(moment for group in self.moments for moment in group):
            found |= {f"moment.{i}.{j}": value for j, value in enumerate(moments)}
        return found

    @torch.no_grad()
    def restore(self, found: dict[str, Tensor]) -> None:
        """Take over what `tensors` of another run with the same groups gave."""
        for name, tensor in self.tensors().items():
            tensor.copy_(found[name])

"""N small networks of one shape, evaluated as batched matrix products: (B, in) -> (N, B, out)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from epgfn.policies.spec import TensorSpec

LAYERS = 3


def mlp_spec(n_in: int, hidden: int, n_out: int) -> dict[str, TensorSpec]:
    """Tensors of one network: `net.{0,1,2}.weight` (in, out) and `net.{0,1,2}.bias` (out,)."""
    sizes = [n_in, *[hidden] * (LAYERS - 1), n_out]
    spec: dict[str, TensorSpec] = {}
    for layer, (a, b) in enumerate(itertools.pairwise(sizes)):
        spec[f"net.{layer}.weight"] = TensorSpec((a, b), "float32")
        spec[f"net.{layer}.bias"] = TensorSpec((b,), "float32")
    return spec


def mlp_init(n_in: int, hidden: int, n_out: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Fresh weights: uniform within 1/sqrt(fan-in), the last layer zero, so that training starts from no correction."""
    tensors: dict[str, Tensor] = {}
    for name, spec in mlp_spec(n_in, hidden, n_out).items():
        tensors[name] = torch.zeros(spec.shape)
        if name.endswith("weight") and not name.startswith(f"net.{LAYERS - 1}"):
            tensors[name].uniform_(-1, 1, generator=generator).div_(math.sqrt(spec.shape[0]))
    return tensors


def mlp(
    weights: dict[str, Tensor], x: Tensor, activation: Callable[[Tensor], Tensor] = torch.nn.functional.gelu
) -> Tensor:
    """Networks with `activation` between the layers; `weights` carry a leading axis N. (B, in) or (N, B, in) -> (N, B, out)."""
    n = weights["net.0.weight"].shape[0]
    h = x.expand(n, *x.shape[-2:])
    for layer in range(LAYERS):
        h = torch.baddbmm(weights[f"net.{layer}.bias"].unsqueeze(1), h, weights[f"net.{layer}.weight"])
        if layer < LAYERS - 1:
            h = activation(h)
    return h


def frozen_layers(weights: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(N, 1, out) bias and (N, in, out) weight of each layer, without gradients, for `relu_layers`."""
    both = ((weights[f"net.{number}.bias"], weights[f"net.{number}.weight"]) for number in range(LAYERS))
    return [(bias.detach().unsqueeze(1), weight.detach()) for bias, weight in both]


def relu_layers(frozen: list[tuple[Tensor, Tensor]], x: Tensor, layers: list[Tensor]) -> None:
    """`mlp` with ReLU of (B, in), every layer written into `layers`: (N, B, hidden), ..., (N, B, out). See `relu_mlp_of`."""
    h = x.expand(len(layers[0]), -1, -1)
    for number, ((bias, weight), layer) in enumerate(zip(frozen, layers, strict=True)):
        h = torch.baddbmm(bias, h, weight, out=layer)
        if number < LAYERS - 1:
            h.relu_()


def relu_mlp_of(weights: dict[str, Tensor], x: Tensor, layers: list[Tensor]) -> Tensor:
    """The last of `layers`, which `relu_layers` has filled, differentiable in `weights` without computing any of it again."""
    ordered = [weights[f"net.{layer}.{kind}"] for layer in range(LAYERS) for kind in ("weight", "bias")]
    out: Tensor = _KnownLayers.apply(x, *layers, *ordered)  # type: ignore[no-untyped-call]
    return out


class _KnownLayers(torch.autograd.Function):
    """x (B, in), the LAYERS layers, and weight and bias of each in; the last layer out; `backward` by the chain rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(x, *tensors)
        return tensors[LAYERS - 1].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, *tensors = ctx.saved_tensors
        below = [x.expand(len(tensors[0]), *x.shape), *tensors[: LAYERS - 1]]  # what each layer was given
        weights = tensors[LAYERS::2]
        grad, found = grads[0], []  # (N, B, out)
        for layer in reversed(range(LAYERS)):
            found += [grad.sum(1), _outer(below[layer], grad)]  # bias, weight
            if layer:
                grad = grad @ weights[layer].mT
                torch.ops.aten.threshold_backward.grad_input(
                    grad, below[layer], 0, grad_input=grad
                )  # in place
        return (None,) * (1 + LAYERS) + tuple(reversed(found))


def _outer(x: Tensor, y: Tensor) -> Tensor:
    """Sum over B of x y^T: (N, B, in), (N, B, out) -> (N, in, out). Laid out so that the product's long side is its last: several
    times faster for a narrow last layer."""
    return x.mT @ y if y.shape[2] >= 32 else (y.mT @ x).mT

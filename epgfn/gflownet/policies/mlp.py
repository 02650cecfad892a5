"""N small networks of one shape, evaluated as batched matrix products: (B, in) -> (N, B, out)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from epgfn.gflownet.policies.row_sums import RowTable, sums
from epgfn.gflownet.policies.spec import TensorSpec

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
    first = torch.baddbmm(
        weights["net.0.bias"].unsqueeze(1), x.expand(n, *x.shape[-2:]), weights["net.0.weight"]
    )
    return later_layers(weights, first, activation)


def later_layers(weights: dict[str, Tensor], first: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """`mlp` from its first layer (N, B, width) on, before it is activated."""
    h = activation(first)
    for layer in range(1, LAYERS):
        h = torch.baddbmm(weights[f"net.{layer}.bias"].unsqueeze(1), h, weights[f"net.{layer}.weight"])
        if layer < LAYERS - 1:
            h = activation(h)
    return h


def frozen_layers(weights: dict[str, Tensor], table: RowTable | None = None) -> list[tuple[Tensor, Tensor]]:
    """Bias (out,) and weight (in, out) of each layer of a single network (N = 1) without gradients, for `relu_layers`; of the last
    layer (out, 1) and (out, in), and of the first one, where features are sums of the rows of a `table`, (rows, out)."""
    both = ((weights[f"net.{number}.bias"], weights[f"net.{number}.weight"]) for number in range(LAYERS))
    *others, (bias, weight) = [(bias.detach()[0], weight.detach()[0]) for bias, weight in both]
    if table is not None:
        others[0] = (others[0][0], table.times(others[0][1]))
    return [*others, (bias[:, None], weight.T.contiguous())]


def relu_layers(frozen: list[tuple[Tensor, Tensor]], x: Tensor, hidden: list[Tensor]) -> Tensor:
    """`mlp` with ReLU of (B, in), or of (B, K) int64 rows of a table, hidden layers written into `hidden`, (B, width) each; the last one
    is returned with its axes exchanged, (out, B), in which a narrow one is far cheaper to work with. See `relu_mlp_of`."""
    h = x
    for (bias, weight), layer in zip(frozen, hidden, strict=False):
        if h.dtype == torch.int64:
            h = torch.add(sums(weight, h), bias, out=layer).relu_()
        else:
            h = torch.addmm(bias, h, weight, out=layer).relu_()
    bias, weight = frozen[-1]
    return torch.addmm(bias, weight, h.T)


def relu_mlp_of(
    weights: dict[str, Tensor], x: Tensor, hidden: list[Tensor], out: Tensor, table: RowTable | None = None
) -> Tensor:
    """`out`, which `relu_layers` returned of `x` when it filled `hidden`, differentiable in `weights` without computing any of it
    again. `table`: that of which `x` names rows."""
    ordered = [weights[f"net.{layer}.{kind}"] for layer in range(LAYERS) for kind in ("weight", "bias")]
    known: Tensor = _KnownLayers.apply(table, out, x, *hidden, *ordered)  # type: ignore[no-untyped-call]
    return known


class _KnownLayers(torch.autograd.Function):
    """The table or None, the last layer (out, B), x (B, in), the hidden layers, and weight and bias of each layer in; the last layer out;
    `backward` by the chain rule."""

    @staticmethod
    def forward(ctx: Any, table: RowTable | None, out: Tensor, *tensors: Tensor) -> Tensor:
        ctx.table = table
        ctx.save_for_backward(*tensors)
        return out.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        saved = ctx.saved_tensors
        below, weights = (
            saved[:LAYERS],
            saved[LAYERS::2],
        )  # what each layer was given, and with what it was multiplied
        grad = grads[0]  # (out, B)
        # Bias and weight, from the last layer to the first. Narrow times wide: the other way around takes several times as long.
        found = [grad.sum(1), (grad @ below[-1]).T]
        grad = grad.T
        for layer in reversed(range(LAYERS - 1)):
            grad = grad @ weights[layer + 1][0].T
            out = below[layer + 1]
            torch.ops.aten.threshold_backward.grad_input(grad, out, 0, grad_input=grad)  # in place
            in_rows = layer == 0 and ctx.table is not None
            of_weight = ctx.table.gradient(below[0], grad) if in_rows else below[layer].T @ grad
            found += [grad.sum(0), of_weight]
        return (None,) * (2 + LAYERS) + tuple(each[None] for each in reversed(found))

"""The network of the policies for DAGs by sinks: of (S, sinks), with a term for each choice of a variable and of its parents.

    r_j        a term per variable j outside S,
    r_j(Pa)    a term per edge (i, j) with i a sink, per pair (i, i') of parents that are both sinks, and per number of sinks
               that Pa covers.

Only what a row asks for is computed of the last layer: the columns of its own variable, and pairs once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.policies.bounds import bounded
from epgfn.gflownet.policies.mlp import LAYERS
from epgfn.gflownet.spaces.dag_by_sinks import DagBySinks, Legal

LAST = LAYERS - 1


def n_outputs(space: DagBySinks) -> int:
    """Per variable, per edge, per pair of sinks covered, and per variable and number of sinks covered."""
    v = space.n_variables
    return v + 2 * v * v + v * (space.max_parents + 1)


class Heads(NamedTuple):
    """The last layer by what it speaks of, each a weight (N, H, out) and a bias (N, 1, out): `variable` (out = V), `pair` (all
    pairs i < i', V(V-1)/2), and `child`, for each variable j V edges (i, j), then R + 1 numbers of sinks covered: (N, H, V, out)
    and (N, 1, V, out)."""

    variable: tuple[Tensor, Tensor]
    pair: tuple[Tensor, Tensor]
    child: tuple[Tensor, Tensor]


def hidden(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """All layers but the last: features (B, in) -> (N, B, H)."""
    h = x.expand(weights["net.0.weight"].shape[0], *x.shape)
    for layer in range(LAST):
        h = torch.baddbmm(weights[f"net.{layer}.bias"].unsqueeze(1), h, weights[f"net.{layer}.weight"])
        h = torch.nn.functional.gelu(h)
    return h


def heads(weights: dict[str, Tensor], space: DagBySinks) -> Heads:
    """The last layer, to be taken apart once for many states."""
    v, r = space.n_variables, space.max_parents
    first, second = torch.triu_indices(v, v, 1)

    def apart(last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        variable, edge, pair, count = torch.split(last, [v, v * v, v * v, v * (r + 1)], 2)
        n, rows, _ = last.shape
        child = torch.cat([edge.reshape(n, rows, v, v), count.reshape(n, rows, v, r + 1)], 3)
        return variable, pair.index_select(2, first * v + second), child

    weight = apart(weights[f"net.{LAST}.weight"])
    bias = apart(weights[f"net.{LAST}.bias"].unsqueeze(1))
    return Heads(*zip(weight, bias, strict=True))


def linear(h: Tensor, layer: tuple[Tensor, Tensor]) -> Tensor:
    """(N, B, H) -> (N, B, out)."""
    return bounded(torch.baddbmm(layer[1], h, layer[0]))


def of_all_children(h: Tensor, layer: tuple[Tensor, Tensor]) -> Tensor:
    """Each row through the layers of all variables: (N, B, H) -> (N, B, V, out)."""
    n, rows, v = len(h), h.shape[1], layer[0].shape[2]
    return linear(h, (layer[0].flatten(2), layer[1].flatten(2))).view(n, rows, v, -1)


def of_own_child(h: Tensor, child: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Each row through the layer of its own variable, `layers[j]` a weight (N, H, out) and bias: (B,) -> (N, B, out)."""
    order = child.argsort()
    counts = torch.bincount(child, minlength=len(layers)).tolist()
    rows = torch.split(h.index_select(1, order), counts, 1)
    out = [linear(part, layer) for part, layer in zip(rows, layers, strict=True) if part.shape[1]]
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return torch.cat(out, 1).index_select(1, back)


def parent_terms(children: Tensor, pairs: Tensor, legal: Legal, is_sink: Tensor, n_variables: int) -> Tensor:
    """r_j(Pa) - log #sinks(after) for each row's own variable j and all parent sets of `legal`.

    Args:
        children: (N, B, V + R + 1), those of j. pairs: (N, B, V(V-1)/2). is_sink: (B, V) bool.

    Returns:
        (M, N, B): rows last, so that what is picked and added lies side by side.
    """
    n, b, _ = children.shape
    v, subsets = n_variables, legal.subsets
    members = legal.members
    sink = is_sink.gather(1, members).T.float()  # (s, B)
    edge = (
        children[:, :, :v].gather(2, members.expand(n, -1, -1)).permute(2, 0, 1) * sink[:, None]
    )  # (s, N, B)
    first, second = subsets.pair_index
    low, high = members[:, first], members[:, second]  # (B, P), low < high
    number = low * (2 * v - low - 1) // 2 + high - low - 1
    both = (sink[first] * sink[second])[:, None]
    pair = pairs.gather(2, number.expand(n, -1, -1)).permute(2, 0, 1) * both  # (P, N, B)
    after = is_sink.sum(1) + 1 - torch.arange(children.shape[2] - v)[:, None]  # (R + 1, B), some impossible
    counted = children[:, :, v:].permute(2, 0, 1) - after.clamp_min(1).float().log()[:, None]
    parts, covered = [], []
    for r, positions in enumerate(subsets.members):
        parts.append(_sums(edge, pair, first, second, positions, subsets.pair_number[r]))
        covered.append(sink[positions].sum(1) if r else sink.new_zeros(1, b))
    return torch.cat(parts) + counted.gather(0, torch.cat(covered).long()[:, None].expand(-1, n, -1))


def _sums(
    edge: Tensor, pair: Tensor, first: Tensor, second: Tensor, positions: Tensor, numbers: Tensor
) -> Tensor:
    """Sum over the members of each set, and over their pairs: positions (C, r), pair numbers (r(r-1)/2, C) -> (C, N, B)."""
    r = positions.shape[1]
    if r == 0:
        return edge.new_zeros(1, *edge.shape[1:])
    if r == 1:
        return edge
    each = pair + (edge[first] + edge[second]) / (r - 1)  # a member is in r - 1 of the pairs
    if r == 2:
        return each
    total = each.index_select(0, numbers[0])
    for number in numbers[1:]:
        total = total + each.index_select(0, number)
    return total

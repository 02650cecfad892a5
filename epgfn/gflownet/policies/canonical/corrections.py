"""What is learned of flows: by how many nats the flow of a moment is more than that of going on in order, t
taking all of K.

With t the first place that is not in, E the late variables and K the sinks among them,

    g(t, E, K) = none_t + sum over E of one_te + sum over K of cost_tk + pairs of E, of E and K, and of K + a network of all of it,

with another `cost` where K is one variable alone.
The network is asked only of choices that are within `CUT` nats of the best without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.policies.canonical.cells import Cells, next_in_order
from epgfn.gflownet.policies.spec import TensorSpec

CUT: Final = 16.0
MOST: Final = 12.0
PAIRS: Final = ("late_late", "late_sink", "sink_sink")


class Corrections(NamedTuple):
    """Tensors of one model, float32, by places: `none` (V + 1,) by t, `one`, `cost` and `costs` (V + 1, V), `late_late`, `late_sink` and
    `sink_sink` (V, V); of the network, whose hidden layers have H and H' units, `by_t` (V + 1, H), `by_late` and `by_sink` (V, H), `second`
    (H, H'), `bias` (H',) and `out` (H',)."""

    none: Tensor
    one: Tensor
    cost: Tensor
    costs: Tensor
    late_late: Tensor
    late_sink: Tensor
    sink_sink: Tensor
    by_t: Tensor
    by_late: Tensor
    by_sink: Tensor
    second: Tensor
    bias: Tensor
    out: Tensor

    def of(self, t: Tensor, late: Tensor, sinks: Tensor) -> Tensor:
        """(M,) of t (M,), late variables and sinks (M, V) float32."""
        return bounded(self._linear(t, late, sinks) + self._pairs(late, sinks) + self._net(t, late, sinks))

    def _linear(self, t: Tensor, late: Tensor, sinks: Tensor) -> Tensor:
        cost = torch.where(sinks.sum(1, keepdim=True) == 1, self.cost[t], self.costs[t])
        return self.none[t] + (late * self.one[t]).sum(1) + (sinks * cost).sum(1)

    def _pairs(self, late: Tensor, sinks: Tensor) -> Tensor:
        of_late, of_sinks = late @ self.late_late + sinks @ self.late_sink.T, sinks @ self.sink_sink
        return (of_late * late).sum(1) + (of_sinks * sinks).sum(1)

    def _net(self, t: Tensor, late: Tensor, sinks: Tensor) -> Tensor:
        hidden = torch.relu(self.by_t[t] + late @ self.by_late + sinks @ self.by_sink)
        return torch.relu(hidden @ self.second + self.bias) @ self.out

    def weighed(self, cells: Cells) -> tuple[Tensor, Tensor]:
        """Log weights of all choices, corrected: (S, V) out of order and (B,) in order, float64."""
        walk, of = cells.walk, cells.row
        place = torch.arange(walk.members.shape[1])
        now = walk.late()
        t, late = next_in_order(walk.members, walk.t)
        in_order = cells.in_order + self.of(t, late.float(), torch.zeros_like(late).float())
        late = now.float()
        left = (walk.sinks[of] & ~cells.covered).float()  # (S, V)
        pairs = late @ self.late_late
        twice = late @ self.late_late.T + pairs + self.late_late.diagonal() + self.late_sink.diagonal()
        own = self.none[walk.t] + (late * self.one[walk.t]).sum(1) + (pairs * late).sum(1)  # (B,)
        with_j = self.one[walk.t] + twice + late @ self.late_sink + self.sink_sink.diagonal()
        sunk = left @ self.late_sink.T  # (S, V)
        of_sinks = left @ self.sink_sink
        costs = self.costs[walk.t][of]
        of_j = torch.where(left.any(1, keepdim=True), costs, self.cost[walk.t][of])
        rest = ((costs + of_sinks) * left + sunk * late[of]).sum(1)
        more = (own[of] + rest)[:, None] + with_j[of] + of_j + sunk + of_sinks + left @ self.sink_sink.T
        others = cells.base + bounded(more)
        best = row_max(others.amax(1), of, in_order)
        near, j = (others >= (best - CUT)[of][:, None]).nonzero(as_tuple=True)
        row = of[near]
        one = torch.nn.functional.one_hot(j, len(place)).float()
        of_net = self._net(walk.t[row], late[row] + one, left[near] + one)
        return others.index_put((near, j), cells.base[near, j] + bounded(more[near, j] + of_net)), in_order


def bounded(more: Tensor) -> Tensor:
    """What was learned, up to `MOST` nats: what was never met is not thought better than it is by more than that;
    nor worse than by 4096, where float32 still adds up probabilities."""
    return torch.minimum(more, MOST * torch.tanh(more.clamp_min(0) / MOST)).clamp_min(-4096.0)


def row_max(of_segment: Tensor, row: Tensor, of_row: Tensor) -> Tensor:
    """(B,) the largest of each row's (S,) segments and of its (B,) own."""
    return of_row.detach().clone().scatter_reduce_(0, row, of_segment.detach(), "amax")


def log_flow(cells: Cells, others: Tensor, in_order: Tensor) -> Tensor:
    """(B,) log of the sum of all weights, (S, V) and (B,); -inf where no way leads to."""
    best = row_max(others.amax(1), cells.row, in_order)
    best = torch.where(best == -torch.inf, 0.0, best)
    each = (others - best[cells.row][:, None]).exp().sum(1)
    return (in_order - best).exp().index_add(0, cells.row, each).log() + best


def spec(v: int, hidden: int) -> dict[str, TensorSpec]:
    h, second = hidden // 4, hidden // 8
    shapes: dict[str, tuple[int, ...]] = {
        "none": (v + 1,),
        "one": (v + 1, v),
        "cost": (v + 1, v),
        "costs": (v + 1, v),
        **dict.fromkeys(PAIRS, (v, v)),
        "by_t": (v + 1, h),
        "by_late": (v, h),
        "by_sink": (v, h),
        "second": (h, second),
        "bias": (second,),
        "out": (second,),
    }
    return {name: TensorSpec(shape, "float32") for name, shape in shapes.items()}


def zero(v: int, hidden: int, generator: torch.Generator) -> dict[str, Tensor]:
    """A network that says nothing yet."""
    found = {name: torch.zeros(entry.shape) for name, entry in spec(v, hidden).items()}
    for name in ("by_t", "by_late", "by_sink"):
        found[name] = 0.5 * torch.randn(found[name].shape, generator=generator)
    h = found["second"].shape[0]
    found["second"] = torch.randn(found["second"].shape, generator=generator) * (2 / h) ** 0.5
    return found


def corrections_of(tensors: Mapping[str, Tensor]) -> Corrections:
    return Corrections(*(tensors[name] for name in Corrections._fields))

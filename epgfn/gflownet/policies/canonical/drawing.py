"""Parents, given what they hold of the variables out of order: exactly as the score table says, one by one from the last of them on.

With D given, the last of the other parents is u with weight W_u,j(D + u), and none with weight exp phi_j(D).
"""

from __future__ import annotations

import torch
from torch import Tensor

from epgfn.gflownet.policies.canonical.cells import Cells
from epgfn.gflownet.policies.canonical.set_sums import SetSums
from epgfn.gflownet.policies.canonical.walk import Walk


def with_earlier_parents(
    sums: SetSums, t: Tensor, child: Tensor, late: Tensor, generator: torch.Generator
) -> Tensor:
    """(B, V) bool parent sets, by places: those out of order, `late` (B, V) bool, and others before (B,) t for each of (B,) children."""
    v, most = sums.n_variables, sums.max_parents
    parents, top, size = late.clone(), t.clone(), late.sum(1)
    place = torch.arange(v)
    active = torch.arange(len(t))
    while True:
        active = active[(size[active] < most) & (top[active] > 0)]
        if not len(active):
            return parents
        for number_held in sorted(set(size[active].tolist())):
            rows = active[size[active] == number_held]
            held = parents[rows].to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :number_held]
            one = torch.cat(
                [place[None, :, None].expand(len(rows), v, 1), held[:, None].expand(-1, v, -1)], 2
            )
            weight = sums.at(place, child[rows, None], sums.number(one))  # (b, V): W_u(D + u)
            weight = weight.masked_fill(place >= top[rows, None], -torch.inf)
            none = sums.at(torch.zeros((), dtype=torch.int64), child[rows], sums.number(held))
            drawn = draw(torch.cat([none[:, None], weight], 1), generator)
            some = drawn > 0
            parents[rows[some], drawn[some] - 1] = True
            top[rows] = torch.where(some, drawn - 1, 0)
            size[rows] += some.long()


def drawn_within(
    sums: SetSums,
    walk: Walk,
    cells: Cells,
    segment: Tensor,
    child: Tensor,
    generator: torch.Generator,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Late parents (B, V) bool of each row's child, which hold of the sinks what its segment says; the log weight of those (B,), the log
    probability (B,) with which they were drawn, and (B,) log of the sum of all such weights."""
    entries, b = cells.entries, len(walk.members)
    keep = entries.segment == segment[entries.row]
    row, number = entries.row[keep], entries.number[keep]
    weight = sums.at(walk.t[row], child[row], number)
    best = torch.full((b,), -torch.inf, dtype=torch.float64).scatter_reduce_(0, row, weight, "amax")
    total = torch.zeros(b, dtype=torch.float64).index_add_(0, row, (weight - best[row]).exp())
    share = ((weight - best[row]) / temperature).exp()
    of_all = torch.zeros(b, dtype=torch.float64).index_add_(0, row, share)
    below = (share / of_all[row]).cumsum(0)
    first = torch.searchsorted(row, torch.arange(b))
    last = torch.searchsorted(row, torch.arange(b), right=True) - 1
    start = below[first] - share[first] / of_all
    level = torch.rand(b, generator=generator, dtype=torch.float64)
    at = torch.searchsorted(below, start + level, right=True).clamp(first, last)
    at = torch.where(share[at] > 0, at, first)
    late = sums.members_of(number[at])
    return late, weight[at], share[at].log() - of_all.log(), total.log() + best


def draw(log_weight: Tensor, generator: torch.Generator) -> Tensor:
    """(B,) columns of (B, L) float64, by inversion."""
    below = (log_weight - log_weight.amax(1, keepdim=True)).exp().cumsum(1)
    level = torch.rand(len(below), 1, generator=generator, dtype=torch.float64) * below[:, -1:]
    return (below <= level).sum(1).clamp_max(below.shape[1] - 1)

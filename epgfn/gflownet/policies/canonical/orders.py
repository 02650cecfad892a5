"""A good reference order: one in which the graphs that matter are nearly in order."""

from __future__ import annotations

import torch
from torch import Tensor


def local_order(edges: Tensor, rank: Tensor) -> Tensor:
    """(V,) int64 places, from `rank` on by the best move of one variable to another place, step by step, such that edges that are turned
    against the order are few and short: the sum over pairs of P(b -> a) times by how much b comes after a. That is about how many
    variables are out of order, and for how long. `edges` (V, V) [b, a] = P(b -> a)."""
    v = len(rank)
    edges, rank = edges.float(), rank.float()
    one, places = torch.eye(v, dtype=torch.bool), torch.arange(v + 1) - 0.5

    def cost(ranks: Tensor) -> Tensor:
        late = (ranks[:, :, None] - ranks[:, None, :]).clamp_min(0)
        return torch.einsum("mba,ba->m", late, edges)

    best = float(cost(rank[None]))
    for _ in range(20 * v):
        moved = torch.where(one[:, None], places[None, :, None], rank).flatten(0, 1)
        moved = moved.argsort(1).argsort(1).float()
        found = torch.cat([cost(part) for part in torch.split(moved, 256)])
        if float(found.min()) > best - 1e-6:
            break
        best, rank = float(found.min()), moved[found.argmin()]
    return rank.long()

"""Orders of a score table's variables in which the best graph is good: chains over orders that cool down.

The score of an order is the sum over variables of the best parents among those before it. A move takes one variable out and puts it back,
at each place with probability in proportion to exp(score / temperature), as Kuipers & Moffa (JASA 2017) relocate it. Only parent sets
that no subset of theirs beats matter, a small part of the table.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.spaces.parent_sets import parent_masks, parent_matrix

SEARCHERS: Final = 8
SWEEPS: Final = 16
HOTTEST: Final = 60.0
"""Nats; the last sweep is at temperature one."""


class _Families(NamedTuple):
    """Of each variable the sets that matter, best first: `masks` (V, n) int64, `scores` (V, n), -inf where there are fewer."""

    masks: Tensor
    scores: Tensor


@torch.no_grad()
def searched(table: Tensor, max_parents: int, generator: torch.Generator) -> Tensor:
    """(C, V) int64 orders, the best first: the variables in order, as they ended. `table` (V, K) in nats, -inf where a variable would be
    its own parent."""
    v = len(table)
    families = _families(table, max_parents)
    order = torch.rand(SEARCHERS, v, generator=generator).argsort(1)
    score = torch.zeros(SEARCHERS, dtype=torch.float64)
    for number in range(SWEEPS):
        temperature = HOTTEST ** (1 - number / (SWEEPS - 1))
        for j in torch.randperm(v, generator=generator).tolist():
            order, score = _moved(families, order, j, temperature, generator)
    return order[score.argsort(descending=True)]


def _moved(
    families: _Families, order: Tensor, j: int, temperature: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """With variable j put anew, and (C,) scores."""
    c, v = order.shape
    rest = order[order != j].view(c, v - 1)
    bits = 1 << rest
    before = bits.cumsum(1) - bits  # (C, V - 1)
    without = _best(families, rest, before)
    with_j = _best(families, rest, before | (1 << j))
    every = torch.cat([before, bits.sum(1, keepdim=True)], 1)  # (C, V)
    own = _best(families, torch.full((c, v), j), every)
    zero = torch.zeros(c, 1, dtype=torch.float64)
    ahead = torch.cat([zero, without.cumsum(1)], 1)
    behind = torch.cat([with_j.flip(1).cumsum(1).flip(1), zero], 1)
    total = ahead + behind + own
    share = ((total - total.amax(1, keepdim=True)) / temperature).exp()
    place = torch.multinomial(share, 1, generator=generator)
    at = torch.arange(v)
    source = at - (at > place).long()
    new = torch.where(at == place, j, rest.gather(1, source.clamp_max(v - 2)))
    return new, total.gather(1, place)[:, 0]


def _best(families: _Families, child: Tensor, before: Tensor) -> Tensor:
    """(C, n) of children with these masks before them: the first set that lies within."""
    child, outside = child.flatten(), ~before.flatten()
    found, rest = torch.zeros(len(child), dtype=torch.float64), torch.arange(len(child))
    start = 0
    for size in (32, 256, families.masks.shape[1]):
        sets = families.masks[child[rest], start : start + size]
        fits = (sets & outside[rest, None]) == 0
        first = fits.to(torch.uint8).argmax(1)
        some = fits.gather(1, first[:, None])[:, 0]
        found[rest[some]] = families.scores[child[rest[some]], start + first[some]]
        rest, start = rest[~some], start + size
        if not len(rest):
            break
    return found.view(before.shape)


def _families(table: Tensor, max_parents: int) -> _Families:
    v = len(table)
    masks = parent_masks(v, max_parents)
    held = parent_matrix(masks, v)
    best = table.double().clone()
    matters = torch.isfinite(best)
    size = held.sum(1)
    of = {int(mask): number for number, mask in enumerate(masks.tolist())}
    for r in range(1, max_parents + 1):
        rows = (size == r).nonzero()[:, 0]
        members = held[rows].to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :r]
        fewer = masks[rows][:, None] & ~(1 << members)  # (n, r)
        at = torch.tensor([of[mask] for mask in fewer.flatten().tolist()], dtype=torch.int64).view(-1, r)
        below = best[:, at].amax(2)
        matters[:, rows] &= best[:, rows] > below
        best[:, rows] = torch.maximum(best[:, rows], below)
    n = int(matters.sum(1).max())
    scores, place = table.double().masked_fill(~matters, -torch.inf).topk(n, 1)
    return _Families(masks[place], scores)

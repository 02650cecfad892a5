"""What may be done where walks stand, weighed: which variable comes next, and which of the sinks before it in order it covers.

In order      t is added; its parents hold all of K.
Out of order  j beyond t is added; its parents hold all of K beyond j and, of the sinks between t and j, a set C. K becomes those it
              does not cover, and j.

Which other parents either takes is as the score table says, so a choice weighs as much as all sets of parents that make it, q(j, C), times
the flow of what is reached, which is guessed: that of going on in order, nothing to be covered, and what `Corrections` add to it.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Final, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.policies.canonical.moments import words
from epgfn.gflownet.policies.canonical.tables import Tables
from epgfn.gflownet.policies.canonical.walk import Walk

SIZES: Final = (3, 6, 9, 12, 16, 24)
"""Late variables up to which rows are worked out together, so that a row with many costs no other."""
PRINT_BITS: Final = 46
PRINT: Final = (1 << PRINT_BITS) - 1
"""Which sinks are covered goes by as many bits of a fingerprint."""
CROWD: Final = 5.0
FREE, ROOM = 10, 4
"""Nats more that it costs to have sinks covered by others than t, for each late variable beyond ten, or a quarter of all: fewer are left
to do it."""
LEAST: Final = -1e5
"""Nats that a choice weighs at least, however little it does."""


class Entries(NamedTuple):
    """The sets D of late variables with at most R members, (L,) each: `row`, `number` of the set, and `segment`, which says row and
    pattern; segments are ascending, and so are rows."""

    row: Tensor
    number: Tensor
    segment: Tensor


class Cells(NamedTuple):
    """Of B walks. A segment is one of S pairs of a row, `row` (S,), and which sinks are covered, `covered` (S, V) bool, by ascending `key`
    (S,). `log_q` (S, V) of every variable in nats, `base` (S, V) log weights out of order, and `in_order` (B,), -inf where not allowed;
    `whole` (B,) the segment of all sinks, -1 if too many."""

    walk: Walk
    entries: Entries
    row: Tensor
    key: Tensor
    covered: Tensor
    log_q: Tensor
    base: Tensor
    in_order: Tensor
    whole: Tensor


class _Subsets(NamedTuple):
    """All subsets of m positions with at most R members, n of them: `members[r]` (n_r, r), and one more than the `last` (n,)."""

    members: list[Tensor]
    last: Tensor


@cache
def _subsets(m: int, most: int, device: torch.device) -> _Subsets:
    """On PyTorch's default device, which `device` names."""
    members = []
    for r in range(min(m, most) + 1):
        found = list(itertools.combinations(range(m), r))
        members.append(torch.tensor(found, dtype=torch.int64).view(len(found), r))
    last = torch.cat([s[:, -1] + 1 if s.shape[1] else torch.zeros(1, dtype=torch.int64) for s in members])
    return _Subsets(members, last)


def keys_of(walk: Walk, row: Tensor, covered: Tensor) -> Tensor:
    """(M,) of segments: rows (M,), and what of their sinks (M, V) bool sets hold."""
    word = words(covered.shape[1]) & PRINT
    held = covered & walk.sinks[row]
    return (row << PRINT_BITS) + ((held * word).sum(1) & PRINT)


def _entries(walk: Walk) -> tuple[Tensor, Tensor, Tensor]:
    """(L,) each: rows, sets of at most R late variables, and keys, by ascending key."""
    sums, (_, v) = walk.tables.sums, walk.members.shape
    word = words(v) & PRINT
    is_late = walk.late()
    n_late, least = is_late.sum(1), -1
    rows_of, numbers, keys = [], [], []
    for most in (*SIZES, v):
        rows = ((n_late > least) & (n_late <= most)).nonzero()[:, 0]
        least = most
        if not len(rows):
            continue
        m = int(n_late[rows].max())
        late = is_late[rows].to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :m]
        of_sink = torch.where(walk.sinks[rows].gather(1, late), word[late], 0)
        subsets = _subsets(m, sums.max_parents, torch.get_default_device())
        row, column = (subsets.last <= n_late[rows, None]).nonzero(as_tuple=True)
        every: list[tuple[Tensor, Tensor]] = []
        for r, members in enumerate(subsets.members):
            one = sums.offsets[r].expand(len(rows), len(members))
            words_of = torch.zeros_like(one)
            for i in range(r):
                one = one - sums.terms[r, i][late].index_select(1, members[:, i])
                words_of = words_of + of_sink.index_select(1, members[:, i])
            every.append((one, words_of & PRINT))
        number, key = (torch.cat(part, 1)[row, column] for part in zip(*every, strict=True))
        rows_of.append(rows[row])
        numbers.append(number)
        keys.append((rows[row] << PRINT_BITS) + key)
    ascending, order = torch.cat(keys).sort(stable=True)
    return torch.cat(rows_of)[order], torch.cat(numbers)[order], ascending


def cells_of(walk: Walk) -> Cells:
    tables, sums = walk.tables, walk.tables.sums
    b, v = walk.members.shape
    most, place = sums.max_parents, torch.arange(v)
    row, number, key = _entries(walk)
    keys, segment, count = torch.unique_consecutive(key, return_inverse=True, return_counts=True)
    first = count.cumsum(0) - count
    of = row[first]
    t = walk.t.clamp_max(v - 1)
    log_q = tables.log_q(t[row], number, segment, t[of]).clamp_min(LEAST)

    left = ~walk.members
    covered = sums.held[number[first]] & walk.sinks[of]
    waiting = walk.sinks[of] & ~covered
    last = (waiting * (place + 1)).amax(1)  # one beyond the last sink that is not covered
    allowed = left[of] & (place >= torch.maximum(last, walk.t[of] + 1)[:, None])
    many = (walk.sinks.sum(1)[of] >= most).nonzero()[:, 0]
    if len(many):
        allowed[many] &= _feasible(walk, of[many], covered[many], most)

    log_own = tables.of.log(tables.of.plus(walk.own[:, :, None], walk.gain))  # (B, i, j)
    own = tables.of.log(walk.own)
    free = (log_own * left[:, :, None]).sum(1) - own
    then = (own * left).sum(1)
    all_of_them = keys_of(walk, torch.arange(b), walk.sinks)
    whole = torch.searchsorted(keys, all_of_them).clamp_max(len(keys) - 1)
    whole = torch.where((keys[whole] == all_of_them) & (walk.sinks.sum(1) <= most), whole, -1)
    in_order = log_q[whole, t] + then - own.gather(1, t[:, None])[:, 0]
    in_order = torch.where((whole >= 0) & (walk.t < v), in_order, -torch.inf)
    taking = _taking(walk, of, waiting) - log_own[of, t[of]]
    late = walk.late()
    crowd = CROWD * (late.sum(1) - max(FREE, v // ROOM)).clamp_min(0)
    covering = torch.maximum(taking, _covering(tables, t[of], waiting) - crowd[of][:, None])
    alone = (tables.none[t] + (tables.one_late[t] * late).sum(1))[:, None] + tables.one_late[
        t
    ]  # (B, V) with j late too
    base = torch.where(allowed, log_q + (free + alone)[of] + covering, -torch.inf)
    nxt, then_late = next_in_order(walk.members, walk.t)
    in_order = in_order + tables.none[nxt] + (tables.one_late[nxt] * then_late).sum(1)
    return Cells(walk, Entries(row, number, segment), of, keys, covered, log_q, base, in_order, whole)


def next_in_order(members: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Where one is after t is added, nothing left to be covered: the next t (B,), and late variables (B, V) bool."""
    v = members.shape[1]
    place = torch.arange(v)
    nxt = torch.where(~members & (place > t[:, None]), place, v).amin(1)
    return nxt, members & (place > nxt[:, None])


def _covering(tables: Tables, t: Tensor, waiting: Tensor) -> Tensor:
    """(S, V) what it costs that j and what is `waiting` have to be covered, from what one and two of them cost."""
    single = tables.single[t]  # (S, V)
    found = single.clone()
    rows = waiting.any(1).nonzero()[:, 0]
    if len(rows):
        excess = tables.excess[t[rows]]  # (s, V, V)
        some = waiting[rows].double()
        with_others = torch.einsum("su,suj->sj", some, excess)
        of_them = (with_others * some).sum(1, keepdim=True) / 2
        found[rows] += with_others + of_them + (single[rows] * some).sum(1, keepdim=True)
    return found.clamp_min(LEAST)


def _taking(walk: Walk, of: Tensor, waiting: Tensor) -> Tensor:
    """(S, V) log of the weight of all parents that t may have if it takes j and what is `waiting` (S, V) bool, as `Walk.gain` has it."""
    tables, v = walk.tables, waiting.shape[1]
    keep = tables.of
    t = walk.t.clamp_max(v - 1)[of]
    weight = torch.full((len(of), v), keep.nothing, dtype=torch.float64)
    n = waiting.sum(1)
    rows = (n == 0).nonzero()[:, 0]
    weight[rows] = walk.gain[of[rows], t[rows]]
    if tables.sums.max_parents < 2:
        return keep.log(weight)
    rows = (n == 1).nonzero()[:, 0]
    u = waiting[rows].to(torch.uint8).argmax(1)
    weight[rows] = tables.two.view(-1, v)[u * v + t[rows]]
    if tables.three is None:
        return keep.log(weight)
    by_pair = tables.three.view(-1, v)
    row, other = walk.late()[of[rows]].nonzero(as_tuple=True)
    more = keep.bags(by_pair, (u[row] * v + other) * v + t[rows[row]], row, len(rows))
    weight[rows] = keep.plus(weight[rows], more)
    rows = (n == 2).nonzero()[:, 0]
    two = waiting[rows].to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :2]
    weight[rows] = by_pair[(two[:, 0] * v + two[:, 1]) * v + t[rows]]
    return keep.log(weight)


def _feasible(walk: Walk, of: Tensor, covered: Tensor, most: int) -> Tensor:
    """(S, V) bool: after j covers a pattern, all can still be added. A variable u with n sinks beyond it, and h variables beyond it
    left, can be added at some time exactly if n <= R + (R - 1) h: each of those, from the last on, covers R and is one more."""
    v = covered.shape[1]
    place = torch.arange(v)
    sinks, left = (walk.sinks[of] & ~covered).long(), ~walk.members[of]
    beyond = sinks.flip(1).cumsum(1).flip(1) - sinks  # (S, u)
    free = left.long().flip(1).cumsum(1).flip(1) - left.long()
    after = (place[:, None] > place).long()  # (j, u): j is beyond u
    n, h = beyond[:, None] + after, free[:, None] - after
    concerned = left[:, None] & (place != place[:, None])
    fits: Tensor = (n <= most + (most - 1) * h) | ~concerned
    return fits.all(2)

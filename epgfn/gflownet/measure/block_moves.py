"""A move of Markov chains over DAGs with a modular score that draws the parents of several variables anew together, compiled.

Given everybody else's parents, those of a block of k variables are drawn from their joint posterior (Gibbs): Goudie & Mukherjee, JMLR 17
(2016), "A Gibbs sampler for learning DAGs". What makes that cheap is that little of a variable's set matters to the others. Let D(b) be b
and what is below it where nobody in the block has parents. A set puts its owner after those b of which it holds somebody in D(b), its
*class*, and there is a cycle if and only if these k relations have one. So the sets of a variable are added up by class, 2^(k-1) of them;
an acyclic choice of classes is drawn by its layers (those after nobody, then those after somebody in the layer before theirs, and so on:
4^k steps); and then a set of each one's class.

Moves of single edges meet a wall where a path of variables runs the other way round with other parents beside it. Then how many of a
population's chains are on which side is left to chance, and stays so. This goes through, for paths of up to k variables.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from epgfn.base.compiled import compiled
from epgfn.gflownet.measure.graph_moves import (
    BLOCK,
    DEEP,
    Bytes,
    Floats,
    Ints,
    Ranks,
    Words,
    descendants,
    replace,
)

SIZE: Final = 5
"""Variables in a block."""
CLASSES: Final = 1 << SIZE
LEAST = -14.0
"""Nats below a variable's best set of those after nobody in the block, which all other choices allow: less is left out."""


@compiled
def class_of(sets: Words, place: int, reach: Words, k: int) -> int:
    """The block's variables that the set comes after, as bits; `reach` (k, W) are their D(b)."""
    found = 0
    for b in range(k):
        for w in range(reach.shape[1]):
            if sets[place, w] & reach[b, w]:
                found |= 1 << b
                break
    return found


@compiled
def by_class(
    sets: Words,
    logs: Floats,
    weights: Floats,
    tail: Floats,
    reach: Words,
    k: int,
    own: int,
    classes: Bytes,
    first: Floats,
    total: Floats,
) -> int:
    """The sets of the block's variable number `own` by class: `total` (2^k,) is what each adds up to, times e^-`first`. `classes` (K,) are
    those of the sets that were looked at, and how many these are is returned."""
    first[:], total[:] = -np.inf, 0.0
    for place in range(len(logs)):
        if logs[place] == -np.inf:
            return place
        which = class_of(sets, place, reach, k)
        classes[place] = which
        if not which >> own & 1:
            if first[which] == -np.inf:
                first[which] = 0.0 if logs[place] > -DEEP else logs[place]
            total[which] += weights[place] if first[which] == 0.0 else math.exp(logs[place] - first[which])
        is_time = place % BLOCK == 0 and total[0] > 0.0
        if is_time and tail[place + 1] - first[0] - math.log(total[0]) < LEAST:
            return place + 1
    return len(logs)


@compiled
def meeting(weight: Floats, within: int, scaled: Floats, found: Floats) -> float:
    """Into `found` (2^k,) for each part of `within` what those classes within `within` add up to that meet it, times e^-(what is returned);
    `weight` (2^k,) nats."""
    best = -np.inf
    u = within
    while u:
        best = max(best, weight[u])
        u = (u - 1) & within
    u = within
    while u:
        scaled[u] = math.exp(weight[u] - best) if best > -np.inf else 0.0
        u = (u - 1) & within
    part = within
    while part:
        total, u = 0.0, within
        while u:
            if u & part:
                total += scaled[u]
            u = (u - 1) & within
        found[part] = total
        part = (part - 1) & within
    return best


@compiled
def one_of(chances: Floats, random: np.random.Generator) -> int:
    """In proportion to `chances`; -1 where there is none."""
    total = 0.0
    for chance in chances:
        total += chance
    level, last = random.random() * total, -1
    for i in range(len(chances)):
        if chances[i] > 0.0:
            last = i
            level -= chances[i]
            if level < 0.0:
                return i
    return last


@compiled
def layers(
    weight: Floats,
    k: int,
    random: np.random.Generator,
    hit: Floats,
    scale: Floats,
    ending: Floats,
    chosen: Ints,
) -> bool:
    """Into `chosen` (k,) a class for each, acyclic, in proportion to e^`weight` (k, 2^k); False where that has no probability.

    `hit` (k, 2^k, 2^k), `scale` (k, 2^k) and `ending` (2^k, 2^k), of variables placed and the last layer of these, are overwritten.
    """
    full = (1 << k) - 1
    scaled, chances, height = np.empty(full + 1), np.empty(full + 1), np.full(full + 1, -np.inf)
    for b in range(k):
        for within in range(1, full + 1):
            if not within >> b & 1:
                scale[b, within] = meeting(weight[b], within, scaled, hit[b, within])
    for placed in range(1, full + 1):
        last = placed
        while last:
            rest = placed & ~last
            log = height[rest] if rest else 0.0
            total = 0.0 if rest else 1.0
            for b in range(k):
                if last >> b & 1:
                    log += scale[b, rest] if rest else weight[b, 0]
            before = rest
            while before and log > -np.inf:
                term = ending[rest, before]
                for b in range(k):
                    if last >> b & 1:
                        term *= hit[b, rest, before]
                total += term
                before = (before - 1) & rest
            ending[placed, last] = log + math.log(total) if total > 0.0 and log > -np.inf else -np.inf
            height[placed] = max(height[placed], ending[placed, last])
            last = (last - 1) & placed
        last = placed
        while last:
            ending[placed, last] = (
                math.exp(ending[placed, last] - height[placed]) if height[placed] > -np.inf else 0.0
            )
            last = (last - 1) & placed

    placed, chances[0] = full, 0.0
    for last in range(1, full + 1):
        chances[last] = ending[full, last]
    last = one_of(chances, random)
    while last > 0:
        rest, before = placed & ~last, 0
        if rest:
            chances[:] = 0.0
            before = rest
            while before:
                chances[before] = ending[rest, before]
                for b in range(k):
                    if last >> b & 1:
                        chances[before] *= hit[b, rest, before]
                before = (before - 1) & rest
            before = one_of(chances, random)
        for b in range(k):
            if last >> b & 1:
                chosen[b] = 0
                if rest:
                    chances[:] = 0.0
                    u = rest
                    while u:
                        if u & before:
                            chances[u] = math.exp(weight[b, u] - scale[b, rest])
                        u = (u - 1) & rest
                    chosen[b] = one_of(chances, random)
        if not rest:
            return True
        placed, last = rest, before
    return False


@compiled
def redraw(
    above: Words,
    below: Words,
    rank: Ranks,
    sets: Words,
    logs: Floats,
    weights: Floats,
    tail: Floats,
    near: Ranks,
    moves: int,
    random: np.random.Generator,
) -> None:
    """The parents of so many blocks in one graph: of a variable at random and, one by one, others that are `near` (V, N) one of them,
    whatever the graph."""
    v, words = above.shape
    block, ends, chosen = np.empty(SIZE, np.int64), np.empty(SIZE, np.int64), np.empty(SIZE, np.int64)
    reach, scratch, none = (
        np.empty((SIZE, words), np.uint64),
        np.empty(words, np.uint64),
        np.zeros(words, np.uint64),
    )
    was = np.empty((SIZE, words), np.uint64)
    classes = np.empty((SIZE, sets.shape[1]), np.uint8)
    first, total, weight = np.empty((SIZE, CLASSES)), np.empty((SIZE, CLASSES)), np.empty((SIZE, CLASSES))
    hit, scale, ending = (
        np.empty((SIZE, CLASSES, CLASSES)),
        np.empty((SIZE, CLASSES)),
        np.empty((CLASSES, CLASSES)),
    )
    for _ in range(moves):
        k = gathered(near, v, block, random)
        for b in range(k):
            was[b] = above[block[b]]
            replace(above, below, block[b], none)
        for b in range(k):
            descendants(below, block[b], reach[b], scratch)
        for b in range(k):
            j = block[b]
            ends[b] = by_class(
                sets[j],
                logs[j],
                weights[j],
                tail[j],
                reach,
                k,
                b,
                classes[b],
                first[b, : 1 << k],
                total[b, : 1 << k],
            )
            for u in range(1 << k):
                weight[b, u] = first[b, u] + math.log(total[b, u]) if total[b, u] > 0.0 else -np.inf
        possible = layers(weight[:, : 1 << k], k, random, hit, scale, ending, chosen)
        for b in range(k):
            j = block[b]
            if not possible:
                replace(above, below, j, was[b])
                continue
            level = random.random() * total[b, chosen[b]]
            for place in range(ends[b]):
                if classes[b, place] == chosen[b]:
                    rank[j] = place
                    start = first[b, chosen[b]]
                    level -= weights[j, place] if start == 0.0 else math.exp(logs[j, place] - start)
                    if level < 0.0:
                        break
            replace(above, below, j, sets[j, rank[j]])


@compiled
def gathered(near: Ranks, v: int, block: Ints, random: np.random.Generator) -> int:
    """A block, and how many are in it: fewer than it may hold where few are near each other."""
    block[0], k = int(random.random() * v), 1
    for _ in range(4 * SIZE):
        one = near[block[int(random.random() * k)], int(random.random() * near.shape[1])]
        is_new = True
        for b in range(k):
            if block[b] == one:
                is_new = False
        if is_new:
            block[k] = one
            k += 1
            if k == SIZE:
                break
    return k


@compiled
def redraw_all(
    above: Words,
    below: Words,
    rank: Ranks,
    sets: Words,
    logs: Floats,
    weights: Floats,
    tail: Floats,
    near: Ranks,
    moves: int,
    random: np.random.Generator,
) -> None:
    """`redraw` in each of (C, ...) graphs."""
    for c in range(above.shape[0]):
        redraw(above[c], below[c], rank[c], sets, logs, weights, tail, near, moves, random)

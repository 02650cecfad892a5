"""Moves of Markov chains over DAGs with a modular score, compiled. Each leaves p(G) = exp(sum_j phi_j(Pa_j)) / Z as it is:

    parents   a variable's whole parent set is drawn anew from p(Pa_j | all else): all sets without descendants of j (Gibbs);
    reversal  a random edge i -> j is turned round, with new parents for i (j among them) and for j drawn in proportion to their
              scores, and kept by Metropolis-Hastings: Grzegorczyk & Husmeier, Machine Learning 71 (2008), eq. 13 to 17.

Together they reach every DAG within the fan-in, and parents alone do: each variable's parents can be taken away, but for those that all of
its possible sets hold, and then put together anew. That holds too where sets are impossible, as long as what is possible to a variable is
all that lies between a smallest and a largest set. A graph is held as sets of 64-bit words: `above` (V, W) each variable's parents, `below`
(V, W) its children, and `rank` (V,) the place of its parents in its own list of sets.

A variable's sets are listed by score, the best first, so that few are looked at: what is left of a list is bounded by its sum, `tail`.
A draw of parents looks on as long as that could matter, and is exact. Sums, and what a turned edge draws from, leave out less than e^-9 of
themselves; an edge whose parents are not among that is not turned, or no move would lead back.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from epgfn.base.compiled import compiled

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Ranks = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]

LEAST = -9.0
"""Nats below the best of those allowed to which a sum is worked out."""
TRIES = 16
"""Sets that are drawn from all before the list is gone through."""
BLOCK = 16
"""Sets of a list between two looks at the bound of what is left."""
DEEP = 600.0
"""Nats below the best at which weights are worked out anew, before they are lost."""
LOST = 1e-290
ONE = np.uint64(1)


@compiled
def lowest(word: np.uint64) -> int:
    """Number of the lowest bit that is set, of a word that is not 0."""
    found = 0
    if not word & np.uint64(0xFFFFFFFF):
        found += 32
        word >>= np.uint64(32)
    if not word & np.uint64(0xFFFF):
        found += 16
        word >>= np.uint64(16)
    if not word & np.uint64(0xFF):
        found += 8
        word >>= np.uint64(8)
    if not word & np.uint64(0xF):
        found += 4
        word >>= np.uint64(4)
    if not word & np.uint64(0x3):
        found += 2
        word >>= np.uint64(2)
    if not word & np.uint64(0x1):
        found += 1
    return found


@compiled
def descendants(below: Words, of: int, found: Words, new: Words) -> None:
    """Into `found` (W,) the variable itself and everything below it; `new` (W,) is overwritten."""
    words = len(found)
    for w in range(words):
        found[w] = np.uint64(0)
        new[w] = np.uint64(0)
    found[of >> 6] = ONE << np.uint64(of & 63)
    new[of >> 6] = found[of >> 6]
    while True:
        at = -1
        for w in range(words):
            if new[w]:
                bit = lowest(new[w])
                new[w] &= new[w] - ONE
                at = w * 64 + bit
                break
        if at < 0:
            return
        for w in range(words):
            more = below[at, w] & ~found[w]
            found[w] |= more
            new[w] |= more


@compiled
def apart(sets: Words, place: int, forbidden: Words) -> bool:
    for w in range(len(forbidden)):  # noqa: SIM110 - compiled, which `all` over a generator is not
        if sets[place, w] & forbidden[w]:
            return False
    return True


@compiled
def look(
    sets: Words,
    logs: Floats,
    weights: Floats,
    tail: Floats,
    forbidden: Words,
    seen: Ints,
    sums: Floats,
    found: Ints,
) -> float:
    """The score of the best set that holds nothing of `forbidden`, of which `found[0]` are met down to `LEAST` nats below it, up to the
    place `found[1]`: `seen` are their places in the list and `sums` what they add up to over that first."""
    n, total = 0, 0.0
    start = allowed(sets, logs, forbidden)
    if start < 0:
        found[0] = 0
        return 0.0
    first = logs[start]
    near, scale = first > -DEEP, math.exp(min(DEEP, -first))
    for place in range(start, len(logs)):
        found[1] = place
        if apart(sets, place, forbidden):
            total += weights[place] * scale if near else math.exp(logs[place] - first)
            seen[n] = place
            sums[n] = total
            n += 1
        if place % BLOCK == 0 and tail[place + 1] - first < LEAST:
            break
    found[0] = n
    return float(first)


@compiled
def look_among(
    some: Ranks,
    sets: Words,
    logs: Floats,
    weights: Floats,
    tail: Floats32,
    forbidden: Words,
    seen: Ints,
    sums: Floats,
    found: Ints,
) -> float:
    """As `look` among `some` places of the list."""
    n, first, total, near, scale = 0, 0.0, 0.0, False, 1.0
    for number in range(len(some)):
        place = some[number]
        found[1] = place
        if apart(sets, place, forbidden):
            if n == 0:
                first = logs[place]
                if first == -np.inf:
                    break
                near, scale = first > -DEEP, math.exp(min(DEEP, -first))
            total += weights[place] * scale if near else math.exp(logs[place] - first)
            seen[n] = place
            sums[n] = total
            n += 1
        if number % BLOCK == 0 and n and tail[number + 1] - first < LEAST:
            break
    found[0] = n
    return first


@compiled
def allowed(sets: Words, logs: Floats, forbidden: Words) -> int:
    """The place of the best set that holds nothing of `forbidden`, -1 where there is none with any probability."""
    for place in range(len(logs)):
        if apart(sets, place, forbidden):
            return -1 if logs[place] == -np.inf else place
    return -1


@compiled
def at_level(tail: Floats, level: float) -> int:
    """The place of a set of finite weight such that what is left from there on is `level` nats at least, and less after it."""
    low, high = 0, len(tail) - 2
    while low < high:
        middle = (low + high + 1) >> 1
        if tail[middle] >= level:
            low = middle
        else:
            high = middle - 1
    return low


@compiled
def picked(seen: Ints, sums: Floats, n: int, level: float) -> int:
    """The first of n whose sum is above `level`."""
    low, high = 0, n - 1
    while low < high:
        middle = (low + high) >> 1
        if sums[middle] > level:
            high = middle
        else:
            low = middle + 1
    return int(seen[low])


@compiled
def drawn(
    sets: Words,
    logs: Floats,
    weights: Floats,
    tail: Floats,
    forbidden: Words,
    seen: Ints,
    sums: Floats,
    random: np.random.Generator,
) -> int:
    """A place in the list, in proportion to scores, among sets that hold nothing of `forbidden`; -1 where there are none. `seen` and `sums`
    are overwritten.

    One of all sets is drawn a few times, in the hope that it is allowed, which costs least where a list is long and no set stands out.
    Then the list is gone through, once: a share of the sum of those allowed is drawn, and though that sum is not known before the end it is
    known to lie between what was met and what may be left. As soon as both point to one set, that is it.
    """
    for _ in range(TRIES):
        place = at_level(tail, tail[0] + math.log1p(-random.random()))
        if apart(sets, place, forbidden):
            return place
    start = allowed(sets, logs, forbidden)
    if start < 0:
        return -1
    first = logs[start]
    near, scale = first > -DEEP, math.exp(min(DEEP, -first))
    share, n, total = random.random(), 0, 0.0
    for place in range(start, len(logs)):
        if apart(sets, place, forbidden):
            total += weights[place] * scale if near else math.exp(logs[place] - first)
            seen[n] = place
            sums[n] = total
            n += 1
        if place % BLOCK == 0:
            most = share * (total + math.exp(tail[place + 1] - first))
            if most < total:
                one = picked(seen, sums, n, most)
                if one == picked(seen, sums, n, share * total):
                    return one
    return picked(seen, sums, n, share * total)


@compiled
def replace(above: Words, below: Words, child: int, parents: Words) -> None:
    bit, word = ONE << np.uint64(child & 63), child >> 6
    for w in range(len(parents)):
        change = above[child, w] ^ parents[w]
        while change:
            below[w * 64 + lowest(change), word] ^= bit
            change &= change - ONE
        above[child, w] = parents[w]


@compiled
def count_edges(above: Words) -> int:
    found = 0
    for j in range(above.shape[0]):
        for w in range(above.shape[1]):
            word = above[j, w]
            while word:
                word &= word - ONE
                found += 1
    return found


@compiled
def edge_number(above: Words, number: int) -> tuple[int, int]:
    """Parent and child of the edge with this number."""
    for j in range(above.shape[0]):
        for w in range(above.shape[1]):
            word = above[j, w]
            while word:
                if number == 0:
                    return w * 64 + lowest(word), j
                word &= word - ONE
                number -= 1
    return -1, -1


@compiled
def move(
    above: Words,
    below: Words,
    rank: Ranks,
    sets: Words,
    logs: Floats,
    weights: Floats,
    tail: Floats,
    holding: Ranks,
    holding_tail: Floats32,
    moves: int,
    turns: bool,
    random: np.random.Generator,
) -> None:
    """So many moves in one graph: of parents, and if `turns` as many of edges."""
    v, words = above.shape
    seen, sums, found = np.empty(sets.shape[1], np.int64), np.empty(sets.shape[1]), np.zeros(2, np.int64)
    forbidden, scratch = np.zeros(words, np.uint64), np.zeros(words, np.uint64)
    none, of_i, of_j = np.zeros(words, np.uint64), np.zeros(words, np.uint64), np.zeros(words, np.uint64)
    for _ in range(moves):
        j = int(random.random() * v)
        descendants(below, j, forbidden, scratch)
        place = drawn(sets[j], logs[j], weights[j], tail[j], forbidden, seen, sums, random)
        if place >= 0:
            rank[j] = place
            replace(above, below, j, sets[j, place])

        edges = count_edges(above) if turns else 0
        if edges == 0:
            continue
        i, j = edge_number(above, int(random.random() * edges))
        for w in range(words):
            of_i[w], of_j[w] = above[i, w], above[j, w]
        replace(above, below, i, none)
        replace(above, below, j, none)
        descendants(below, j, forbidden, scratch)
        first = look_among(
            holding[j, i], sets[j], logs[j], weights[j], holding_tail[j, i], forbidden, seen, sums, found
        )
        back = first + math.log(sums[found[0] - 1])
        returns = rank[j] <= found[1]
        descendants(below, i, forbidden, scratch)
        first = look_among(
            holding[i, j], sets[i], logs[i], weights[i], holding_tail[i, j], forbidden, seen, sums, found
        )
        if found[0] == 0:  # j may be no parent of i
            replace(above, below, i, of_i)
            replace(above, below, j, of_j)
            continue
        there = first + math.log(sums[found[0] - 1])
        new_i = picked(seen, sums, found[0], random.random() * sums[found[0] - 1])
        replace(above, below, j, of_j)
        descendants(below, i, forbidden, scratch)
        first = look(sets[i], logs[i], weights[i], tail[i], forbidden, seen, sums, found)
        back += first + math.log(sums[found[0] - 1])
        returns &= rank[i] <= found[1]
        replace(above, below, j, none)
        replace(above, below, i, sets[i, new_i])
        descendants(below, j, forbidden, scratch)
        first = look(sets[j], logs[j], weights[j], tail[j], forbidden, seen, sums, found)
        if found[0] == 0:  # j cannot be without a parent that now comes after it
            replace(above, below, i, of_i)
            replace(above, below, j, of_j)
            continue
        there += first + math.log(sums[found[0] - 1])
        new_j = picked(seen, sums, found[0], random.random() * sums[found[0] - 1])
        replace(above, below, j, sets[j, new_j])
        chance = there - back + math.log(edges) - math.log(count_edges(above))
        if returns and (chance >= 0 or random.random() < math.exp(chance)):
            rank[i], rank[j] = new_i, new_j
        else:
            replace(above, below, j, none)
            replace(above, below, i, of_i)
            replace(above, below, j, of_j)


@compiled
def sweep(
    above: Words,
    below: Words,
    rank: Ranks,
    sets: Words,
    logs: Floats,
    weights: Floats,
    tail: Floats,
    holding: Ranks,
    holding_tail: Floats32,
    sweeps: int,
    turns: bool,
    random: np.random.Generator,
    counts: Floats,
) -> None:
    """(C, ...) graphs, V moves of a kind a sweep; to `counts` (V, V) each graph's edges are added after each sweep."""
    v = above.shape[1]
    for c in range(above.shape[0]):
        for _ in range(sweeps):
            move(
                above[c],
                below[c],
                rank[c],
                sets,
                logs,
                weights,
                tail,
                holding,
                holding_tail,
                v,
                turns,
                random,
            )
            for j in range(v):
                for w in range(above.shape[2]):
                    word = above[c, j, w]
                    while word:
                        counts[w * 64 + lowest(word), j] += 1
                        word &= word - ONE


@compiled
def tails(
    logs: Floats, weights: Floats, holding: Ranks, turns: bool, tail: Floats, holding_tail: Floats32
) -> None:
    """Into `tail` (V, K + 1), and if `turns` into `holding_tail` (V, V, M + 1), logs of the sums of what is left of each list: where that
    is lost in rounding, of no less than it."""
    v, k = logs.shape
    for j in range(v):
        tail[j, k], rest = -np.inf, 0.0
        for place in range(k - 1, -1, -1):
            rest += weights[j, place]
            tail[j, place] = math.log(rest) if rest > LOST else logs[j, place] + math.log(k - place)
        if not turns:
            continue
        m = holding.shape[2]
        for i in range(v):
            if i == j:
                continue
            holding_tail[j, i, m], rest = -np.inf, 0.0
            for number in range(m - 1, -1, -1):
                place = holding[j, i, number]
                rest += weights[j, place]
                bound = math.log(rest) if rest > LOST else logs[j, place] + math.log(m - number)
                holding_tail[j, i, number] = bound

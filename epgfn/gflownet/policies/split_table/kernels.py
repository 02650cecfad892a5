"""A sparse table of splits as a distribution over trees from the top, compiled. `policy` says what it is.

A set of leaves is a 64-bit word. Splits lie clade by clade, small clades first, and in each by their second part, the one without the
clade's smallest leaf; so the splits of a clade are rows `first[c]` to `first[c + 1]`. The pairs of a split are those with splits of its
parts, by row.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from epgfn.base.compiled import compiled

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int32]

ONE, NONE = np.uint64(1), np.uint64(0)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Tables(NamedTuple):
    """K clades, M splits, Q pairs, over n leaves. `clade` (K,) leaf sets; `first` (K + 1,) their splits; `right` (M,) second parts; `child`
    (M, 2) the number of either part's clade, -1 where it has no splits; `score` (M,) nats; `pair_first` (M + 1,), `pair_child` (Q,) rows
    and `pair_score` (Q,) nats; `base` (K,) log flow of a clade by itself and `flow` (M, 2) of either part below that split; `slots` a
    hash table of clades; `log_trees` (n + 1,) log of how many trees so many leaves have; `binomial` (n + 1, n + 1) log binomials."""

    clade: Words
    first: Ints
    right: Words
    child: Rows
    score: Floats
    pair_first: Ints
    pair_child: Rows
    pair_score: Floats
    base: Floats
    flow: Floats
    slots: Rows
    log_trees: Floats
    binomial: Floats


@compiled
def size_of(word: np.uint64) -> int:
    """Leaves in a set."""
    count = 0
    while word:
        word &= word - ONE
        count += 1
    return count


@compiled
def place_of(word: np.uint64, slots: int) -> int:
    """Where the hash table of so many slots, a power of two, begins to look."""
    mixed = word * GOLDEN
    mixed ^= mixed >> np.uint64(29)
    return int((mixed * GOLDEN) >> np.uint64(20)) & (slots - 1)


@compiled
def fill_slots(clade: Words, slots: Rows) -> None:
    """`slots`, -1 throughout, with the number of each clade."""
    for number in range(len(clade)):
        at = place_of(clade[number], len(slots))
        while slots[at] >= 0:
            at = (at + 1) & (len(slots) - 1)
        slots[at] = number


@compiled
def number_of(word: np.uint64, clade: Words, slots: Rows) -> int:
    """The number of a clade, -1 where it is not in the table."""
    at = place_of(word, len(slots))
    while slots[at] >= 0:
        if clade[slots[at]] == word:
            return int(slots[at])
        at = (at + 1) & (len(slots) - 1)
    return -1


@compiled
def children_of(clade: Words, first: Ints, right: Words, slots: Rows, child: Rows) -> None:
    """Fill `child`."""
    for number in range(len(clade)):
        for row in range(first[number], first[number + 1]):
            child[row, 0] = number_of(clade[number] & ~right[row], clade, slots)
            child[row, 1] = number_of(right[row], clade, slots)


@compiled
def row_of(number: int, part: np.uint64, first: Ints, right: Words) -> int:
    """The row of a clade's split by its second part, -1 where it is not in the table."""
    low, high = first[number], first[number + 1]
    while low < high:
        middle = (low + high) >> 1
        if right[middle] < part:
            low = middle + 1
        else:
            high = middle
    if low < first[number + 1] and right[low] == part:
        return int(low)
    return -1


@compiled
def pair_at(above: int, row: int, pair_first: Ints, pair_child: Rows) -> int:
    """Where the pairs of split `above` with `row` or a later one begin."""
    low, high = pair_first[above], pair_first[above + 1]
    while low < high:
        middle = (low + high) >> 1
        if pair_child[middle] < row:
            low = middle + 1
        else:
            high = middle
    return int(low)


@compiled
def fill_flows(tables: Tables) -> None:
    """`base` and `flow` from scores, small clades first."""
    worth = np.empty(len(tables.right))
    for number in range(len(tables.clade)):
        start, end = tables.first[number], tables.first[number + 1]
        for row in range(start, end):
            worth[row] = tables.score[row]
            for side in range(2):
                below = tables.child[row, side]
                total = 0.0
                if below >= 0:
                    lowest, highest = tables.first[below], tables.first[below + 1]
                    pair = pair_at(row, lowest, tables.pair_first, tables.pair_child)
                    best = -math.inf
                    at = pair
                    for other in range(lowest, highest):
                        value = worth[other]
                        if at < tables.pair_first[row + 1] and tables.pair_child[at] == other:
                            value += tables.pair_score[at]
                            at += 1
                        best = max(best, value)
                    at = pair
                    for other in range(lowest, highest):
                        value = worth[other]
                        if at < tables.pair_first[row + 1] and tables.pair_child[at] == other:
                            value += tables.pair_score[at]
                            at += 1
                        if value > best - 40.0:
                            total += math.exp(value - best)
                    total = best + math.log(total)
                tables.flow[row, side] = total
                worth[row] += total
        best, total = worth[start], 0.0
        for row in range(start, end):
            best = max(best, worth[row])
        for row in range(start, end):
            total += math.exp(worth[row] - best)
        tables.base[number] = best + math.log(total)


@compiled
def log_default(sizes: int, part: int, log_trees: Floats) -> float:
    """Of one split of `sizes` leaves into `part` and the rest where all trees are as probable."""
    return float(log_trees[part] + log_trees[sizes - part] - log_trees[sizes])


@compiled
def log_prob(whole: Words, right: Words, above: Rows, tables: Tables, share: float, out: Floats) -> None:
    """log p_F of each split of each tree into `out` (B, n - 1), nats. `whole` and `right` (B, n - 1): clades and their second parts;
    `above` (B, n - 1): which of them is the parent, -1 at the root."""
    nodes = whole.shape[1]
    row, number = np.empty(nodes, np.int64), np.empty(nodes, np.int64)
    for tree in range(len(whole)):
        for k in range(nodes):
            number[k] = number_of(whole[tree, k], tables.clade, tables.slots)
            row[k] = -1
            if number[k] >= 0:
                row[k] = row_of(number[k], right[tree, k], tables.first, tables.right)
        for k in range(nodes):
            word, part = whole[tree, k], right[tree, k]
            other = log_default(size_of(word), size_of(part), tables.log_trees)
            if number[k] < 0:
                out[tree, k] = other
                continue
            other += math.log(share)
            if row[k] < 0:
                out[tree, k] = other
                continue
            value = tables.score[row[k]] + tables.flow[row[k], 0] + tables.flow[row[k], 1]
            total = tables.base[number[k]]
            parent = above[tree, k]
            if parent >= 0 and row[parent] >= 0:
                side = 1 if right[tree, parent] == word else 0
                total = tables.flow[row[parent], side]
                pair = pair_at(row[parent], row[k], tables.pair_first, tables.pair_child)
                if pair < tables.pair_first[row[parent] + 1] and tables.pair_child[pair] == row[k]:
                    value += tables.pair_score[pair]
            own = value - total + math.log1p(-share)
            best = max(own, other)
            out[tree, k] = best + math.log(math.exp(own - best) + math.exp(other - best))


@compiled
def find_rows(whole: Words, right: Words, above: Rows, tables: Tables, rows: Ints, pairs: Ints) -> None:
    """Into `rows` and `pairs` (B, n - 1) where the table has each split, and its pair with the one above it; -1 where it has not."""
    for tree in range(len(whole)):
        for k in range(whole.shape[1]):
            number = number_of(whole[tree, k], tables.clade, tables.slots)
            rows[tree, k] = -1
            if number >= 0:
                rows[tree, k] = row_of(number, right[tree, k], tables.first, tables.right)
        for k in range(whole.shape[1]):
            pairs[tree, k] = -1
            parent = above[tree, k]
            if rows[tree, k] >= 0 and parent >= 0 and rows[tree, parent] >= 0:
                over = rows[tree, parent]
                pair = pair_at(over, rows[tree, k], tables.pair_first, tables.pair_child)
                if pair < tables.pair_first[over + 1] and tables.pair_child[pair] == rows[tree, k]:
                    pairs[tree, k] = pair


@compiled
def totals(turn: Words, over: Words, part: Words, tables: Tables, share: float, out: Floats) -> None:
    """Into `out` (B,) the probabilities of all splits of the clade `turn` (B,), 0 where there is none, below the split of `over` by its
    second part `part` (B,), zeros at the root."""
    for state in range(len(turn)):
        out[state] = 1.0
        number = number_of(turn[state], tables.clade, tables.slots)
        if turn[state] == NONE or number < 0:
            continue  # as where all trees are as probable
        total, pair, end = tables.base[number], 0, 0
        lowest = tables.first[number]
        if over[state] != NONE:
            above = number_of(over[state], tables.clade, tables.slots)
            row = -1
            if above >= 0:
                row = row_of(above, part[state], tables.first, tables.right)
            if row >= 0:
                total = tables.flow[row, 1 if part[state] == turn[state] else 0]
                pair, end = (
                    pair_at(row, lowest, tables.pair_first, tables.pair_child),
                    tables.pair_first[row + 1],
                )
        found = 0.0
        for other in range(lowest, tables.first[number + 1]):
            value = tables.score[other] + tables.flow[other, 0] + tables.flow[other, 1]
            if pair < end and tables.pair_child[pair] == other:
                value += tables.pair_score[pair]
                pair += 1
            found += math.exp(value - total)
        out[state] = (1 - share) * found + share


@compiled
def right_above(turn: Words, nodes: Words, clades: Words, over: Words, part: Words) -> None:
    """Into `over` and `part` (B,) the split right above each clade of `turn`, in states of `nodes` and `clades` (B, n); zeros at the
    root."""
    for state in range(len(turn)):
        over[state], part[state] = NONE, NONE
        for slot in range(1, nodes.shape[1]):
            whole, right = nodes[state, slot], clades[state, slot]
            if whole != NONE and (turn[state] == right or turn[state] == whole & ~right):
                over[state], part[state] = whole, right


@compiled
def any_split(word: np.uint64, tables: Tables, random: np.random.Generator) -> np.uint64:
    """The second part of a split by the default: all trees as probable."""
    size = size_of(word)
    left = random.random()
    part = 1
    for k in range(1, size):
        part = k
        log_share = tables.binomial[size - 1, k] + log_default(size, k, tables.log_trees)
        left -= math.exp(log_share)
        if left < 0:
            break
    chosen, rest, wanted = NONE, word & (word - ONE), part
    for more in range(size - 1, 0, -1):
        bit = rest & (~rest + ONE)
        rest ^= bit
        if random.random() * more < wanted:
            chosen |= bit
            wanted -= 1
    return chosen


@compiled
def draw(
    tables: Tables,
    share: float,
    temperature: float,
    exploration: float,
    random: np.random.Generator,
    nodes: Words,
    clades: Words,
    actions: Ints,
    log_q: Floats,
) -> None:
    """B trees: `nodes` and `clades` (B, n) as the space has them, `actions` (n - 1, B) its actions, and `log_q` (B,) nats of the tempered,
    exploring sampler. The clade of the smallest first leaf is split first."""
    trees, n = nodes.shape
    pending, row_above = np.empty(n, np.uint64), np.empty(n, np.int64)
    for tree in range(trees):
        for leaf in range(n):
            pending[leaf] = ONE << np.uint64(leaf)
            nodes[tree, leaf] = NONE
        pending[0] = NONE
        for leaf in range(n):
            pending[0] |= ONE << np.uint64(leaf)
        clades[tree, 0] = pending[0]
        row_above[0], log_q[tree], at = -1, 0.0, 0
        for leaf in range(1, n):
            pending[leaf] = NONE
        for step in range(n - 1):
            while pending[at] & (pending[at] - ONE) == NONE:
                at += 1
            word = pending[at]
            size = size_of(word)
            number = number_of(word, tables.clade, tables.slots)
            row, total, best = -1, 0.0, -math.inf
            if number >= 0:
                lowest, highest = tables.first[number], tables.first[number + 1]
                weight = np.empty(highest - lowest)
                pair, end = 0, 0
                if row_above[at] >= 0:
                    pair = pair_at(row_above[at], lowest, tables.pair_first, tables.pair_child)
                    end = tables.pair_first[row_above[at] + 1]
                for other in range(lowest, highest):
                    value = tables.score[other] + tables.flow[other, 0] + tables.flow[other, 1]
                    if pair < end and tables.pair_child[pair] == other:
                        value += tables.pair_score[pair]
                        pair += 1
                    weight[other - lowest] = value / temperature
                    best = max(best, value / temperature)
                for other in range(highest - lowest):
                    weight[other] = math.exp(weight[other] - best)
                    total += weight[other]
            strange = 1.0
            if number >= 0:
                strange = exploration + (1 - exploration) * share
            if random.random() < strange:
                part = any_split(word, tables, random)
                if number >= 0:
                    row = row_of(number, part, tables.first, tables.right)
            else:
                left = random.random() * total
                row = highest - 1
                for other in range(highest - lowest):
                    left -= weight[other]
                    if left < 0:
                        row = lowest + other
                        break
                part = tables.right[row]
            likely = strange * math.exp(log_default(size, size_of(part), tables.log_trees))
            if row >= 0:
                likely += (1 - strange) * weight[row - tables.first[number]] / total
            log_q[tree] += math.log(likely)
            actions[step, tree] = np.int64(part >> ONE)
            new, smallest = 0, part
            while smallest & ONE == NONE:
                smallest >>= ONE
                new += 1
            nodes[tree, new], clades[tree, new] = word, part
            pending[at], pending[new] = word & ~part, part
            row_above[at], row_above[new] = row, row


@compiled
def sums_of(split: Rows, pair: Rows, score: Floats, pair_score: Floats, out: Floats) -> None:
    """Into `out` (T,) what the splits and pairs (T, n - 1) of each tree add up to; -1 is none."""
    for tree in range(len(split)):
        total = 0.0
        for k in range(split.shape[1]):
            total += score[split[tree, k]]
            if pair[tree, k] >= 0:
                total += pair_score[pair[tree, k]]
        out[tree] = total


@compiled
def gathered(split: Rows, pair: Rows, row: Floats, score: Floats, pair_score: Floats) -> None:
    """Add (T,) `row` to what each tree's splits and pairs have in `score` and `pair_score`."""
    for tree in range(len(split)):
        for k in range(split.shape[1]):
            score[split[tree, k]] += row[tree]
            if pair[tree, k] >= 0:
                pair_score[pair[tree, k]] += row[tree]

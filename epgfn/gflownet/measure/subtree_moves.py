"""Moves of Markov chains over rooted trees under Jukes and Cantor's likelihood with all branches alike, compiled.

One move cuts off a subtree and puts it back on a branch of what is left, or above its root, each in proportion to what the whole tree is
then worth (Gibbs over all 2m - 1 places, m the leaves that are left; the way back is drawn from the same places). Subtrees in turn at
random reach every tree.

All places are worth what one pass up and one pass down say: with `up[y]` the partial likelihoods of what is below y, carried along the
branch above it, and `down[y]` those of all the rest, carried along a branch from above, a subtree x put on the branch of y gives a site
sum over bases of down[y] up[y] up[x] / 4. Felsenstein, Journal of Molecular Evolution 17 (1981).

A tree over n leaves has nodes 0 .. 2n - 2, leaves first; `parent` (2n - 1,) holds -1 at the root, `children` (2n - 1, 2) -1 at leaves.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from epgfn.base.compiled import compiled

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Nodes = npt.NDArray[np.int32]
Words = npt.NDArray[np.uint64]

MANTISSA = np.int64((1 << 52) - 1)
ONE_BITS = np.int64(1023 << 52)
TOGETHER = 512
"""Numbers from 1 to 2 whose product is surely finite."""


@compiled
def carry(above: Floats, decay: float) -> None:
    """`above` (4, P) at the lower end of a branch into that at its upper end, in place."""
    change = (1.0 - decay) / 4.0
    for p in range(above.shape[1]):
        shared = change * (above[0, p] + above[1, p] + above[2, p] + above[3, p])
        for a in range(4):
            above[a, p] = decay * above[a, p] + shared


@compiled
def meet(one: Floats, other: Floats, found: Floats, decay: float) -> None:
    """Two children's partial likelihoods, carried along the branch above their parent."""
    change = (1.0 - decay) / 4.0
    for p in range(found.shape[1]):
        a = one[0, p] * other[0, p]
        c = one[1, p] * other[1, p]
        g = one[2, p] * other[2, p]
        t = one[3, p] * other[3, p]
        shared = change * (a + c + g + t)
        found[0, p] = decay * a + shared
        found[1, p] = decay * c + shared
        found[2, p] = decay * g + shared
        found[3, p] = decay * t + shared


@compiled
def logs_of(site: Floats, bits: Ints, ends: Ints, weight: Floats) -> float:
    """Sum of weight times log of (P,) `site`; sites up to `ends[g]` have `weight[g]`, and `bits` are those of `site`, overwritten."""
    total, start = 0.0, 0
    for group in range(len(ends)):
        product, power = 1.0, 0
        for p in range(start, ends[group]):
            power += (bits[p] >> 52) - 1023
            bits[p] = (bits[p] & MANTISSA) | ONE_BITS
            product *= site[p]
        total += weight[group] * (math.log(product) + power * 0.6931471805599453)
        start = ends[group]
    return total


@compiled
def all_up(parent: Nodes, children: Nodes, up: Floats, decay: float, order: Nodes) -> int:
    """Fill `up` (2n - 1, 4, P) from its leaves; returns the root. `order` (2n - 1,) is overwritten."""
    root = 0
    while parent[root] >= 0:
        root = parent[root]
    order[0], count, at = root, 1, 0
    while at < count:
        for child in children[order[at]]:
            if child >= 0:
                order[count] = child
                count += 1
        at += 1
    for at in range(count - 1, -1, -1):
        node = order[at]
        if children[node, 0] >= 0:
            meet(up[children[node, 0]], up[children[node, 1]], up[node], decay)
    return root


@compiled
def path_up(start: int, parent: Nodes, children: Nodes, up: Floats, decay: float) -> None:
    """`up` of `start` and all above it anew."""
    node = start
    while node >= 0:
        meet(up[children[node, 0]], up[children[node, 1]], up[node], decay)
        node = parent[node]


@compiled
def chosen(logs: Floats, count: int, beta: float, random: np.random.Generator) -> int:
    """A place in proportion to exp(beta logs)."""
    best = logs[0]
    for k in range(1, count):
        best = max(best, logs[k])
    total = 0.0
    for k in range(count):
        total += math.exp(beta * (logs[k] - best))
    left = random.random() * total
    for k in range(count):
        left -= math.exp(beta * (logs[k] - best))
        if left < 0:
            return k
    return count - 1


@compiled
def moves(
    parent: Nodes,
    children: Nodes,
    log_reward: Floats,
    leaves: Floats,
    ends: Ints,
    weight: Floats,
    decay: float,
    many: int,
    beta: float,
    random: np.random.Generator,
) -> None:
    """`many` moves of each of C trees, in place: `parent` (C, 2n - 1), `children` (C, 2n - 1, 2), and `log_reward` (C,) nats. `leaves`
    (n, 4, P): partial likelihoods above each leaf's branch, sites with `weight[g]` up to `ends[g]`."""
    n, sites = leaves.shape[0], leaves.shape[2]
    size = 2 * n - 1
    up, down = np.empty((size, 4, sites)), np.empty((size, 4, sites))
    site = np.empty(sites)
    bits = site.view(np.int64)
    order, logs = np.empty(size, np.int32), np.empty(size)
    up[:n] = leaves
    for chain in range(parent.shape[0]):
        above, below = parent[chain], children[chain]
        root = all_up(above, below, up, decay, order)
        for _ in range(many):
            x = int(random.random() * (size - 1))
            if x >= root:
                x += 1
            p = above[x]
            s = below[p, 0] if below[p, 1] == x else below[p, 1]
            g = above[p]
            above[s] = g
            if g < 0:
                root = s
            else:
                below[g, 0 if below[g, 0] == p else 1] = s
                path_up(g, above, below, up, decay)
            order[0], count, at = root, 1, 0
            down[root] = 1.0
            while at < count:
                y = order[at]
                if below[y, 0] >= 0:
                    for k in range(2):
                        child = below[y, k]
                        order[count] = child
                        count += 1
                        meet(down[y], up[below[y, 1 - k]], down[child], decay)
                for q in range(sites):
                    site[q] = 0.25 * (
                        down[y, 0, q] * up[y, 0, q] * up[x, 0, q]
                        + down[y, 1, q] * up[y, 1, q] * up[x, 1, q]
                        + down[y, 2, q] * up[y, 2, q] * up[x, 2, q]
                        + down[y, 3, q] * up[y, 3, q] * up[x, 3, q]
                    )
                logs[at] = logs_of(site, bits, ends, weight)
                at += 1
            at = chosen(logs, count, beta, random)
            y = order[at]
            log_reward[chain] = logs[at]
            g = above[y]
            above[y], above[p] = p, g
            below[p, 0], below[p, 1] = x, y
            above[x] = p
            if g < 0:
                root = p
            else:
                below[g, 0 if below[g, 0] == y else 1] = p
            path_up(p, above, below, up, decay)


@compiled
def clades(parent: Nodes, children: Nodes, found: Words) -> None:
    """Into `found` (C, 2n - 1) the leaves below each node, a bit each."""
    size = parent.shape[1]
    n = (size + 1) // 2
    for chain in range(parent.shape[0]):
        for node in range(size):
            found[chain, node] = np.uint64(0)
        for leaf in range(n):
            bit = np.uint64(1) << np.uint64(leaf)
            node = leaf
            while node >= 0:
                found[chain, node] |= bit
                node = parent[chain, node]


@compiled
def worths(
    parent: Nodes, children: Nodes, leaves: Floats, ends: Ints, weight: Floats, decay: float, found: Floats
) -> None:
    """Log-likelihoods of C trees into `found` (C,), arguments as `moves` has them."""
    n, sites = leaves.shape[0], leaves.shape[2]
    up = np.empty((2 * n - 1, 4, sites))
    site, order = np.empty(sites), np.empty(2 * n - 1, np.int32)
    bits = site.view(np.int64)
    up[:n] = leaves
    for chain in range(parent.shape[0]):
        root = all_up(parent[chain], children[chain], up, decay, order)
        for q in range(sites):
            site[q] = 0.25 * (up[root, 0, q] + up[root, 1, q] + up[root, 2, q] + up[root, 3, q])
        found[chain] = logs_of(site, bits, ends, weight)


@compiled
def parts_of(
    parent: Nodes,
    children: Nodes,
    whole: Words,
    right: Words,
    above: Nodes,
) -> None:
    """Of one tree: into `whole` (n - 1,) the leaves below each node that is no leaf, into `right` those of its child that does not hold the
    smallest of them, and into `above` the number of its parent among these nodes, -1 at the root."""
    n = len(whole) + 1
    for k in range(n - 1):
        whole[k] = np.uint64(0)
        above[k] = parent[n + k] - n if parent[n + k] >= 0 else -1
    for leaf in range(n):
        bit = np.uint64(1) << np.uint64(leaf)
        node = parent[leaf]
        while node >= 0:
            whole[node - n] |= bit
            node = parent[node]
    for k in range(n - 1):
        smallest = whole[k] & (~whole[k] + np.uint64(1))
        for side in range(2):
            child = children[n + k, side]
            below = whole[child - n] if child >= n else np.uint64(1) << np.uint64(child)
            if below & smallest == np.uint64(0):
                right[k] = below


@compiled
def all_parts(
    parent: Nodes,
    children: Nodes,
    whole: Words,
    right: Words,
    above: Nodes,
) -> None:
    """`parts_of` of C trees."""
    for chain in range(parent.shape[0]):
        parts_of(parent[chain], children[chain], whole[chain], right[chain], above[chain])


@compiled
def parents_of(whole: Words, right: Words, above: Nodes) -> None:
    """Fill `above` (C, n - 1), -1 throughout, from clades and their second parts."""
    trees, nodes = whole.shape
    for tree in range(trees):
        for k in range(nodes):
            first = whole[tree, k] & ~right[tree, k]
            for other in range(nodes):
                if whole[tree, other] == first or whole[tree, other] == right[tree, k]:
                    above[tree, other] = k


@compiled
def rooted(whole: Words, right: Words, parent: Nodes, children: Nodes) -> None:
    """The other way round, of C trees; `parent` and `children` hold -1 throughout."""
    n = whole.shape[1] + 1
    for chain in range(len(whole)):
        for k in range(n - 1):
            for side in range(2):
                below = right[chain, k] if side else whole[chain, k] & ~right[chain, k]
                child = -1
                if below & (below - np.uint64(1)) == np.uint64(0):
                    child = 0
                    while below >> np.uint64(child) != np.uint64(1):
                        child += 1
                else:
                    for other in range(n - 1):
                        if whole[chain, other] == below:
                            child = n + other
                children[chain, n + k, side] = child
                parent[chain, child] = n + k


@compiled
def cut(parent: Nodes, children: Nodes, x: int) -> int:
    """Take subtree `x` off together with the node above it, whose other child goes to its place; returns the root of what is left."""
    p = parent[x]
    s = children[p, 0] if children[p, 1] == x else children[p, 1]
    g = parent[p]
    parent[s] = g
    if g >= 0:
        children[g, 0 if children[g, 0] == p else 1] = s
    root = s
    while parent[root] >= 0:
        root = parent[root]
    return int(root)


@compiled
def put(parent: Nodes, children: Nodes, x: int, y: int) -> None:
    """Put `x`, which was cut off, on the branch above `y`, with the node it took along."""
    p, g = parent[x], parent[y]
    parent[p], parent[y] = g, p
    children[p, 0], children[p, 1] = x, y
    if g >= 0:
        children[g, 0 if children[g, 0] == y else 1] = p


@compiled
def proposed(
    parent: Nodes,
    children: Nodes,
    cuts: Nodes,
    starts: Ints,
    places: Nodes,
    whole: Words,
    right: Words,
    above: Nodes,
    random: np.random.Generator,
) -> int:
    """Of each of C trees take off a subtree at random, into `cuts` (C,), and list all trees that putting it back gives: the `parts_of` of
    tree c in rows `starts[c]` to `starts[c + 1]`, with the branch that it is put on in `places`. Returns how many there are."""
    size = parent.shape[1]
    order = np.empty(size, np.int32)
    row: int = 0
    for chain in range(parent.shape[0]):
        up, down = parent[chain], children[chain]
        root = 0
        while up[root] >= 0:
            root = up[root]
        x = int(random.random() * (size - 1))
        if x >= root:
            x += 1
        cuts[chain], starts[chain] = x, row
        order[0], count, at = cut(up, down, x), 1, 0
        while at < count:
            for child in down[order[at]]:
                if child >= 0:
                    order[count] = child
                    count += 1
            at += 1
        for at in range(count):
            put(up, down, x, order[at])
            parts_of(up, down, whole[row], right[row], above[row])
            places[row] = order[at]
            row += 1
            cut(up, down, x)
    starts[len(cuts)] = row
    return int(row)


@compiled
def settled(
    parent: Nodes,
    children: Nodes,
    cuts: Nodes,
    starts: Ints,
    places: Nodes,
    logs: Floats,
    log_reward: Floats,
    beta: float,
    random: np.random.Generator,
) -> None:
    """Put each subtree back where `proposed` says, in proportion to exp(beta logs)."""
    for chain in range(parent.shape[0]):
        first, count = starts[chain], starts[chain + 1] - starts[chain]
        row = first + chosen(logs[first:], count, beta, random)
        put(parent[chain], children[chain], cuts[chain], places[row])
        log_reward[chain] = logs[row]

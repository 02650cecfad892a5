"""What a table of BDeu scores, as a model carries it, says of the records it was computed from: how many there are, and how often each
combination of categories occurs among them, up to the names of the categories.

A node in privacy mode none sends such a table to whoever opens its model. Of each variable only differences of scores are in it: with
g of `epgfn.targets.bdeu`, exactly g(Y) - sum over i in Y of g({i}) + (|Y| - 1) g({}) for every set Y of a variable and its parents. That
is one number for many counts, but counts are whole: of the tables that few records can make hardly ever two have the same number to
fifteen digits. So the counts of two variables are looked for, number of records by number of records; each further variable, and each
larger set, then has few tables that fit what is known already.

    found = from_bdeu(table, (2, 2, 2), sample_size=1.0)       found.n, found.tables

Numpy alone, as `score_table`. The work is bounded by a count of tables, not by a clock: what is found does not hang on the machine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Tables = dict[tuple[int, ...], Counts]

LEAST_VARIABLES: Final = 3
"""Of two the scores do not even tell which is which."""
MOST_VARIABLES: Final = 4
MOST_RECORDS: Final = 300
"""Up to so many every number of records is tried; of more, one has to be told it."""
MOST_TOLD: Final = 4_000
MOST_WORK: Final = 12_000_000
"""Tables to look at: seconds."""
_CALL: Final = 300
"""What looking at no table costs, in tables."""
_CHUNK: Final = 1 << 16


class Found(NamedTuple):
    """n; `variables` (indices); the counts of each of the largest sets that scores speak of, named by places in `variables`, one axis a
    variable and its categories by falling frequency. `tried`: no other table of up to so many records (or of exactly n, where it was
    told) has these scores."""

    n: int
    variables: tuple[int, ...]
    tables: Tables
    tried: int

    def alone(self) -> int:
        """How many combinations of values only one record shows, in the set that has most of them."""
        return max(int((table == 1).sum()) for table in self.tables.values())

    def shown(self) -> int:
        """How many combinations of values occur, in the set that has most of them."""
        return max(int((table > 0).sum()) for table in self.tables.values())


def from_bdeu(
    table: Floats, categories: Sequence[int], *, sample_size: float, n: int | None = None
) -> Found | None:
    """The counts behind (V, K) local scores in nats, each row up to a constant, columns as `epgfn.gflownet.spaces.parent_sets`, a uniform
    prior; of the variables with the fewest categories, at most `MOST_VARIABLES`. `n`: the number of records, if somebody has told it.
    None where no table fits, more than one does, or there is too much to try."""
    order = sorted(range(len(categories)), key=lambda i: categories[i])[:MOST_VARIABLES]
    if len(order) < LEAST_VARIABLES or (n is not None and not 2 <= n <= MOST_TOLD):
        return None
    search = _Search(table, [categories[i] for i in order], order, sample_size, n or MOST_RECORDS)
    solutions: dict[bytes, tuple[int, Tables]] = {}
    tried = 0
    for number in range(2, MOST_RECORDS + 1) if n is None else (n,):
        try:
            for tables in search.all_of(number):
                solutions.setdefault(search.named_alike(tables), (number, tables))
        except _TooMuchError:
            break
        tried = number
    if tried == 0 or len(solutions) != 1:
        return None
    ((number, tables),) = solutions.values()
    largest = {key: counts for key, counts in tables.items() if len(key) == search.largest}
    return Found(number, tuple(order), largest, tried)


class _TooMuchError(Exception):
    """More tables to try than `MOST_WORK`."""


class _Search:
    """The tables that a score table leaves possible. Variables are named by their place in `order`; what a set is scored is `_known`, what
    so many records in a cell of a set of q add, `_costs[q]`."""

    def __init__(
        self, table: Floats, categories: list[int], order: list[int], sample_size: float, most: int
    ) -> None:
        v, m = len(table), len(order)
        column = {
            members: k
            for k, members in enumerate(
                itertools.chain.from_iterable(itertools.combinations(range(v), size) for size in range(v))
            )
            if k < table.shape[1]
        }
        parents = max(map(len, column))
        self.largest = min(parents + 1, m)
        self._categories, self._m, self._work = categories, m, 0
        self._known: dict[tuple[int, ...], float] = {(i,): 0.0 for i in range(m)}
        for size in range(2, self.largest + 1):
            for y in itertools.combinations(range(m), size):
                j, rest = order[y[-1]], tuple(sorted(order[i] for i in y[:-1]))
                self._known[y] = self._known[y[:-1]] + float(table[j, column[rest]] - table[j, 0])
        sizes = {math.prod(categories[i] for i in y) for y in self._known} | {1}
        self._costs = {
            q: np.concatenate([[0.0], np.cumsum(np.log(sample_size / q + np.arange(most)))]) for q in sizes
        }

    def all_of(self, n: int) -> Iterator[Tables]:
        """Every way n records can be counted that has these scores."""
        for tables in self._pairs(n):
            yield from self._with(2, n, tables)

    def named_alike(self, tables: Tables) -> bytes:
        """The same for tables that differ by the names of categories alone. Those of different frequency cannot be confused."""
        orders = []
        for i in range(self._m):
            counts = tables[i,]
            alike = [
                p for p in itertools.permutations(range(len(counts))) if (counts[list(p)] == counts).all()
            ]
            orders.append(alike)
        keys = [y for y in sorted(tables) if len(y) == self.largest]
        return min(
            b"".join(tables[y][np.ix_(*(p[i] for i in y))].tobytes() for y in keys)
            for p in itertools.islice(itertools.product(*orders), 5_000)
        )

    def _pairs(self, n: int) -> Iterator[Tables]:
        """Counts of the first two variables."""
        r, s = self._categories[:2]
        ones, others = _partitions(n, r), _partitions(n, s)
        if (r, s) == (2, 2):
            yield from self._crosses(n, (0, 1), ones[:, 0], others[:, 0])
            return
        for one, other in itertools.product(ones, others):
            yield from self._of_margins(n, {(0,): one, (1,): other}, [(0, 1)])

    def _with(self, k: int, n: int, tables: Tables) -> Iterator[Tables]:
        """The same with variables k and beyond."""
        if k == self._m:
            yield tables
            return
        sets = [(*y, k) for size in range(1, self.largest) for y in itertools.combinations(range(k), size)]
        margins = _partitions(n, self._categories[k])
        if self._categories[0] == self._categories[k] == 2:
            first = np.full(1, tables[0,][0])
            begun: Iterator[Tables] = (
                tables | found for found in self._crosses(n, (0, k), first, margins[:, 0])
            )
            sets = sets[1:]
        else:
            begun = ({**tables, (k,): margin} for margin in margins)
        for start in begun:
            for found in self._of_margins(n, start, sets):
                yield from self._with(k + 1, n, found)

    def _of_margins(self, n: int, tables: Tables, sets: list[tuple[int, ...]]) -> Iterator[Tables]:
        """`tables` with those of `sets`, each of which has all its smaller ones before it."""
        if not sets:
            yield tables
            return
        y, *rest = sets
        for counts in self._fits(n, y, tables):
            yield from self._of_margins(n, {**tables, y: counts}, rest)

    def _fits(self, n: int, y: tuple[int, ...], tables: Tables) -> Iterator[Counts]:
        """Every table of the variables `y` that has the sums it must have, and the score."""
        margins = [tables[y[:a] + y[a + 1 :]] for a in range(len(y))]
        target, slack = self._target(n, y, tables)
        free = tuple(self._categories[i] - 1 for i in y)
        most = np.full(free, n)
        for a, margin in enumerate(margins):
            inside = margin[tuple(slice(0, size) for size in free[:a] + free[a + 1 :])]
            most = np.minimum(most, np.expand_dims(inside, a))
        number = math.prod(int(x) + 1 for x in most.flat)
        self._spend(number + _CALL)
        costs = self._costs[math.prod(self._categories[i] for i in y)]
        for begin in range(0, number, _CHUNK):
            at = np.unravel_index(np.arange(begin, min(begin + _CHUNK, number)), most.ravel() + 1)
            cells = np.stack(at, axis=1).reshape(-1, *free)
            for a, margin in enumerate(margins):
                # Of the other variables those before `a` are whole by now, and those after it lack the last category.
                sums = margin[(slice(None),) * a + tuple(slice(0, size) for size in free[a + 1 :])]
                cells = np.concatenate([cells, np.expand_dims(sums - cells.sum(a + 1), a + 1)], axis=a + 1)
            flat = cells.reshape(len(cells), -1)
            flat = flat[(flat >= 0).all(1)]
            good = flat[np.abs(costs[flat].sum(1) - target) <= slack]
            yield from good.reshape(-1, *cells.shape[1:])

    def _crosses(self, n: int, pair: tuple[int, int], ones: Counts, others: Counts) -> Iterator[Tables]:
        """As `_fits` for two variables of two categories each, over all pairs of the counts of their first ones. The score is convex in
        the count of both together, so it is reached twice at most, once on either side of its least."""
        self._spend(len(ones) * len(others))
        costs, single = self._costs[4], self._costs[2]
        for some in np.array_split(ones, max(1, len(ones) * len(others) // _CHUNK)):
            one, other = (x.ravel() for x in np.meshgrid(some, others, indexing="ij"))
            singles = single[one] + single[n - one] + single[other] + single[n - other]
            cross = _Cross(n, one, other, costs, self._known[pair] - self._costs[1][n] + singles)
            for k, together in cross.found():
                a, b, c = int(one[k]), int(other[k]), together
                yield {
                    (pair[0],): np.array([a, n - a]),
                    (pair[1],): np.array([b, n - b]),
                    pair: np.array([[c, a - c], [b - c, n - a - b + c]]),
                }

    def _target(self, n: int, y: tuple[int, ...], tables: Tables) -> tuple[float, float]:
        """g(y), and how far rounding may have moved it."""
        singles = math.fsum(float(self._costs[self._categories[i]][tables[i,]].sum()) for i in y)
        return self._known[y] + singles - (len(y) - 1) * float(self._costs[1][n]), _slack(n)

    def _spend(self, tables: int) -> None:
        self._work += tables
        if self._work > MOST_WORK:
            raise _TooMuchError


class _Cross(NamedTuple):
    """(B,) pairs of two variables' most frequent values: how many of n records have the one, how many the other, what a cell costs,
    and what all four together must."""

    n: int
    one: Counts
    other: Counts
    costs: Floats
    target: Floats

    def found(self) -> Iterator[tuple[int, int]]:
        """Which pair, and how many records have both."""
        slack, low, high = (
            _slack(self.n),
            np.maximum(0, self.one + self.other - self.n),
            np.minimum(self.one, self.other),
        )
        least = _first(lambda x: self.score(np.minimum(x + 1, high)) >= self.score(x), low, high)
        falling = _first(lambda x: self.score(x) <= self.target + slack, low, least)
        rising = _first(lambda x: self.score(x) >= self.target - slack, np.minimum(least + 1, high), high)
        for x, new in ((falling, True), (rising, rising != falling)):
            for k in np.flatnonzero((np.abs(self.score(x) - self.target) <= slack) & new):
                yield int(k), int(x[k])

    def score(self, x: Counts) -> Floats:
        """(B,) the sum over cells where x have both; convex in x."""
        one, other, costs = self.one, self.other, self.costs
        total: Floats = costs[x] + costs[one - x] + costs[other - x] + costs[self.n - one - other + x]
        return total


def _slack(n: int) -> float:
    return 1e-11 + 4e-14 * n * math.log(n + 2)


def _first(holds: Callable[[Counts], npt.NDArray[np.bool_]], low: Counts, high: Counts) -> Counts:
    """The least number for which `holds`, each from `low` to `high`; `high` where there is none before. It holds from some number on."""
    while (low < high).any():
        middle = (low + high) // 2
        there = holds(middle)
        low, high = np.where(there, low, np.minimum(middle + 1, high)), np.where(there, middle, high)
    return low


def _partitions(n: int, parts: int) -> Counts:
    """(M, parts): n as so many whole numbers, falling."""
    if parts == 1:
        return np.array([[n]])
    rows = [
        np.concatenate([np.full((len(rest), 1), first), rest], axis=1)
        for first in range(-(-n // parts), n + 1)
        if len(rest := _capped(n - first, parts - 1, first))
    ]
    return np.concatenate(rows)


def _capped(n: int, parts: int, most: int) -> Counts:
    rows = _partitions(n, parts)
    return rows[rows[:, 0] <= most]

"""Mode `statistic` for discrete records: noisy contingency tables, and BDeu from them.

Either the joint table of all variables, or every table of `order` variables (a child and its largest parent set). A record
is one cell of the one, and one cell of each of the g = C(V, order) others, so the noise of a cell is 1/mu or sqrt(g)/mu
records wide. A family's count is a sum of joint cells, but a single cell of its own table: `choose_tables` takes whichever
leaves less noise in the largest families.

Afterwards, all of it post-processing, negative cells are projected away and tables made to agree where they count the same
(`marginals`). And, as with moments, the release says how sure one can be: noise of variance s^2 in each of the m cells of a table of n
records makes a chi-squared of independence 1 + s^2 m / n times too large on average, in this table and in those summed from it. That is
what n' = n / (1 + s^2 m / n) records would give without noise, so tables are scaled to n': BDeu takes them at their word and is then as
uncertain as the noise makes it.

    mechanism = CountsMechanism(categories, order=max_parents + 1, epsilon=1.0, delta=1e-5)
    release = mechanism.release(columns)
    release.bdeu(sets, sample_size=1.0)            # (V, K), as targets.bdeu
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.spaces.parent_sets import families
from epgfn.privacy import accounting
from epgfn.privacy.claims.claims import Adjacency, Claim, Noise, Stage, Unit
from epgfn.privacy.mechanisms.checks import check_noise, check_parameters
from epgfn.privacy.mechanisms.discrete import Floats, Ints
from epgfn.privacy.mechanisms.marginals import Subset, fitted
from epgfn.privacy.mechanisms.release import COUNT_BITS, Values, log_ratio, make_claim, make_stage, noisy
from epgfn.targets.bdeu import cell_score

MECHANISM = "noisy contingency tables"
MAX_CELLS = 1 << 20
"""Released numbers; a million take a quarter of a minute."""
_UNIT = 1 << COUNT_BITS


@dataclass(frozen=True)
class CountsRelease:
    """Noisy tables, each non-negative with sum `n`, by the variables they count; `outputs` the integers themselves, for an audit.

    `n` is the number of records the release is worth, n' of the module; `records` how many there are about, the noisy number.
    """

    categories: tuple[int, ...]
    tables: dict[Subset, Floats]
    n: float
    records: float
    outputs: tuple[Values]
    stage: Stage
    adjacency: Adjacency
    delta: float
    unit: Unit = "record"
    rows: int = 1

    @cached_property
    def claim(self) -> Claim:
        """What the node promises about it."""
        return make_claim(
            "statistic", self.adjacency, self.delta, [self.stage], MECHANISM, self.unit, self.rows
        )

    def table(self, subset: Subset) -> Floats:
        """Counts of the variables `subset` (increasing): the mean of what every released table that holds them says.

        Raises:
            ValueError: no released table holds all of them.
        """
        if len(self.tables) == 1:
            ((variables, counts),) = self.tables.items()
            return np.asarray(counts.sum(axis=tuple(i for i, v in enumerate(variables) if v not in subset)))
        if subset not in self._means:
            raise ValueError("no released table holds all these variables")
        return self._means[subset]

    @cached_property
    def _means(self) -> dict[Subset, Floats]:
        """Every table within a released one, averaged."""
        sums: dict[Subset, tuple[Floats, int]] = {}
        for variables, counts in self.tables.items():
            for size in range(len(variables) + 1):
                for places in itertools.combinations(range(len(variables)), size):
                    rest = tuple(i for i in range(len(variables)) if i not in places)
                    subset = tuple(variables[i] for i in places)
                    old, number = sums.get(subset, (np.zeros(()), 0))
                    sums[subset] = (old + counts.sum(axis=rest), number + 1)
        return {subset: value / number for subset, (value, number) in sums.items()}

    def bdeu(self, sets: Tensor, sample_size: float) -> Tensor:
        """log p(D_j | D_Pa) in nats: (K, V) bool -> (V, K) float64; undefined where j is in Pa.

        Raises:
            ValueError: a family is larger than the released tables.
        """
        v = len(self.categories)
        found, where = families(sets)
        values = []
        for held in found.tolist():
            subset = tuple(i for i in range(v) if held[i])
            cells = torch.from_numpy(np.ascontiguousarray(self.table(subset))).reshape(-1)
            values.append(cell_score(cells, sample_size))
        scores = torch.stack(values)[where]
        return scores[1:] - scores[:1]


@dataclass(frozen=True)
class CountsMechanism:
    """Noisy tables of V = len(categories) variables; `order` the largest number of variables counted together.

    Under replace-one the number of records is public and given as `n_public`. What is protected is a `unit` of at most `rows` records.

    Raises:
        UsageError: a parameter out of range, or more than `MAX_CELLS` cells.
    """

    categories: tuple[int, ...]
    order: int
    epsilon: float
    delta: float
    adjacency: Adjacency = "add-remove"
    n_public: int | None = None
    unit: Unit = "record"
    rows: int = 1

    def __post_init__(self) -> None:
        check_parameters(self.epsilon, self.delta)
        if (self.adjacency == "replace-one") != (self.n_public is not None):
            raise UsageError(
                "the number of records is given where it is public, that is under replace-one, and only there"
            )
        if not 1 <= self.order <= len(self.categories) or min(self.categories) < 2:
            raise UsageError(
                "a table counts one up to all variables, and each variable has two or more categories"
            )
        choose_tables(self.categories, self.order)

    @cached_property
    def subsets(self) -> list[Subset]:
        """The variables of each released table."""
        return choose_tables(self.categories, self.order)

    @cached_property
    def stage(self) -> Stage:
        """Known before any record is read."""
        cells = sum(_size(self.categories, subset) for subset in self.subsets)
        moved = len(self.subsets) * (2 if self.adjacency == "replace-one" else 1)

        def scale(mu: float) -> float:
            return _UNIT * self.rows * math.sqrt(moved) / mu * (1 + 1e-11)

        mu = accounting.discrete_mu(self.epsilon, self.delta, cells, scale)
        noise = Noise(kind="cells", entries=cells, unit=_UNIT, scale=scale(mu))
        return make_stage(
            "tables",
            "counts",
            [noise],
            self.adjacency,
            grid_bits=COUNT_BITS,
            groups=len(self.subsets),
            rows=self.rows,
        )

    @property
    def planned_claim(self) -> Claim:
        """What a release will cost, known beforehand."""
        check_noise([self.stage])
        return make_claim(
            "statistic", self.adjacency, self.delta, [self.stage], MECHANISM, self.unit, self.rows
        )

    def values(self, columns: Ints) -> Values:
        """The exact integers: every cell of every table. (n, V) categories; what is outside its range is clipped into it."""
        top = np.array(self.categories) - 1
        inside = np.clip(columns, 0, top)
        flat = [self._counts(inside, subset).reshape(-1) for subset in self.subsets]
        return {"cells": np.concatenate(flat) * _UNIT}

    def release(self, columns: Ints) -> CountsRelease:
        """`finish` of `observe`: one release, `columns` (n, V) int64."""
        return self.finish(self.observe(columns))

    def observe(self, columns: Ints) -> tuple[Values]:
        """The noisy integers: all that is ever learned of the records. Each call spends epsilon anew.

        Raises:
            ValueError: another number of columns, or of records than the public one.
        """
        if columns.ndim != 2 or columns.shape[1] != len(self.categories):
            raise ValueError("columns must be (n, V)")
        if self.n_public is not None and len(columns) != self.n_public:
            raise ValueError("not the public number of records")
        return (noisy(self.values(columns), self.stage),)

    def log_ratio(self, release: CountsRelease, without: Ints, with_record: Ints) -> float:
        """How much likelier the release is from the second data set, in nats: the strongest attack there is."""
        return log_ratio(release.outputs[0], self.values(without), self.values(with_record), self.stage)

    def _counts(self, columns: Ints, subset: Subset) -> Ints:
        shape = tuple(self.categories[i] for i in subset)
        cell = np.ravel_multi_index(tuple(columns[:, i] for i in subset), shape)
        return np.bincount(cell, minlength=math.prod(shape)).astype(np.int64)

    def finish(self, outputs: tuple[Values, ...]) -> CountsRelease:
        """The release that `observe`d integers make; needs no record and costs nothing."""
        return self.pooled([outputs])

    def pooled(self, all_outputs: Sequence[tuple[Values, ...]]) -> CountsRelease:
        """The tables of the records behind several releases of the same settings: noisy cells are added first, so that what is projected
        away and agreed on is the noise of their sum, sqrt(N) as wide. `outputs` are the sums, and the claim is that of each release."""
        cells = np.sum([outputs[0]["cells"].astype(np.float64) for outputs in all_outputs], axis=0)
        cells, start = cells / float(_UNIT), 0
        raw: dict[Subset, Floats] = {}
        for subset in self.subsets:
            shape = tuple(self.categories[i] for i in subset)
            raw[subset] = cells[start : start + math.prod(shape)].reshape(shape)
            start += math.prod(shape)
        counted = float(np.mean([table.sum() for table in raw.values()]))
        records = max(1.0, counted if self.n_public is None else float(self.n_public))
        variance = len(all_outputs) * (self.stage.noise[0].scale / _UNIT) ** 2
        size = float(np.mean([table.size for table in raw.values()]))
        worth = records / (1 + variance * size / records)
        tables = {subset: table * (worth / records) for subset, table in fitted(raw, records).items()}
        output = {"cells": np.sum([outputs[0]["cells"] for outputs in all_outputs], axis=0)}
        return CountsRelease(
            self.categories,
            tables,
            worth,
            records,
            (output,),
            self.stage,
            self.adjacency,
            self.delta,
            self.unit,
            self.rows,
        )


def choose_tables(categories: Sequence[int], order: int) -> list[Subset]:
    """The joint table where it leaves no more noise in the largest families, else all tables of `order` variables.

    Raises:
        UsageError: even the second has more than `MAX_CELLS` cells.
    """
    everything: Subset = tuple(range(len(categories)))
    if math.comb(len(categories), order) > MAX_CELLS:
        raise _too_many()
    tables = list(itertools.combinations(everything, order))
    joint = math.prod(categories)
    summed = max(joint // _size(categories, subset) for subset in tables)
    if joint <= MAX_CELLS and summed <= len(tables):
        return [everything]
    if sum(_size(categories, subset) for subset in tables) > MAX_CELLS:
        raise _too_many()
    return tables


def _size(categories: Sequence[int], subset: Subset) -> int:
    return math.prod(categories[i] for i in subset)


def _too_many() -> UsageError:
    return UsageError(
        f"private counts of so many families need more than {MAX_CELLS} numbers; lower space.max_parents or merge categories"
    )

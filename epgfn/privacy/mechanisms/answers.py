"""Mode `answers`: noisy sums of what each record says about a batch of objects.

A record's say on objects x_1 .. x_K is its log-likelihoods less their mean over the batch: the only part that reaches a
posterior. It is a short vector, clipped to a public norm, rounded to the grid, summed over records, and released with
discrete Gaussian noise. Training on the answers is post-processing.

    mechanism = AnswersMechanism(objects=space_objects, per_record=..., epsilon=4.0, delta=1e-5, radius=0.94)
    release = mechanism.release(records)            # release.log_likelihood (K,), centred, for all the objects

Where records can only take listed values (items, categories), these say it all in the few directions their vectors span:
`public_domain` finds the directions and the largest norm, and noise is added in those directions only. Otherwise the study
names the norm, and the noise fills all K directions. Listed values' integers are made once, from the list alone; a release
then only counts how many records have each, or, in a box, weighs its corners: that takes no time and hangs on no other record.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.privacy import accounting
from epgfn.privacy.claims.claims import Adjacency, Claim, Noise, Stage, Unit
from epgfn.privacy.mechanisms import discrete
from epgfn.privacy.mechanisms.checks import check_parameters
from epgfn.privacy.mechanisms.discrete import Floats, Ints
from epgfn.privacy.mechanisms.release import Values, log_ratio, make_claim, make_stage, noisy
from epgfn.targets.additive import PerRecord

MECHANISM = "noisy sums of centred log-likelihoods"
_GRID_STEPS = 1 << 20  # a clip bound is about so many grid steps, whatever its unit
_NUMBERS = 1 << 21  # log-likelihoods held at once, whatever the number of objects
_MAX_NUMBERS = 1 << 26
_RANK = 1e-9


class Directions(NamedTuple):
    """`basis` (K, d), orthonormal columns that span every record's centred vector; `radius`, the largest norm; `vectors` (C, d), those
    of the listed values in these directions."""

    basis: Floats
    radius: float
    vectors: Floats


class PublicValues(NamedTuple):
    """`vectors` (C, d) of public values, made beforehand. `find`: records -> (n,) int64 rows of it, -1 for any other; or `mix`: records ->
    (n, C) float64 weights of the rows, computed number by number."""

    vectors: Floats
    find: Callable[[Tensor], Tensor] | None = None
    mix: Callable[[Tensor], Tensor] | None = None


def centred(per_record: PerRecord, records: Tensor, objects: Any) -> Floats:
    """(n, K): each record's log-likelihoods less their mean over the objects."""
    terms = per_record(records, objects).double().numpy()
    return np.asarray(terms - terms.mean(1, keepdims=True))


def public_domain(per_record: PerRecord, domain: Tensor, objects: Any) -> Directions:
    """From all values a record can take, which are public: no record of anyone enters.

    Raises:
        UsageError: too many values and objects to hold what each value says.
    """
    if len(domain) * per_record(domain[:1], objects).shape[1] > _MAX_NUMBERS:
        raise UsageError(
            "there are too many values a record can take, or corners of their box, for so many objects; take fewer variables or a "
            "smaller space"
        )
    vectors = centred(per_record, domain, objects)
    left, sizes, right = np.linalg.svd(vectors, full_matrices=False)
    kept = sizes > _RANK * max(float(sizes.max(initial=0.0)), 1e-300)
    radius = float(np.sqrt(np.square(vectors).sum(1)).max(initial=0.0)) * (1 + 1e-9)
    return Directions(right[kept].T, radius, left[:, kept] * sizes[kept])


@dataclass(frozen=True)
class AnswersRelease:
    """`log_likelihood` (K,) float64 nats, noisy and centred, of the objects asked about; `noise` its standard deviation in
    each direction; `outputs` the integers themselves, for an audit."""

    log_likelihood: Tensor
    noise: float
    outputs: tuple[Values]
    stage: Stage
    adjacency: Adjacency
    delta: float
    unit: Unit

    @cached_property
    def claim(self) -> Claim:
        """What the node promises about it."""
        return make_claim("answers", self.adjacency, self.delta, [self.stage], MECHANISM, self.unit)


@dataclass(frozen=True)
class AnswersMechanism:
    """One release for one batch of objects. `radius` the public clip, nats; `basis` (K, d) or None for all K directions; `listed` the
    values that are looked up.

    Raises:
        UsageError: epsilon, delta or radius is out of range.
    """

    per_record: PerRecord
    objects: Any
    n_objects: int
    epsilon: float
    delta: float
    radius: float
    basis: Floats | None = None
    adjacency: Adjacency = "add-remove"
    unit: Unit = "record"
    clip_source: str = "the study: a public norm"
    listed: PublicValues | None = None

    def __post_init__(self) -> None:
        check_parameters(self.epsilon, self.delta)
        if not 1e-6 <= self.radius <= 1e6 or self.n_objects < 2:
            raise UsageError(
                "answers need at least two objects and a clipping norm between 1e-6 and 1e6 nats"
            )

    @classmethod
    def for_domain(
        cls,
        per_record: PerRecord,
        objects: Any,
        domain: Tensor,
        epsilon: float,
        delta: float,
        *,
        find: Callable[[Tensor], Tensor] | None = None,
        mix: Callable[[Tensor], Tensor] | None = None,
        **rest: Any,
    ) -> AnswersMechanism:
        """With the norm and the directions that a public list of all possible records gives; `find` and `mix` as of `PublicValues`.

        Raises:
            UsageError: too many values and objects to hold what each value says.
        """
        found = public_domain(per_record, domain, objects)
        source = "the public list of values a record can take"
        return cls(
            per_record,
            objects,
            len(found.basis),
            epsilon,
            delta,
            found.radius,
            found.basis,
            clip_source=source,
            listed=None if find is None and mix is None else PublicValues(found.vectors, find, mix),
            **rest,
        )

    @property
    def dimension(self) -> int:
        return self.n_objects if self.basis is None else self.basis.shape[1]

    @cached_property
    def grid_bits(self) -> int:
        """So that the clip is about 2^20 grid steps."""
        return max(0, min(40, round(math.log2(_GRID_STEPS / self.radius))))

    @cached_property
    def stage(self) -> Stage:
        """Known before any record is read."""
        bound = discrete.norm_bound(self.radius * (1 + 1e-6) + self._rounding, self.grid_bits)
        moved = (2 if self.adjacency == "replace-one" else 1) * bound

        def scale(mu: float) -> float:
            return moved / mu * (1 + 1e-11)

        mu = accounting.discrete_mu(self.epsilon, self.delta, self.dimension, scale)
        noise = Noise(kind="answers", entries=self.dimension, unit=1, scale=scale(mu))
        return make_stage(
            "answers",
            "vectors",
            [noise],
            self.adjacency,
            norm_bound=bound,
            grid_bits=self.grid_bits,
            clip_source=self.clip_source,
        )

    @property
    def planned_claim(self) -> Claim:
        """What a release will cost, known beforehand."""
        return make_claim("answers", self.adjacency, self.delta, [self.stage], MECHANISM, self.unit)

    def values(self, records: Tensor) -> Values:
        """The exact integers: the sum of the records' clipped, rounded vectors."""
        known, out = self.listed, np.zeros(self.dimension, dtype=np.int64)
        if known is not None and known.find is not None:
            rows = known.find(records)
            there = torch.bincount(rows[rows >= 0], minlength=len(known.vectors))
            out += there.numpy() @ self._table
            records = records[rows < 0]
        if len(records) == 0:
            return {"answers": out}
        times = torch.ones(len(records), dtype=torch.int64)
        if not records.is_floating_point():
            records, times = torch.unique(records, dim=0, return_counts=True)
        size = max(1, _NUMBERS // max(self.n_objects, self.dimension))
        for block, number in zip(torch.split(records, size), torch.split(times, size), strict=True):
            out += number.numpy() @ self._integers(self._vectors(block))
        return {"answers": out}

    def _vectors(self, records: Tensor) -> Floats:
        """(n, d), each record's by itself."""
        if self.listed is None or self.listed.mix is None:
            return self._directed(centred(self.per_record, records, self.objects))
        out = np.zeros((len(records), self.dimension))
        for weight, vector in zip(self.listed.mix(records).numpy().T, self.listed.vectors, strict=True):
            out += weight[:, None] * vector
        return out

    @cached_property
    def _table(self) -> Ints:
        """(C, d): what a record of each listed value adds."""
        vectors = np.zeros((0, self.dimension)) if self.listed is None else self.listed.vectors
        return self._integers(vectors)

    def _integers(self, vectors: Floats) -> Ints:
        return discrete.clipped_rows(vectors, self.stage.norm_bound / 2.0**self.grid_bits, self.grid_bits)

    def _directed(self, rows: Floats) -> Floats:
        """(n, K) -> (n, d) along the basis, each row by itself and in a fixed order."""
        if self.basis is None:
            return rows
        return np.stack([(rows * direction).sum(1) for direction in self._axes], axis=1)

    @cached_property
    def _axes(self) -> Floats:
        basis = np.zeros((0, 0)) if self.basis is None else self.basis
        return np.ascontiguousarray(basis.T)

    def release(self, records: Tensor) -> AnswersRelease:
        """`finish` of `observe`: one release."""
        return self.finish(self.observe(records))

    def observe(self, records: Tensor) -> tuple[Values]:
        """The noisy integers: all that is ever learned of the records. Each call spends epsilon anew."""
        return (noisy(self.values(records), self.stage),)

    def log_ratio(self, release: AnswersRelease, without: Tensor, with_record: Tensor) -> float:
        """How much likelier the release is from the second data set, in nats: the strongest attack there is."""
        return log_ratio(release.outputs[0], self.values(without), self.values(with_record), self.stage)

    @property
    def _rounding(self) -> float:
        """What clipping gives up to rounding, so that no record within the radius is clipped, nats."""
        return (math.sqrt(self.dimension) / 2 + 2) / 2.0**self.grid_bits

    def finish(self, outputs: tuple[Values, ...]) -> AnswersRelease:
        """The release that `observe`d integers make; needs no record and costs nothing."""
        (output,) = outputs
        found = output["answers"] / 2.0**self.grid_bits
        if self.basis is not None:
            found = self.basis @ found
        return AnswersRelease(
            torch.from_numpy(found - found.mean()),
            self.stage.noise[0].scale / 2.0**self.grid_bits,
            (output,),
            self.stage,
            self.adjacency,
            self.delta,
            self.unit,
        )

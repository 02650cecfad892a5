"""Mode `statistic` for linear-Gaussian scores: a noisy (n, X^T X), or (n, sums, X^T X), released once and scored as often as one likes.

Two stages. The first clips records to a public radius and releases a rough statistic for a fifth of mu^2. Whitened with
that, records have about the same spread in every direction, so a ball of radius about 1.4 sqrt(V) clips little and wastes
no noise; they are clipped to it and X^T X is released again for the other four fifths. What comes after is arithmetic on
released numbers (`whitening`).

    mechanism = MomentsMechanism(n_variables=5, epsilon=4.0, delta=1e-5)
    release = mechanism.release(records)            # (n, V), on the study's public scale
    bge.score(release.moments, masks, settings)     # with_sums=True where the score's mean is unknown
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.privacy import accounting
from epgfn.privacy.claims import sensitivity
from epgfn.privacy.claims.claims import Adjacency, Claim, Noise, Stage, Unit
from epgfn.privacy.mechanisms import discrete
from epgfn.privacy.mechanisms import whitening as white
from epgfn.privacy.mechanisms.checks import check_noise, check_parameters
from epgfn.privacy.mechanisms.discrete import GRID_BITS, Floats, Ints
from epgfn.privacy.mechanisms.release import COUNT_BITS, Values, log_ratio, make_claim, make_stage, noisy
from epgfn.targets.gaussian import Moments

MECHANISM = "two-stage whitened second moments"
FIRST_SHARE = 0.2
"""Of mu^2, spent on the rough statistic."""
_SHARES = {"records": 0.2, "products": 0.8}  # of a stage's mu^2
_SHARES_WITH_SUMS = {"records": 0.15, "sums": 0.2, "products": 0.65}
_LEAST_RECORDS = 10.0
_LEAST_FREEDOM = 1e-3
_UNIT = 1 << COUNT_BITS
CLIP_SOURCE = ("the study: a public radius on the public scale", "a rule on what stage one released")


@dataclass(frozen=True)
class MomentsRelease:
    """What may leave: `records` (how many, noisy; public under replace-one) and what a score is computed from, `n`, `sums` (V,) or
    None and `second_moments` (V, V) for X^T X; `covariance` (V, V) about the released mean (without sums, about zero); and the claim.

    `n` is how many records without noise would say as much, and sums and products are scaled to it: a score that takes `n` at its
    word is then as uncertain as it should be. `outputs` are the noisy integers themselves, for an audit.
    """

    n: float
    records: float
    sums: Floats | None
    second_moments: Floats
    covariance: Floats
    outputs: tuple[Values, Values]
    stages: tuple[Stage, Stage]
    adjacency: Adjacency
    delta: float
    unit: Unit = "record"
    rows: int = 1

    @cached_property
    def claim(self) -> Claim:
        """What the node promises about it."""
        return make_claim(
            "statistic", self.adjacency, self.delta, self.stages, MECHANISM, self.unit, self.rows
        )

    @property
    def scatter(self) -> Tensor:
        """X^T X, (V, V) float64, positive definite: what a score with a known mean takes."""
        return torch.from_numpy(self.second_moments)

    @property
    def moments(self) -> Moments:
        """What `targets` scores: about the released mean, or X^T X where no sums were released.

        The covariance C is that of n records with the mean taken out, so its expectation is (n - 1)/n of theirs. Worth n'
        records it has n' - 1 degrees of freedom: the scatter is (n' - 1) n/(n - 1) C, which is that of the records where there
        is no noise, and says nothing where n' is 1.
        """
        if self.sums is None:
            return Moments(self.n, None, self.scatter)
        freedom = max(self.n - 1.0, _LEAST_FREEDOM)
        correction = self.records / (self.records - 1.0)
        mean = torch.from_numpy(self.sums / self.n)
        return Moments(1.0 + freedom, mean, torch.from_numpy(freedom * correction * self.covariance))


@dataclass(frozen=True)
class MomentsMechanism:
    """The two-stage release. `radius` clips stage one, in units of sqrt(V) on the study's scale, and is public.

    Under replace-one the number of records is public and must be given as `n_public`; under add-remove it never leaves. What is
    protected is a `unit` of at most `rows` records: noise is as much larger as they move the statistic further than one.

    Raises:
        UsageError: epsilon, delta or radius out of range, or `n_public` missing or out of place.
    """

    n_variables: int
    epsilon: float
    delta: float
    adjacency: Adjacency = "add-remove"
    radius: float = 1.0
    with_sums: bool = False
    n_public: int | None = None
    unit: Unit = "record"
    rows: int = 1

    def __post_init__(self) -> None:
        check_parameters(self.epsilon, self.delta)
        if (self.adjacency == "replace-one") != (self.n_public is not None):
            raise UsageError(
                "the number of records is given where it is public, that is under replace-one, and only there"
            )
        if not 0.05 <= self.radius <= 100 or self.n_variables < 1:
            raise UsageError("the clipping radius must be between 0.05 and 100 times the root of V")

    @cached_property
    def mu(self) -> float:
        """mu of both stages together."""
        entries = 2 * sum(part.entries for part in self._first(1.0).noise)

        def finest(mu: float) -> float:
            stages = (self._first(mu), self._least_second(mu))
            return min(part.scale for stage in stages for part in stage.noise)

        return accounting.discrete_mu(self.epsilon, self.delta, entries, finest)

    @cached_property
    def first_stage(self) -> Stage:
        """Known before any record is read."""
        return self._first(self.mu)

    @property
    def planned_claim(self) -> Claim:
        """The most a release will cost, known beforehand: the second clip is not yet known, its share of mu^2 is."""
        stages = (self.first_stage, self._least_second(self.mu))
        check_noise(stages)
        return make_claim("statistic", self.adjacency, self.delta, stages, MECHANISM, self.unit, self.rows)

    def second_stage(self, output: Values) -> Stage:
        """Depends on the records through what stage one released, and on nothing else."""
        n, _, _ = _unpacked(output, self.first_stage, self.n_variables, self.n_public)
        mu = math.sqrt(1 - FIRST_SHARE) * self.mu
        relative = 1.4**2 * self.n_variables * self.rows / mu / n
        return self._stage("whitened", white.clip_factor(relative), mu, 1)

    def first_values(self, records: Floats) -> Values:
        """The exact integers of stage one: (n, V) -> what noise is added to."""
        return self._values(records, self.first_stage)

    def second_values(self, records: Floats, output: Values) -> Values:
        """The exact integers of stage two, given what stage one released."""
        w = self._whitening(output)
        return self._values(discrete.product(records - w.centre, w.forward), self.second_stage(output))

    def release(self, records: Floats) -> MomentsRelease:
        """`finish` of `observe`: one release, `records` (n, V) float64 on the study's scale. Raises as `observe`."""
        return self.finish(self.observe(records))

    def observe(self, records: Floats) -> tuple[Values, Values]:
        """The noisy integers of both stages: all that is ever learned of the records. Each call spends epsilon anew.

        Raises:
            ValueError: another number of columns, or of records than the public one.
        """
        if records.ndim != 2 or records.shape[1] != self.n_variables:
            raise ValueError("records must be (n, V)")
        if self.n_public is not None and len(records) != self.n_public:
            raise ValueError("not the public number of records")
        first = noisy(self.first_values(records), self.first_stage)
        second = noisy(self.second_values(records, first), self.second_stage(first))
        return first, second

    def log_ratio(self, release: MomentsRelease, without: Floats, with_record: Floats) -> float:
        """How much likelier the release is from the second data set, in nats: the strongest attack there is."""
        first, second = release.outputs
        return log_ratio(
            first, self.first_values(without), self.first_values(with_record), self.first_stage
        ) + log_ratio(
            second,
            self.second_values(without, first),
            self.second_values(with_record, first),
            self.second_stage(first),
        )

    # --- stages

    def _first(self, mu: float) -> Stage:
        return self._stage("rough", self.radius, math.sqrt(FIRST_SHARE) * mu, 0)

    def _least_second(self, mu: float) -> Stage:
        return self._stage("whitened", white.LEAST_FACTOR, math.sqrt(1 - FIRST_SHARE) * mu, 1)

    @lru_cache(maxsize=128)  # noqa: B019
    def _stage(self, name: str, factor: float, mu: float, which: int) -> Stage:
        m = self.n_variables
        bound = discrete.norm_bound(factor * math.sqrt(m))
        counted = which == 0 and self.n_public is None
        shares = {
            kind: share
            for kind, share in (_SHARES_WITH_SUMS if self.with_sums else _SHARES).items()
            if kind != "records" or counted
        }
        one = {"records": _UNIT, "sums": bound, "products": bound**2}
        scales = {
            kind: one[kind] / math.sqrt(share / sum(shares.values())) / mu for kind, share in shares.items()
        }
        if self.adjacency == "replace-one":
            worst = sensitivity.moments_replace_one(
                bound, scales["sums"] ** -2 if self.with_sums else 0.0, scales["products"] ** -2
            )
            scales = {kind: scale * math.sqrt(worst) / mu for kind, scale in scales.items()}
        scales = {kind: self.rows * scale * (1 + 1e-11) for kind, scale in scales.items()}
        parts = [Noise(kind="records", entries=1, unit=_UNIT, scale=scales["records"])] if counted else []
        if self.with_sums:
            parts.append(Noise(kind="sums", entries=m, unit=1, scale=scales["sums"]))
        parts.append(Noise(kind="squares", entries=m, unit=1, scale=scales["products"]))
        if m > 1:
            pairs = m * (m - 1) // 2
            off = scales["products"] / math.sqrt(2) * (1 + 1e-15)
            parts.append(Noise(kind="products", entries=pairs, unit=1, scale=off))
        return make_stage(
            name,
            "moments",
            parts,
            self.adjacency,
            norm_bound=bound,
            grid_bits=GRID_BITS,
            clip_source=CLIP_SOURCE[which],
            rows=self.rows,
        )

    def _values(self, rows: Floats, stage: Stage) -> Values:
        grid = discrete.clipped_rows(rows, stage.norm_bound / 2**GRID_BITS)
        gram = discrete.gram(grid)
        every: dict[str, Ints] = {
            "records": np.array([len(rows) * _UNIT], dtype=np.int64),
            "sums": discrete.total(grid),
            "squares": np.diagonal(gram).copy(),
            "products": gram[np.triu_indices(len(gram), 1)],
        }
        return {part.kind: every[part.kind] for part in stage.noise}

    # --- after the noise

    def _whitening(self, output: Values) -> white.Whitening:
        n, sums, second = _unpacked(output, self.first_stage, self.n_variables, self.n_public)
        floor = _scale(self.first_stage) * math.sqrt(2 * self.n_variables) / n
        mean = np.zeros(self.n_variables) if sums is None else sums / n
        return white.whitening(second / n, mean, floor)

    def finish(self, outputs: tuple[Values, ...]) -> MomentsRelease:
        """The release that `observe`d integers make; needs no record and costs nothing."""
        first, second = outputs
        m, stage = self.n_variables, self.second_stage(first)
        n, _, _ = _unpacked(first, self.first_stage, m, self.n_public)
        w = self._whitening(first)
        _, sums, moment = _unpacked(second, stage, m, self.n_public)
        shift = np.zeros(m) if sums is None else sums / n
        moment = moment / n - np.outer(shift, shift)
        radius, noise = stage.norm_bound / 2**GRID_BITS, _scale(stage) / n
        covariance = white.unclip(moment, radius, noise)
        worth = white.effective_records(n, covariance, radius, noise)
        mean = w.centre + w.back @ (shift / white.mean_factor(covariance, radius))
        about_mean = w.back @ covariance @ w.back.T
        about_mean = (about_mean + about_mean.T) / 2
        total = worth * mean if self.with_sums else None
        return MomentsRelease(
            worth,
            n,
            total,
            worth * (about_mean + np.outer(mean, mean)),
            about_mean,
            (first, second),
            (self.first_stage, stage),
            self.adjacency,
            self.delta,
            self.unit,
            self.rows,
        )


def _scale(stage: Stage) -> float:
    """Standard deviation of a diagonal entry of the released X^T X, in records' units."""
    return next(part.scale for part in stage.noise if part.kind == "squares") / 4.0**GRID_BITS


def _unpacked(
    output: Values, stage: Stage, m: int, n_public: int | None
) -> tuple[float, Floats | None, Floats]:
    """n, sums or None, X^T X in a record's units, from a stage's noisy integers; n is `n_public` or the noisy one."""
    counted = float(output["records"][0]) / _UNIT if "records" in output else float(n_public or 0)
    second = np.diag(output["squares"].astype(float))
    if m > 1:
        upper = np.triu_indices(m, 1)
        second[upper] = output["products"]
        second[upper[::-1]] = output["products"]
    sums = output["sums"] / 2.0**GRID_BITS if "sums" in output else None
    return max(_LEAST_RECORDS, counted), sums, second / 4.0**GRID_BITS

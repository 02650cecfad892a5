"""What linear-Gaussian scores need of the records: how many, their mean, their scatter; and determinants of its sub-blocks.

    moments = Moments.of_records(x)              (n, V) -> n, mean (V,), scatter (V, V) about that mean
    blocks = factorise(correlation, sets)        log det and rank of each sub-block

Every score of this family is a function of n, the mean and the scatter S = sum (x - mean)(x - mean)^T, through log det of
S[Pa, Pa] and of S[Pa + j, Pa + j]. The mean is taken out of the records before anything is squared, so an offset, however
large, costs no more digits than the records themselves have lost to it. Determinants are those of correlation matrices, so
that units cost nothing either.

A family Pa + j is itself a set, shared by each of its members as the child, so each distinct set is factorised once and
looked up after that. Sets of one size go through one batched Cholesky in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError
from epgfn.gflownet.spaces.parent_sets import families

Mean = Literal["unknown", "known"]

RANK_TOLERANCE = 1e-11
"""A column is a linear combination of others where they leave less than this share of its variance. Rounding leaves about
1e-16 of it, and a column that is measured twice and rounded to six digits 1e-12 or more."""
LEAST_SPREAD_ULPS = 1e4
"""Least standard deviation, in units of the last place of the mean: below it the records' own digits are mostly lost."""
MOST_DEVIATIONS = 100.0
"""Largest standard deviation, in units of what the target expects on the study's scale."""
_FEW_RECORDS = 8
_BATCH_NUMBERS = 1 << 22  # 32 MiB of float64 a batch


class Settings(Protocol):
    """What the scores read of a study's target."""

    @property
    def mean(self) -> Mean: ...
    @property
    def alpha_mu(self) -> float | None: ...
    @property
    def alpha_w(self) -> float | None: ...
    @property
    def t(self) -> float | None: ...
    @property
    def sigma(self) -> float: ...


class DegenerateError(EpgfnError):
    """`columns` (by number, from 0) give no sound score, and `why` ends the sentence that names them."""

    def __init__(self, columns: list[int], why: str) -> None:
        super().__init__(self.sentence([str(column + 1) for column in columns], why))
        self.columns, self.why = columns, why

    @staticmethod
    def sentence(names: list[str], why: str) -> str:
        """What to print, of columns by their names."""
        listed = ", ".join(names)
        return f"the records give no sound, finite score for {'columns' if names[1:] else 'column'} {listed}: {why}"


class Moments(NamedTuple):
    """The sufficient statistic of n records, exact or noisy; n need not be whole.

    `mean` (V,) float64 and `scatter` (V, V) float64 about it. `mean` is None where only products were released: then
    `scatter` is about zero, and only a score with a known mean can be computed. `judged` (V,) bool: the variables whose scores
    are wanted; only these have to vary, and to be on the study's scale, as others may have been set in these records. None: all.
    """

    n: float
    mean: Tensor | None
    scatter: Tensor
    judged: Tensor | None = None

    @classmethod
    def of_records(cls, records: Tensor, judged: Tensor | None = None) -> Moments:
        """(n, V) -> by the corrected two-pass algorithm (Chan, Golub & LeVeque, The American Statistician 37, 1983).

        Raises:
            DegenerateError: a column is not finite, or its spread is lost in the rounding of its mean.
        """
        x = records.double()
        n, first = len(x), x.mean(0)
        rest = x - first
        shift = rest.mean(0)
        scatter = rest.T @ rest - n * torch.outer(shift, shift)
        if judged is not None and n > 1:  # what rounding leaves of a constant column is no spread
            spread = (scatter.diagonal() / n).sqrt()
            still = ~judged & (
                spread < LEAST_SPREAD_ULPS * torch.finfo(torch.float64).eps * (first + shift).abs()
            )
            scatter = scatter.masked_fill(still[:, None] | still, 0.0)
        made = cls(float(n), first + shift, scatter, judged)
        _require(
            torch.isfinite(scatter.diagonal()),
            "its numbers must be finite and of ordinary size; check centre and scale",
        )
        if n > 1:
            unit = torch.finfo(torch.float64).eps * (first + shift).abs()
            _require(
                _or_unjudged((scatter.diagonal() / n).sqrt() >= LEAST_SPREAD_ULPS * unit, judged),
                "it is constant, or so far from its centre that rounding leaves little of its spread; set a centre near its mean",
            )
        return made

    @classmethod
    def pooled(cls, parts: Sequence[Moments]) -> Moments:
        """Of the records of all parts together, from theirs alone (Chan, Golub & LeVeque 1983). Of noisy parts, each worth n records, it is
        the mean weighted by what each is worth, which has the least variance, and is worth their sum. `judged` is the first one's.

        Raises:
            ValueError: there are none, or only some have a mean.
        """
        if not parts or len({part.mean is None for part in parts}) > 1:
            raise ValueError("parts to pool are one or more, all with a mean or all without")
        n, scatter = sum(part.n for part in parts), torch.stack([part.scatter for part in parts]).sum(0)
        means = [part.mean for part in parts if part.mean is not None]
        if not means:
            return cls(n, None, scatter, parts[0].judged)
        share = torch.tensor([part.n for part in parts], dtype=torch.float64) / n
        from_first = torch.stack(means) - means[0]  # so that an offset which all have costs no digits
        shift = share @ from_first
        apart = from_first - shift
        between = n * (apart * share[:, None]).T @ apart
        return cls(n, means[0] + shift, scatter + between, parts[0].judged)

    @property
    def about_zero(self) -> Tensor:
        """X^T X (V, V), zero being the study's public centre."""
        if self.mean is None:
            return self.scatter
        return self.scatter + self.n * torch.outer(self.mean, self.mean)

    def about_mean(self) -> Tensor:
        """The scatter about the mean.

        Raises:
            ValueError: the mean was not released.
        """
        if self.mean is None:
            raise ValueError("a score with an unknown mean needs the sums of the records")
        return self.scatter

    def of_score(self, mean: Mean) -> Tensor:
        """The scatter that a score with this mean takes: about the records' own, or about zero. Errors as above."""
        return self.about_zero if mean == "known" else self.about_mean()


class Blocks(NamedTuple):
    """Of each of M sets: `log_det` (M,) float64 of the block of its first independent members, nats, and `rank` (M,) int64, how many
    these are. The empty set has 0 and 0."""

    log_det: Tensor
    rank: Tensor


def correlation(scatter: Tensor) -> Tensor:
    """scatter_ij / sqrt(scatter_ii scatter_jj): (V, V) -> (V, V); a column without spread has zeros beside a one."""
    root = scatter.diagonal().clamp_min(0).sqrt()
    inverse = torch.where(root > 0, 1 / root, 0.0)
    out = scatter * inverse[:, None] * inverse
    return out - torch.diag(out.diagonal()) + torch.eye(len(out), dtype=out.dtype)


def factorise(matrix: Tensor, sets: Tensor, tolerance: float = RANK_TOLERANCE) -> Blocks:
    """Cholesky of matrix[A, A] for each set A of `sets`: correlations (V, V), (M, V) bool.

    Members are taken in ascending order, and one that the members before it leave less than `tolerance` of is left out. Hence,
    where j raises the rank of A, log det of A + j less log det of A is the log share of j's variance that A leaves.
    """
    n_variables = matrix.shape[0]
    sizes = sets.sum(1)
    log_det = torch.zeros(len(sets), dtype=torch.float64)
    rank = torch.zeros(len(sets), dtype=torch.int64)
    for size in range(1, n_variables + 1):
        for rows in torch.split((sizes == size).nonzero()[:, 0], max(1, _BATCH_NUMBERS // size**2)):
            members = sets[rows].nonzero()[:, 1].view(-1, size)  # (B, r)
            blocks = matrix[members[:, :, None], members[:, None, :]]  # (B, r, r)
            for k in range(size):
                pivot = blocks[:, k, k]
                sound = pivot > tolerance
                pivot = torch.where(sound, pivot, 1.0)
                log_det[rows] += pivot.log()
                rank[rows] += sound
                column = blocks[:, k + 1 :, k] * torch.where(sound, pivot.rsqrt(), 0.0)[:, None]
                blocks[:, k + 1 :, k + 1 :] -= column[:, :, None] * column[:, None, :]
    return Blocks(log_det, rank)


class Families(NamedTuple):
    """`Blocks` of K parent sets, `parents` (K,), and of each with child j added, `families` (V, K). Where j is in the set itself the
    second equals the first: callers rule those out."""

    parents: Blocks
    families: Blocks


def factorise_families(matrix: Tensor, sets: Tensor, tolerance: float = RANK_TOLERANCE) -> Families:
    """For all K parent sets and all V children; each distinct set is factorised once."""
    distinct, where = families(sets)
    log_det, rank = factorise(matrix, distinct, tolerance)
    return Families(Blocks(log_det[where[0]], rank[where[0]]), Blocks(log_det[where[1:]], rank[where[1:]]))


def log_unexplained(scatter: Tensor, sets: Tensor) -> Tensor:
    """log of RSS_j(Pa) / S_jj, the share of j's scatter that Pa leaves: (V, V), (K, V) bool -> (V, K) float64, by rank: a parent that is a
    combination of others adds nothing, and -inf where j itself is one; also where j is in Pa."""
    found = factorise_families(correlation(scatter), sets)
    left = (found.families.log_det - found.parents.log_det).clamp_max(0.0)
    return torch.where(found.families.rank > found.parents.rank, left, -torch.inf)


def require_scale(scatter: Tensor, n: float, expected: float, judged: Tensor | None = None) -> None:
    """Refuse columns whose spread is nothing like what the target expects on the study's scale: (V, V) about what the score takes for
    the mean, n, and a variance. `judged` (V,) bool: look at these columns only.

    Such a target weighs an edge by the scale as well as by the records. Between independent columns of n records, standard
    deviation s and S = n s^2, the factor of an edge under BGe is about sqrt(n/2) / (1 + S/t): where S is below
    t (sqrt(n/2) - 1) / 2 the scale alone speaks for edges, and with s = 100 sqrt(t) it speaks against each with 9 nats.

    Raises:
        DegenerateError: naming them.
    """
    sums = scatter.diagonal()
    _require(
        _or_unjudged(sums <= n * MOST_DEVIATIONS**2 * expected, judged),
        f"it varies more than {MOST_DEVIATIONS:g} times as much as the target expects on the study's scale; set a scale near its "
        "standard deviation",
    )
    if n >= _FEW_RECORDS:
        _require(
            _or_unjudged(sums >= expected * (math.sqrt(n / 2) - 1) / 2, judged),
            "it varies far less than the target expects on the study's scale; set a scale near its standard deviation",
        )


def _or_unjudged(sound: Tensor, judged: Tensor | None) -> Tensor:
    return sound if judged is None else sound | ~judged


def _require(sound: Tensor, why: str) -> None:
    if not bool(sound.all()):
        raise DegenerateError((~sound).nonzero()[:, 0].tolist(), why)

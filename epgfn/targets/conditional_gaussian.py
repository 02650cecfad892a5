"""Conditional Gaussian: the marginal likelihood of a network of categories and numbers, in which no number is the parent of a category.

A category's parents are categories, and its score is BDeu. A number's parents may be both. With c the combination of its category parents
that a record shows, x_Pa its number parents, and `covariance` "common":

    x_j = b_c + b^T x_Pa + e,   e ~ N(0, s),   b_c ~ N(0, s / alpha_mu),   b ~ N(0, s / t I),   1 / s ~ Gamma(a / 2, rate t / 2),

a = alpha_w - N + |Pa| + 1, N how many of the variables are numbers. This is BGe (`epgfn.targets.bge`) with a mean for each combination,

    R = t I + sum over c of (S_c + n_c alpha_mu / (n_c + alpha_mu) m_c m_c^T),

S_c the scatter of the n_c records that show c about their mean m_c; what no record shows adds nothing. With `covariance` "own" each
combination has coefficients b and noise s of its own as well: the sum over c of BGe's scores of its records, R_c in place of R.

Lauritzen & Wermuth, Annals of Statistics 17 (1989), for the distributions, homogeneous ones and others; Bottcher, AISTATS 2001, for scores
of such networks, whose prior this is but for its weight, which is the same in each combination.

The mean cannot be left unknown with a flat prior as in BGe: graphs differ by how many means they have, and the factor that each of
them leaves undetermined would decide between graphs.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.spaces.parent_sets import families
from epgfn.targets.bdeu import bdeu
from epgfn.targets.gaussian import DegenerateError, Moments, require_scale

_BATCH_NUMBERS = 1 << 22  # 32 MiB of float64 a batch


class Settings(Protocol):
    """What the score reads of a study's target."""

    @property
    def alpha_mu(self) -> float: ...
    @property
    def alpha_w(self) -> float | None: ...
    @property
    def t(self) -> float: ...
    @property
    def sample_size(self) -> float: ...
    @property
    def covariance(self) -> Literal["common", "own"]: ...


def conditional_gaussian(
    records: Tensor, categories: Tensor, sets: Tensor, settings: Settings, judged: Tensor | None = None
) -> Tensor:
    """log p(D_j | D_Pa) of every variable and parent set, in nats.

    Args:
        records: (n, V) float64: numbers on the study's scale, and places of categories, 0 to r_i - 1.
        categories: (V,) int64, r_i of a variable of categories, 0 of numbers.
        sets: (K, V) bool parent sets.
        judged: (V,) bool: the variables whose scores are wanted; only these have to vary and to be on the scale. None: all.

    Returns:
        (V, K) float64; undefined where j is in Pa, or j is of categories and Pa has a number; 0 where there are no records.

    Raises:
        UsageError: a setting is impossible. DegenerateError: a column of numbers is constant, or far off the study's scale.
    """
    _check(settings, int((categories == 0).sum()))
    x = records.double()
    out = torch.zeros(x.shape[1], len(sets), dtype=torch.float64)
    if len(x) == 0:
        return out
    numbers, others = (categories == 0).nonzero()[:, 0], (categories > 0).nonzero()[:, 0]
    of_numbers, of_categories = sets[:, numbers], sets[:, others]
    if len(others):
        free = (~of_numbers.any(1)).nonzero()[:, 0]
        codes = x[:, others].long()
        found = bdeu(codes, categories[others], of_categories[free], sample_size=settings.sample_size)
        out[others[:, None], free] = found
    if len(numbers):
        y = x[:, numbers]
        _require_sound(y, numbers, settings.t, judged)
        which = _numbered(of_categories)
        for place in range(int(which.max()) + 1):
            columns = (which == place).nonzero()[:, 0]
            shown = x[:, others[of_categories[columns[0]]]]
            found = _of_groups(y, _numbered(shown), of_numbers[columns], settings)
            out[numbers[:, None], columns] = found
    return out


def _numbered(rows: Tensor) -> Tensor:
    """(n, m) of whatever -> (n,) int64: equal rows have one number, counted from 0 without gaps."""
    if rows.shape[1] == 0:
        return torch.zeros(len(rows), dtype=torch.int64)
    found: Tensor = torch.unique(rows, dim=0, return_inverse=True)[1]
    return found


def _of_groups(y: Tensor, group: Tensor, sets: Tensor, settings: Settings) -> Tensor:
    """(N, M) float64: the score of each of (n, N) numbers with parents among them, (M, N) bool, the records of each `group` (n,) with means
    of their own, or with coefficients and noise of their own too."""
    n, mean, scatter = _moments(y, group)
    alpha_mu, t, count = settings.alpha_mu, settings.t, y.shape[1]
    pull = n * alpha_mu / (n + alpha_mu)
    r = scatter + pull[:, None, None] * mean[:, :, None] * mean[:, None]
    means = (torch.log(alpha_mu / (n + alpha_mu)) / 2).sum()
    if settings.covariance == "common":
        n, r = n.sum(0, keepdim=True), r.sum(0, keepdim=True)
    r = r + t * torch.eye(count, dtype=torch.float64)
    distinct, where = families(sets)
    log_det = _log_dets(r, distinct)  # (C, M')
    size = sets.sum(1).double()
    below = _degrees(settings, count) - count + size
    n = n[:, None]
    ends = (
        torch.lgamma((n + below + 1) / 2)
        - torch.lgamma((below + 1) / 2)
        - n / 2 * math.log(math.pi)
        + (below + size + 1) / 2 * math.log(t)
        + (n + below) / 2 * log_det[:, where[0]]
    ).sum(0)
    heads = [((n + below + 1) / 2 * log_det[:, whose]).sum(0) for whose in where[1:]]
    return ends + means - torch.stack(heads)


def _moments(y: Tensor, group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many records each of C groups has, (C,), their means (C, N) and their scatter about them (C, N, N), as `Moments` has them."""
    count, wide = int(group.max()) + 1, y.shape[1]
    n = torch.bincount(group, minlength=count).double()
    mean = torch.zeros(count, wide, dtype=torch.float64).index_add_(0, group, y) / n[:, None]
    rest = y - mean[group]
    shift = torch.zeros(count, wide, dtype=torch.float64).index_add_(0, group, rest) / n[:, None]
    rest, mean = rest - shift[group], mean + shift
    scatter = torch.zeros(count, wide * wide, dtype=torch.float64)
    for rows in torch.split(torch.arange(len(y)), max(1, _BATCH_NUMBERS // wide**2)):
        products = rest[rows][:, :, None] * rest[rows][:, None]
        scatter.index_add_(0, group[rows], products.flatten(1))
    return n, mean, scatter.view(count, wide, wide)


def _log_dets(r: Tensor, sets: Tensor) -> Tensor:
    """log det of r[c, A, A] for each of C positive definite matrices (C, N, N) and M sets (M, N) bool: (C, M) float64."""
    sizes = sets.sum(1)
    out = torch.zeros(len(r), len(sets), dtype=torch.float64)
    for size in range(1, r.shape[1] + 1):
        for rows in torch.split(
            (sizes == size).nonzero()[:, 0], max(1, _BATCH_NUMBERS // (len(r) * size**2))
        ):
            members = sets[rows].nonzero()[:, 1].view(-1, size)  # (B, s)
            if not len(members):
                continue
            blocks = r[:, members[:, :, None], members[:, None, :]]  # (C, B, s, s)
            pivots = torch.linalg.cholesky(blocks).diagonal(dim1=-2, dim2=-1)
            out[:, rows] = 2 * pivots.log().sum(-1)
    return out


def _require_sound(y: Tensor, numbers: Tensor, t: float, judged: Tensor | None) -> None:
    """Raises:
    DegenerateError: as the constructor of `Moments` and `require_scale`, by the columns of all records.
    """
    wanted = None if judged is None else judged[numbers]
    try:
        moments = Moments.of_records(y, wanted)
        require_scale(moments.about_mean(), moments.n, t, wanted)
    except DegenerateError as error:
        raise DegenerateError([int(numbers[column]) for column in error.columns], error.why) from None


def _degrees(settings: Settings, count: int) -> float:
    return count + 2.0 if settings.alpha_w is None else settings.alpha_w


def _check(settings: Settings, count: int) -> None:
    if _degrees(settings, count) <= count + 1:
        raise UsageError(
            f"target.alpha_w must be above the number of variables of numbers plus one ({count + 1}); leave it out for {count + 2}"
        )
    if not (settings.alpha_mu > 0 and settings.t > 0):
        raise UsageError("target.alpha_mu and target.t must be above zero")

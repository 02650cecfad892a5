"""What somebody who reads a policy by sinks can work out about the records: the arithmetic of the membership attacks.

The artifact carries the score table phi. With zero-mean BGe its differences are, for each set Y of two or more of V variables,

    g(Y) = c(|Y|, n) - (n + a_|Y|)/2 log det R_YY + (n + a_1)/2 sum over i in Y of log R_ii,    R = t I + X^T X,  a_l = 2 + l,

which are 2^V - V - 1 equations in V (V + 1)/2 unknowns: `read_statistic` solves them, so whoever has the table has X^T X. From it

    log p(S | x in) - log p(S | x not in)
        = (n - V - 2)/2 log(1 - x' S^-1 x) - log det(S)/2 + x' Sigma^-1 x/2 + c

decides whether x was among n Gaussian records of covariance Sigma, as well as can be decided by anyone who knows Sigma and not the
other records: a difference of two Wishart log-densities (`known_population`). Where noise was added that density is not known;
`Shadows` stands in for it with releases of made-up records from the same population (LiRA: Carlini et al., IEEE S&P 2022).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.spaces.parent_sets import parent_matrix, popcount

PRIOR_SCALE = 0.5  # t of the default BGe settings: alpha_mu / (alpha_mu + 1)
EXPLAINED = 5e-4
"""Misfit in nats below which scores count as explained: float32 leaves about 1e-5 to 1e-4."""
_STEPS, _DAMPING = 40, 1e-3


class Readout(NamedTuple):
    """`second_moments` R (B, V, V) float64, and `misfit` (B,), the root mean square error of the g(Y) that it explains, nats."""

    second_moments: Tensor
    misfit: Tensor


def set_scores(table: Tensor, masks: Tensor) -> Tensor:
    """g(Y) of all sets, by mask, 0 for those of fewer than two: (B, V, K) local scores up to a constant a variable -> (B, 2^V) float64.

    Each g(Y) is the mean over j in Y of phi_j(Y - j) - phi_j(none) + g(Y - j).
    """
    b, v, _ = table.shape
    slot = torch.zeros(1 << v, dtype=torch.int64)
    slot[masks] = torch.arange(len(masks))
    gain = table.double() - table.double()[:, :, :1]
    g = torch.zeros(b, 1 << v, dtype=torch.float64)
    sets = torch.arange(1 << v)
    for size in range(2, v + 1):
        level = sets[popcount(sets) == size]
        total = torch.zeros(b, len(level), dtype=torch.float64)
        for j in range(v):
            holds = (level >> j & 1) == 1
            rest = level[holds] ^ (1 << j)
            total[:, holds] += gain[:, j, slot[rest]] + g[:, rest]
        g[:, level] = total / size
    return g


def predicted_scores(second_moments: Tensor, n: Tensor) -> Tensor:
    """g(Y) of all sets from R: (B, V, V), (B,) -> (B, 2^V) float64."""
    return _predict(second_moments, n)[0]


def read_statistic(scores: Tensor, n: Tensor, mixing: Tensor, starts: Tensor) -> Readout:
    """R from g(Y), by damped least squares, from one start after the other until it explains the scores; the best is kept.

    Args:
        scores: (B, 2^V). n: (B,) number of records, as the model's maker counted. mixing: (V, V), records are noise @ mixing.
        starts: (A, V, V) second moments of a record in units of `mixing`, the identity among them.
    """
    best = Readout(
        torch.full((len(scores), *mixing.shape), math.nan, dtype=torch.float64),
        scores.new_full((len(scores),), math.inf),
    )
    for start in starts:
        left = torch.nonzero(best.misfit > EXPLAINED)[:, 0]
        if not len(left):
            break
        found = _fit(scores[left], n[left], mixing, start.expand(len(left), -1, -1))
        better = found.misfit < best.misfit[left]
        best.second_moments[left[better]] = found.second_moments[better]
        best.misfit[left[better]] = found.misfit[better]
    return best


def known_population(scatter: Tensor, n: int, records: Tensor, mixing: Tensor) -> Tensor:
    """The module's log-likelihood ratio up to a constant: X^T X (B, V, V), n, one record each (B, V) -> (B,)."""
    v = scatter.shape[1]
    within = torch.einsum("bi,bi->b", records, torch.linalg.solve(scatter, records))
    white = records @ torch.linalg.inv(mixing)
    ratio: Tensor = (n - v - 2) / 2 * torch.log1p(-within.clamp(max=1 - 1e-9))
    ratio += white.square().sum(1) / 2 - torch.linalg.slogdet(scatter)[1] / 2
    return ratio


class Shadows:
    """Gaussian stand-in for what is read where the target record is not among the records, from (M, F) features of shadow releases."""

    def __init__(self, features: Tensor) -> None:
        self.mean = features.mean(0)
        spread = (features - self.mean).T @ (features - self.mean) / (len(features) - 1)
        self.precision = torch.linalg.pinv(spread + 1e-9 * spread.diagonal().mean() * torch.eye(len(spread)))

    def log_ratio(self, features: Tensor, shift: Tensor) -> Tensor:
        """(B, F) features and how far the target record would move them, (B, F) -> (B,)."""
        towards = shift @ self.precision
        ratio: Tensor = (towards * (features - self.mean)).sum(1) - (towards * shift).sum(1) / 2
        return ratio


def shift_of(white: Tensor, n: int, radius: float = math.inf) -> Tensor:
    """How far a record moves the mean second moment of n, where it stands for an average one: (B, V) whitened, clipped to `radius`,
    -> (B, V, V)."""
    norm = white.square().sum(1, keepdim=True).sqrt()
    inside = white * (radius / norm).clamp_max(1.0)
    return (inside[:, :, None] * inside[:, None] - torch.eye(white.shape[1], dtype=white.dtype)) / n


def whitened(second_moments: Tensor, n: Tensor, mixing: Tensor) -> Tensor:
    """(B, V, V) in units of a record and of `mixing`: the identity, on average."""
    inverse = torch.linalg.inv(mixing)
    white: Tensor = inverse.T @ second_moments @ inverse / n[:, None, None]
    return white


def upper(matrices: Tensor) -> Tensor:
    """(B, V, V) -> (B, V (V + 1)/2): the upper triangle."""
    row, column = torch.triu_indices(*matrices.shape[1:])
    return matrices[:, row, column]


def _fit(scores: Tensor, n: Tensor, mixing: Tensor, start: Tensor) -> Readout:
    v = len(mixing)
    several = popcount(torch.arange(1 << v)) >= 2
    row, column = torch.triu_indices(v, v)
    twice = torch.where(row == column, 1.0, 2.0).double()
    units = start.clone()
    damping = torch.full((len(scores),), _DAMPING, dtype=torch.float64)
    back = mixing.T, mixing

    def residual(units: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        moments = n[:, None, None] * (back[0] @ units @ back[1])
        explained, slope = _predict(moments, n)
        missing = (scores - explained)[:, several]
        return missing, slope[:, several], missing.square().mean(1).nan_to_num(torch.inf)

    missing, slope, cost = residual(units)
    for _ in range(_STEPS):
        if bool(((cost.sqrt() < EXPLAINED / 20) | (damping > 1e6)).all()):
            break
        turned = n[:, None, None, None] * (mixing @ slope @ mixing.T)
        jacobian = turned[:, :, row, column] * twice  # (B, Y, F)
        normal = jacobian.transpose(1, 2) @ jacobian
        diagonal = normal.diagonal(dim1=1, dim2=2)
        normal = normal + torch.diag_embed(diagonal * damping[:, None] + 1e-12)
        step = torch.linalg.solve(normal, (jacobian.transpose(1, 2) @ missing[:, :, None]))[:, :, 0]
        change = torch.zeros_like(units)
        change[:, row, column] = step
        change[:, column, row] = step
        tried = units + change
        positive = torch.linalg.eigvalsh(tried.nan_to_num(0.0))[:, 0] > 1e-4
        new_missing, new_slope, new_cost = residual(torch.where(positive[:, None, None], tried, units))
        taken = positive & (new_cost < cost)
        units = torch.where(taken[:, None, None], tried, units)
        missing = torch.where(taken[:, None], new_missing, missing)
        slope = torch.where(taken[:, None, None, None], new_slope, slope)
        cost = torch.where(taken, new_cost, cost)
        damping = torch.where(taken, damping / 5, damping * 5).clamp(1e-12, 1e8)
    return Readout(n[:, None, None] * (back[0] @ units @ back[1]), cost.sqrt())


def _predict(moments: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    """g(Y), (B, 2^V), and its derivative by R, (B, 2^V, V, V)."""
    v = moments.shape[1]
    sets = torch.arange(1 << v)
    held = parent_matrix(sets, v).double()  # (Y, V)
    size = popcount(sets)
    block = held[:, :, None] * held[:, None]
    padded = moments[:, None] * block + torch.diag_embed(1 - held)
    freedom = size + 2.0
    log_det = torch.linalg.slogdet(padded)[1]
    alone = moments.diagonal(dim1=1, dim2=2)
    constant = torch.stack([_constant(n, s) - s * _constant(n, 1) for s in range(v + 1)], 1)  # (B, V + 1)
    g = constant[:, size] - (n[:, None] + freedom) / 2 * log_det
    g = g + (n[:, None] + 3) / 2 * (alone.log() @ held.T)
    inverse = torch.linalg.inv(padded) * block
    slope = -(n[:, None] + freedom)[:, :, None, None] / 2 * inverse
    slope = slope + (n + 3)[:, None, None, None] / 2 * torch.diag_embed(held / alone[:, None])
    return torch.where(size >= 2, g, 0.0), slope


def _constant(n: Tensor, size: int) -> Tensor:
    """(B,): log p(D_Y) less what depends on R."""
    if size == 0:
        return torch.zeros_like(n)
    freedom = size + 2.0
    prior = torch.mvlgamma(torch.tensor(freedom / 2, dtype=torch.float64), size)
    own = size * freedom / 2 * math.log(PRIOR_SCALE) - size * n / 2 * math.log(math.pi)
    return torch.mvlgamma((n + freedom) / 2, size) - prior + own

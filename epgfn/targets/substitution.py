"""How a site changes along a branch: time-reversible models of nucleotides, scaled so that a branch's length is the expected number of
changes per site, with rates that differ from site to site.

    jc69    all changes alike (Jukes & Cantor 1969)
    hky     base frequencies pi and kappa, how many times faster transitions (A-G, C-T) are than each transversion
            (Hasegawa, Kishino & Yano, Journal of Molecular Evolution 22, 1985)

`speeds` are four equally likely rates of a site with mean one: the means of the quarters of a gamma distribution of shape and rate
alpha (Yang, Journal of Molecular Evolution 39, 1994).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import UsageError

CATEGORIES = 4
"""Rates of a site where they differ."""
BASES = 4


class Substitution(NamedTuple):
    """`rates` (4, 4) float64: row x, column y: the rate of changes of x into y. P(t) = right diag(exp(values t)) left, all float64:
    `values` (4,), `left` and `right` (4, 4). `frequencies` (4,) of A, C, G, T. `speeds` (K,): the rates a site may have, each with
    probability 1 / K."""

    rates: Tensor
    values: Tensor
    left: Tensor
    right: Tensor
    frequencies: Tensor
    speeds: Tensor

    @property
    def alike(self) -> bool:
        """Whether bases may be renamed: all changes are equally fast."""
        return bool((self.frequencies == 1 / BASES).all()) and bool(
            self.rates.diagonal(1).allclose(self.rates[0, 2])
        )

    def changes(self, length: Tensor) -> Tensor:
        """Branch lengths of any shape (...) -> (..., K, 4, 4): row x, column y: how probable y is at the end of a branch that
        begins with x."""
        times = length[..., None, None] * self.speeds[:, None]  # (..., K, 1)
        decay = (times * self.values).exp()  # (..., K, 4)
        return (self.right * decay[..., None, :]) @ self.left


def jc69(alpha: float | None = None) -> Substitution:
    """All changes alike; `alpha` of the gamma distribution of rates, None: all sites alike.

    Raises:
        UsageError: alpha is not above zero.
    """
    return hky([0.25] * BASES, 1.0, alpha)


def hky(frequencies: Sequence[float], kappa: float, alpha: float | None = None) -> Substitution:
    """`frequencies` of A, C, G, T, which are scaled to sum to one.

    Raises:
        UsageError: a frequency, kappa or alpha is not above zero.
    """
    pi = np.asarray(frequencies, dtype=np.float64)
    if pi.shape != (BASES,) or not (np.isfinite(pi).all() and (pi > 0).all()):
        raise UsageError("a substitution model needs four base frequencies above zero; correct them")
    if not (np.isfinite(kappa) and kappa > 0):
        raise UsageError("kappa must be above zero; correct it")
    pi = pi / pi.sum()
    purine = np.array([True, False, True, False])
    q = np.where(purine[:, None] == purine, kappa, 1.0) * pi
    np.fill_diagonal(q, 0.0)
    np.fill_diagonal(q, -q.sum(1))
    q /= -(pi * np.diag(q)).sum()
    root = np.sqrt(pi)
    values, vectors = np.linalg.eigh(root[:, None] * q / root)
    parts = (q, values, vectors.T * root, vectors / root[:, None], pi, speeds(alpha))
    return Substitution(*(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))


def renamed(codes: Tensor) -> Tensor:
    """(n, sites) codes as `jc69.compress` takes them, the bases of each site renamed such that sites which are the same up to names are
    the same."""
    ways = torch.tensor(list(itertools.permutations(range(BASES))))  # (24, 4)
    bits = (torch.arange(1 << BASES)[:, None] >> torch.arange(BASES)) & 1
    table = (bits[None] << ways[:, None]).sum(2).to(torch.uint8)  # (24, 16)
    best = torch.ones(len(ways), codes.shape[1], dtype=torch.bool)
    for row in codes.long():  # of the names that are left, those with the smallest code for this taxon
        value = torch.where(best, table[:, row].int(), 1 << BASES)
        best = value == value.amin(0)
    found: Tensor = table[best.to(torch.uint8).argmax(0), codes.long()]
    return found


def speeds(alpha: float | None) -> np.ndarray:
    """(K,) float64 rates with mean one: those of a gamma distribution by quarters, or one."""
    if alpha is None:
        return np.ones(1)
    if not (np.isfinite(alpha) and alpha > 0):
        raise UsageError("alpha must be above zero; correct it")
    from scipy.special import gammainc, gammaincinv  # loaded here: other kinds of study need no SciPy

    bounds = gammaincinv(alpha, np.arange(CATEGORIES + 1) / CATEGORIES)
    found: np.ndarray = CATEGORIES * np.diff(gammainc(alpha + 1, bounds))
    return found

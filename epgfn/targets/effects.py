"""Total causal effects in linear-Gaussian networks, given graphs: what BGe's posterior of coefficients says of them.

    families = Families.of(precision, graphs)        of each graph and variable what its family says
    means = total(families.means(rows))              E[effect | graph], exactly
    draws = total(families.drawn(rows, generator))   effects of coefficients drawn from their posterior

A graph's variable j with parents Pa is x_j = b^T x_Pa + noise of variance s. By parameter modularity (Geiger & Heckerman 2002)
b and s have, given the records, the distribution that the posterior of W gives the block of the family, Wishart with
nu = alpha_w + n - V + |Pa| + 1 degrees of freedom and parametric matrix R:

    1/s ~ Gamma(nu / 2, rate R_jj.Pa / 2),      b | s ~ N(R_PaPa^-1 R_Pa,j, s R_PaPa^-1),

R_jj.Pa = R_jj - R_j,Pa R_PaPa^-1 R_Pa,j, independently for all variables. Raising x_i by one, from outside, raises x_j by the sum over
all directed paths of the products of their coefficients, [(I - B)^-1]_ij with B_ij the coefficient of i -> j (Wright 1934; Pearl 2009).
No path meets a variable twice, so the factors of each product are independent and the mean effect is the same function of the mean
coefficients. Averaged over graphs of their posterior: Viinikka et al., NeurIPS 2020; Pensar et al., AAAI 2020.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from epgfn.targets.bge import Precision


class Families(NamedTuple):
    """Of the U different families in B graphs, of at most P parents: `parents` (U, P) int64, the variable itself where there are fewer;
    `mean` (U, P) float64 coefficients, 0 there; `root` (U, P, P), whose product with independent normals and the standard deviation of
    the noise is how coefficients depart from it; `shape` and `rate` (U,) of the gamma distribution of 1/s; and `row` (B, V) int64, which
    family a graph's variable has."""

    parents: Tensor
    mean: Tensor
    root: Tensor
    shape: Tensor
    rate: Tensor
    row: Tensor

    @classmethod
    def of(cls, known: Precision, graphs: Tensor) -> Families:
        """(B, V, V) bool graphs, [b, i, j] = i -> j."""
        b, v, _ = graphs.shape
        child = torch.arange(v).repeat(b)[:, None]
        told = torch.cat([child, graphs.mT.reshape(-1, v).long()], 1)  # (B V, 1 + V)
        different, row = torch.unique(told, dim=0, return_inverse=True)
        j, is_parent = different[:, 0], different[:, 1:]
        most = int(is_parent.sum(1).max())
        there, parents = is_parent.sort(dim=1, descending=True, stable=True)
        there, parents = there[:, :most].double(), parents[:, :most]
        parents = torch.where(there > 0, parents, j[:, None])
        eye = torch.eye(most, dtype=torch.float64)
        both = there[:, :, None] * there[:, None, :]
        block = known.r[parents[:, :, None], parents[:, None, :]] * both + eye * (1 - there)[:, :, None]
        lower = torch.linalg.cholesky(block)
        towards = known.r[parents, j[:, None]] * there
        mean = torch.cholesky_solve(towards[:, :, None], lower)[:, :, 0]
        root = torch.linalg.solve_triangular(lower.mT, eye.expand_as(block), upper=True) * both
        left = known.r.diagonal()[j] - (towards * mean).sum(1)
        degrees = known.degrees - v + there.sum(1) + 1
        return cls(parents, mean, root, degrees / 2, left / 2, row.view(b, v))

    def means(self, rows: Tensor) -> Tensor:
        """(N, V, V) mean coefficients [i, j] of i -> j in the graphs `rows`, (N,) int64."""
        return self._placed(rows, self.mean[self.row[rows]])

    def drawn(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """One draw from the posterior of the coefficients of each of the graphs `rows`."""
        which = self.row[rows]  # (N, V)
        precision = torch._standard_gamma(self.shape[which], generator=generator) / self.rate[which]
        mean = self.mean[which]  # (N, V, P)
        normal = torch.randn(mean.shape, dtype=torch.float64, generator=generator)
        away = (self.root[which] @ normal[..., None])[..., 0] * precision.rsqrt()[..., None]
        return self._placed(rows, mean + away)

    def _placed(self, rows: Tensor, coefficients: Tensor) -> Tensor:
        """(N, V, P) by child and place among its parents -> (N, V, V) by parent and child."""
        n, v, _ = coefficients.shape
        out = torch.zeros(n, v, v, dtype=torch.float64)  # [n, child, parent]
        return out.scatter_add(2, self.parents[self.row[rows]], coefficients).mT


def total(coefficients: Tensor) -> Tensor:
    """(N, V, V) coefficients of acyclic graphs -> total effects [i, j] of i on j, ones on the diagonal."""
    found: Tensor = torch.linalg.inv(torch.eye(coefficients.shape[1], dtype=torch.float64) - coefficients)
    return found

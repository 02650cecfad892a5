"""Log-determinants of sub-blocks: all that linear-Gaussian scores need from the records.

Every score of this family is a function of the sufficient statistic X^T X through log det S[Pa, Pa] and
log det S[Pa + j, Pa + j]. A family Pa + j is itself a set, shared by each of its members as the child, so each distinct
set is factorised once and looked up after that. Sets of one size go through one batched Cholesky in float64.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError
from epgfn.gflownet.spaces.parent_sets import parent_matrix, popcount

RIDGE = 1e-10
_BATCH_NUMBERS = 1 << 23  # 64 MiB of float64 a batch


class Settings(Protocol):
    """What the scores read of a study's target."""

    @property
    def alpha_mu(self) -> float: ...
    @property
    def alpha_w(self) -> float | None: ...
    @property
    def sigma(self) -> float: ...


class FamilyLogDets(NamedTuple):
    """log det of the block of each parent set, (K,), and of that set with child j added, (V, K); nats, float64.

    Where j is in the set itself the second equals the first: callers rule those out.
    """

    parents: Tensor
    families: Tensor


def scatter(records: Tensor) -> Tensor:
    """X^T X about zero: (n, V) -> (V, V) float64. Not about the sample mean: the study's public centre is the zero."""
    return records.double().T @ records.double()


def ridged(matrix: Tensor) -> Tensor:
    """`matrix` with its diagonal times 1 + 1e-10, so that collinear columns give a very small residual instead of a failure.

    Multiplying, not adding, keeps the result independent of the units of each variable. It changes the log-likelihood of n
    well-conditioned records by about n * 1e-10 nats.
    """
    return matrix + RIDGE * torch.diag(matrix.diagonal())


def log_determinants(matrix: Tensor, masks: Tensor) -> Tensor:
    """log det of matrix[A, A] for each set A of `masks`: (V, V), (M,) int64 -> (M,) float64; 0 for the empty set.

    Raises:
        EpgfnError: a block is not positive definite to working precision.
    """
    n_variables = matrix.shape[0]
    sizes = popcount(masks)
    out = torch.zeros(len(masks), dtype=torch.float64)
    for size in range(1, n_variables + 1):
        for rows in torch.split((sizes == size).nonzero()[:, 0], max(1, _BATCH_NUMBERS // size**2)):
            members = parent_matrix(masks[rows], n_variables).nonzero()[:, 1].view(-1, size)  # (B, r)
            blocks = matrix.double()[members[:, :, None], members[:, None, :]]  # (B, r, r)
            factor, failed = torch.linalg.cholesky_ex(blocks)
            if bool(failed.any()):
                raise EpgfnError(
                    "the records give no finite score: some variables are linear combinations of others or differ too much "
                    "in size; check the study's variables, centres and scales"
                )
            out[rows] = 2.0 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
    return out


def family_log_determinants(matrix: Tensor, masks: Tensor) -> FamilyLogDets:
    """Log-determinants for all K parent sets and all V children; each distinct set is factorised once. Errors as above."""
    families = masks | (1 << torch.arange(matrix.shape[0]))[:, None]  # (V, K)
    sets, where = torch.unique(torch.cat([masks[None], families]), return_inverse=True)
    log_dets = log_determinants(matrix, sets)[where]  # (1 + V, K)
    return FamilyLogDets(log_dets[0], log_dets[1:])

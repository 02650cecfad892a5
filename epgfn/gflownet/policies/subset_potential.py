"""The order potential of a score table: dynamic programming over all subsets of the variables, block by block.

    L(S) = log sum over j outside S of exp(A_j(S) + L(S + j)),   A_j(S) = log sum over Pa within S of exp phi_j(Pa),   L(all) = 0:

the log of the sum, over all orders of the variables outside S, of the product of what each variable's parent sets within its
predecessors weigh. Subsets are bitmasks, bit j = variable j.

Kept: 8 * 2^V bytes (V = 20: 8 MB, 25: 268 MB). Beside that, A is worked out for one block of 2^14 subsets at a time (3 MB), so
the peak is not much more. Time: about 7 V * 2^V log-additions of 5 ns, on one core 1 s for 20 variables and 40 to 60 s for 25.
All in logs and float64, with positive terms only: scores that span thousands of nats lose nothing.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.spaces.dag_by_sinks import DagBySinks
from epgfn.gflownet.spaces.parent_sets import parent_masks, popcount

BLOCK_BITS = 14
MAX_VARIABLES = 25
"""Beyond them 2^V numbers and the time to fill them are too many."""


_latest: dict[bytes, Tensor] = {}


def remembered_potential(space: DagBySinks, table: Tensor) -> Tensor:
    """`order_potential`, the latest one kept: a model is trained, measured and sampled with the same table."""
    table = table.contiguous()
    key = hashlib.sha256(
        f"{table.dtype} {table.device} {space.max_parents} ".encode() + table.cpu().numpy().tobytes()
    ).digest()
    if key not in _latest:
        _latest.clear()
        _latest[key] = order_potential(space, table)
    return _latest[key]


class _Scores(NamedTuple):
    """A score table by blocks: `values` (V, K), and of each set the variables `low` within a block and `high` of it, (K,)."""

    values: Tensor
    low: Tensor
    high: Tensor


def order_potential(space: DagBySinks, table: Tensor, block_bits: int = BLOCK_BITS) -> Tensor:
    """L over all 2^V subsets: (V, K) nats -> (2^V,) float64. Scores of sets that are not admissible are ignored."""
    v, b = space.n_variables, min(space.n_variables, block_bits)
    masks = parent_masks(v, space.max_parents)
    scores = _Scores(
        table.double().masked_fill(~space.admissible, -torch.inf), masks & ((1 << b) - 1), masks >> b
    )
    sizes = popcount(torch.arange(1 << b))
    levels = [(sizes == size).nonzero()[:, 0] for size in range(b, -1, -1)]
    potential = torch.zeros(1 << (v - b), 1 << b, dtype=torch.float64)
    for block in range(len(potential) - 1, -1, -1):  # adding a variable of `high` leads to a later block
        outside = torch.tensor([j for j in range(b, v) if not block >> (j - b) & 1], dtype=torch.int64)
        sums = _block_sums(scores, torch.cat([torch.arange(b), outside]), block, b)
        sums[b:] += potential[block + (1 << (outside - b))]  # what is left to add within the block
        _fill(potential[block], sums, levels, b, last=block == len(potential) - 1)
    return potential.view(-1)


def _block_sums(scores: _Scores, children: Tensor, block: int, b: int) -> Tensor:
    """A_j(S) of the (C,) `children` for the 2^b subsets S whose variables beyond the first b are those of `block`."""
    within = ((scores.high & ~block) == 0).nonzero()[:, 0]
    values, low = scores.values[children][:, within], scores.low[within].expand(len(children), -1)
    top = torch.full((len(children), 1 << b), -torch.inf, dtype=torch.float64)
    top.scatter_reduce_(1, low, values, "amax")
    share = (values - top.gather(1, low)).exp().nan_to_num_(0.0)  # all -inf: the child itself is a parent
    sums = torch.zeros_like(top).scatter_add_(1, low, share).log_().add_(top.nan_to_num(neginf=0.0))
    sums[torch.isneginf(top)] = -torch.inf
    for i in range(b):  # sum over subsets, one variable at a time
        halves = sums.view(len(children), -1, 2, 1 << i)
        torch.logaddexp(halves[:, :, 1], halves[:, :, 0], out=halves[:, :, 1])
    return sums


def _fill(potential: Tensor, sums: Tensor, levels: list[Tensor], b: int, last: bool) -> None:
    """L of one block in place, largest subsets first; `sums` is A_j(S), for j beyond the block with L(S + j) added."""
    bits = 1 << torch.arange(b)
    for level in levels[1:] if last else levels:
        grown = sums.index_select(1, level)  # (C, M)
        grown[:b] += potential[level | bits[:, None]]
        grown[:b].masked_fill_((level & bits[:, None]) != 0, -torch.inf)
        potential[level] = grown.logsumexp(0)

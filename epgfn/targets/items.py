"""Records that each show one item, drawn from a multiset or from anywhere:

    P(record = k | x) = (1 - signal) / d + signal x_k / m,        x_k of m items are of kind k of d.

So kinds that are not in the multiset turn up too, and no record has probability zero.
"""

from __future__ import annotations

from torch import Tensor


def item_probability(counts: Tensor, signal: float) -> Tensor:
    """(B, d) int64 counts of finished multisets -> (B, d) float64: how often a record shows each kind; rows sum to one."""
    counts = counts.double()
    return (1 - signal) / counts.shape[1] + signal * counts / counts.sum(1, keepdim=True)

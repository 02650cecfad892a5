"""Whether models that are about to be multiplied speak of the same objects.

A product of posteriors is sharp whether they agree or not: where they contradict one another it settles on what none of them believes.
That shows in what each says of the others' objects. And a model is a stranger where their product lies if it hardly ever was there: what
it says of such objects is what a network makes of others, and the product is made of it.

Of model n, the region of all but `TAIL` of its probability is that of objects at least as probable as the `TAIL` quantile of its own
samples; models that overlap lie in each other's.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

TAIL: Final = 0.01
LEAST_SHARE: Final = 0.01
LEAST_NATS: Final = 20.0
"""Two models contradict one another of which neither has that share of its samples in the other's region, and each gives its own so much
more log-probability than the other's: models of records of one kind, which small samples pull apart, were seen at 14."""


class Overlap(NamedTuple):
    """`inside` (N, N) float64: the share of model m's samples in model n's region, and `inside_of_product` (N,) of the product's. `own` and
    `of_product` (N,): the median of model n's log-probability of its own samples and of the product's, nats. `apart` (N, N): how far the
    median falls from its own to model m's."""

    inside: Tensor
    inside_of_product: Tensor
    apart: Tensor
    own: Tensor
    of_product: Tensor

    @property
    def contradictions(self) -> list[tuple[int, int]]:
        """Pairs n < m that do not overlap."""
        outside = torch.maximum(self.inside, self.inside.T) < LEAST_SHARE
        apart = outside & (torch.minimum(self.apart, self.apart.T) > LEAST_NATS)
        return [(n, m) for n, m in apart.nonzero().tolist() if n < m]

    @property
    def strangers(self) -> list[int]:
        """Models in whose region the product does not lie, and that give it so much less than what is their own."""
        far = (self.inside_of_product < LEAST_SHARE) & (self.own - self.of_product > LEAST_NATS)
        return [int(n) for n in far.nonzero()[:, 0]]


def overlap(log_prob: Tensor) -> Overlap:
    """From (N, N + 1, S) log-probabilities in nats, [n, m, s] what model n gives the s-th sample of model m, and m = N for the product.
    Constants of each model n do not matter but for `own` and `of_product`."""
    log_prob = log_prob.double()
    n = len(log_prob)
    own = log_prob[:, :n].diagonal(dim1=0, dim2=1).T  # (N, S)
    least = torch.quantile(own, TAIL, dim=1, interpolation="lower")
    inside = (log_prob >= least[:, None, None]).double().mean(2)
    median = log_prob.median(2).values
    own_median = own.median(1).values
    return Overlap(inside[:, :n], inside[:, n], own_median[:, None] - median[:, :n], own_median, median[:, n])

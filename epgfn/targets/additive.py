"""Log-rewards that are sums over records: log R_n(x) = sum over i of l(record_i | x) + log pi(x) / N.

A new likelihood is one function `per_record(records, objects) -> (n, B)` in nats; everything else is here. Such targets
split across parties by splitting the records, and their per-record terms are what a release of noisy answers clips.

    target = Additive(location(1.5), records)
    target.log_reward(points)      # (B,) float64
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError

PerRecord = Callable[[Tensor, Any], Tensor]
"""Records (n, ...) and B objects -> (n, B) log-likelihoods of each record under each object, in nats."""
LogPrior = Callable[[Any], Tensor]
"""B objects -> (B,) the whole public log pi(x), in nats."""

_BLOCK = 4096
"""Records evaluated at once; bounds memory."""


class Additive:
    """One party's records under one per-record likelihood, with its N-th of the public prior."""

    def __init__(
        self,
        per_record: PerRecord,
        records: Tensor,
        log_prior: LogPrior | None = None,
        n_parties: int = 1,
        weights: Tensor | None = None,
    ) -> None:
        """`records` (n, ...) finite, n >= 1; `n_parties` N, the length of the roster; `weights` (n,) how often each record is
        there, once if not given.

        Raises:
            UsageError: no records, or a number among them that is not finite. ValueError: N below 1.
        """
        if n_parties < 1:
            raise ValueError("a target needs at least one party")
        if len(records) == 0:
            raise UsageError("there are no records to score; give at least one")
        if not bool(torch.isfinite(records).all()):
            raise UsageError(
                "a record holds a number that is not finite; correct it or leave that record out"
            )
        self.records = records
        self.n_parties = n_parties
        self.weights = torch.ones(len(records)) if weights is None else weights
        self._per_record = per_record
        self._log_prior = log_prior

    def log_reward(self, objects: Any) -> Tensor:
        """(B,) float64: log R_n of B objects, in nats.

        Raises:
            EpgfnError: some log-likelihood is not finite.
        """
        weights = torch.split(self.weights.double(), _BLOCK)
        parts = zip(weights, self._blocks(objects), strict=True)
        total = torch.stack([weight @ terms for weight, terms in parts]).sum(0)
        if self._log_prior is not None:
            total = total + self._finite(self._log_prior(objects).double()) / self.n_parties
        return total

    @classmethod
    def compressed(
        cls, per_record: PerRecord, records: Tensor, log_prior: LogPrior | None = None, n_parties: int = 1
    ) -> Additive:
        """The same target, each distinct record computed once. Raises as the constructor."""
        once, counts = torch.unique(records, dim=0, return_counts=True)
        return cls(per_record, once, log_prior, n_parties, counts)

    def centred_terms(self, objects: Any) -> Tensor:
        """(n, B) float64: each record's log-likelihoods less their mean over the B objects.

        What all objects share cancels in a posterior, so this is all a record says about which of them it is, and it is
        far smaller than the log-likelihood itself: a clipping bound on it costs little.
        """
        terms = torch.cat(list(self._blocks(objects)))
        return terms - terms.mean(1, keepdim=True)

    def _blocks(self, objects: Any) -> list[Tensor]:
        return [
            self._finite(self._per_record(records, objects).double())
            for records in torch.split(self.records, _BLOCK)
        ]

    @staticmethod
    def _finite(values: Tensor) -> Tensor:
        if not bool(torch.isfinite(values).all()):
            raise EpgfnError(
                "the target gives a log-likelihood that is not finite; check its settings against the records"
            )
        return values


def location(sigma: float) -> PerRecord:
    """Records x ~ N(point, sigma^2 I): objects are (B, d) points, records (n, d), all float64.

    Raises:
        UsageError: sigma is not above 0 and finite.
    """
    if not 0 < sigma < math.inf:
        raise UsageError(
            "sigma must be above 0 and finite; it is the records' standard deviation around the object"
        )

    def per_record(records: Tensor, points: Tensor) -> Tensor:
        squares = (records[:, None].double() - points.double()).square().sum(2)  # (n, B)
        return -squares / (2 * sigma**2) - records.shape[1] / 2 * math.log(2 * math.pi * sigma**2)

    return per_record


def categorical(log_probability: Callable[[Any], Tensor]) -> PerRecord:
    """Records are categories 0 .. C - 1, (n,) int64, and an object gives each one's log probability, (B, C) in nats."""

    def per_record(records: Tensor, objects: Any) -> Tensor:
        return log_probability(objects)[:, records].T

    return per_record

"""What one record says about objects, log l(record | x) in nats: the targets that are sums over records.

A target with a `Likelihood` is all that training, noisy answers, DP-SGD and attacks need to know of it. Objects come as finished
states of the study's space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from epgfn.targets.additive import PerRecord


class Likelihood(NamedTuple):
    """`per_record(records, states)` (n, B) nats. `domain()` (C, ...): every value a record can take or, where `is_box`, the corners of
    the public box that holds them; all public. `draw(state, n, generator)`: n made-up records of the first object of `state`.
    `find(records)` (n,) int64: the row of `domain()` that says the same of every object, -1 where none does; None for a box, for which
    `mix(records)` (n, C) float64 gives the weights of the corners whose centred log-likelihoods add up to the record's."""

    per_record: PerRecord
    domain: Callable[[], Tensor]
    draw: Callable[[Any, int, torch.Generator], Tensor]
    find: Callable[[Tensor], Tensor] | None = None
    mix: Callable[[Tensor], Tensor] | None = None
    is_box: bool = False


def listed(probability: Callable[[Any], Tensor], values: int) -> Likelihood:
    """Records that take each of so many `values` with the `probability` (B, C) that an object gives it."""
    import torch

    from epgfn.targets.additive import categorical

    def draw(state: Any, n: int, generator: torch.Generator) -> Tensor:
        return torch.multinomial(probability(state)[0], n, replacement=True, generator=generator)

    return Likelihood(
        categorical(lambda state: probability(state).log()),
        lambda: torch.arange(values),
        draw,
        lambda records: records.long(),
    )

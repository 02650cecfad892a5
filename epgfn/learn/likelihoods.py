"""What one record says about objects, log l(record | x) in nats: the targets that are sums over records.

A new one is a function here or in a file of its own, from a study and its space to a `Likelihood`, and one line in `LIKELIHOODS`; then
training, noisy answers, DP-SGD and the attacks on them work with it. Objects come as finished states of the study's space.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.spaces.hypergrid import Hypergrid
from epgfn.gflownet.spaces.multiset import Multiset
from epgfn.gflownet.spaces.phylogeny import Phylogeny
from epgfn.gflownet.spaces.sequence import Sequence
from epgfn.study import Study
from epgfn.targets import jc69, letters
from epgfn.targets.additive import PerRecord, categorical, location
from epgfn.targets.items import item_probability


class Likelihood(NamedTuple):
    """`per_record(records, states)` (n, B) nats. `domain()` (C, ...): every value a record can take or, where `is_box`, the corners of
    the public box that holds them; all public. `draw(state, n, generator)`: n made-up records of the first object of `state`.
    `find(records)` (n,) int64: the row of `domain()` that says the same of every object, -1 where none does; None for a box, for which
    `mix(records)` (n, C) float64 gives the weights of the corners whose centred log-likelihoods add up to the record's. `unit`: what a
    record is called."""

    per_record: PerRecord
    domain: Callable[[], Tensor]
    draw: Callable[[Any, int, torch.Generator], Tensor]
    find: Callable[[Tensor], Tensor] | None = None
    mix: Callable[[Tensor], Tensor] | None = None
    is_box: bool = False
    unit: Literal["record", "site"] = "record"


def _items(study: Study, space: Multiset) -> Likelihood:
    signal, kinds = study.target.signal, space.n_items
    return _listed(lambda state: item_probability(state.counts, signal), kinds)


def _letters(study: Study, space: Sequence) -> Likelihood:
    signal, alphabet = study.target.signal, space.n_letters
    return _listed(lambda state: letters.letter_probability(state.letters, alphabet, signal), alphabet)


def _listed(probability: Callable[[Any], Tensor], values: int) -> Likelihood:
    """Records that take each of so many values with the `probability` (B, C) that an object gives it."""

    def draw(state: Any, n: int, generator: torch.Generator) -> Tensor:
        return torch.multinomial(probability(state)[0], n, replacement=True, generator=generator)

    return Likelihood(
        categorical(lambda state: probability(state).log()),
        lambda: torch.arange(values),
        draw,
        lambda records: records.long(),
    )


def _location(study: Study, space: Hypergrid) -> Likelihood:
    low, high = public_box(study)
    places = torch.linspace(0, 1, space.side, dtype=torch.float64)
    around = location(study.target.sigma)

    def per_record(records: Tensor, state: Any) -> Tensor:
        return around(records, low + (high - low) * places[state.position])

    def corners() -> Tensor:
        ends = torch.tensor(list(itertools.product((0.0, 1.0), repeat=len(low))), dtype=torch.float64)
        return low + (high - low) * ends

    def draw(state: Any, n: int, generator: torch.Generator) -> Tensor:
        point = low + (high - low) * places[state.position[0]]
        noise = torch.randn(n, len(low), dtype=torch.float64, generator=generator)
        return (point + study.target.sigma * noise).clamp(low, high)  # as a node moves them into the box

    def mix(records: Tensor) -> Tensor:
        # What all places share cancels, and the rest is linear in the record; so are these weights, one variable at a time.
        share = (records - low) / (high - low)
        weights = torch.ones(len(records), 1, dtype=torch.float64)
        for column in share.T[:, :, None]:
            weights = torch.stack([weights * (1 - column), weights * column], 2).flatten(1)
        return weights

    return Likelihood(per_record, corners, draw, mix=mix, is_box=True)


def _sites(study: Study, space: Phylogeny) -> Likelihood:
    branch = study.target.branch_length

    def draw(state: Any, n: int, generator: torch.Generator) -> Tensor:
        return jc69.simulate(space, state, n, branch, generator).T.contiguous()

    return Likelihood(
        jc69.by_site(space, branch),
        lambda: jc69.site_patterns(space.n_leaves),
        draw,
        jc69.pattern_of,
        unit="site",
    )


LIKELIHOODS: dict[str, Callable[[Study, Any], Likelihood]] = {
    "items": _items,
    "jc69": _sites,
    "letters": _letters,
    "location": _location,
}
"""By the target's kind."""


def likelihood_of(study: Study, space: Any) -> Likelihood:
    """The study's likelihood for objects of its `space`."""
    return LIKELIHOODS[study.target.kind](study, space)


def public_box(study: Study) -> tuple[Tensor, Tensor]:
    """(V,) float64 each: the lower and upper bounds of the study's variables, on its scale."""
    from epgfn.study.records.tables import on_scale

    bounds = [on_scale([v.lower or 0.0, v.upper or 0.0], v).tolist() for v in study.variables]
    low, high = torch.tensor(bounds, dtype=torch.float64).unbind(1)
    return low, high

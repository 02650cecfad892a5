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

from epgfn.spaces.hypergrid import Hypergrid
from epgfn.spaces.multiset import Multiset
from epgfn.spaces.phylogeny import Phylogeny
from epgfn.spaces.sequence import Sequence
from epgfn.study import Study
from epgfn.targets import jc69, letters
from epgfn.targets.additive import PerRecord, categorical, location
from epgfn.targets.items import item_probability


class Likelihood(NamedTuple):
    """`per_record(records, states)` (n, B) nats. `domain()` (C, ...): every value a record can take or, where `is_box`, the corners of
    the public box that holds them; all public. `unit`: what a record is called."""

    per_record: PerRecord
    domain: Callable[[], Tensor]
    is_box: bool = False
    unit: Literal["record", "site"] = "record"


def _items(study: Study, space: Multiset) -> Likelihood:
    signal, kinds = study.target.signal, space.n_items
    return Likelihood(
        categorical(lambda state: item_probability(state.counts, signal).log()),
        lambda: torch.arange(kinds),
    )


def _letters(study: Study, space: Sequence) -> Likelihood:
    signal, alphabet = study.target.signal, space.n_letters
    return Likelihood(
        categorical(lambda state: letters.letter_probability(state.letters, alphabet, signal).log()),
        lambda: torch.arange(alphabet),
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

    return Likelihood(per_record, corners, is_box=True)


def _sites(study: Study, space: Phylogeny) -> Likelihood:
    return Likelihood(
        jc69.by_site(space, study.target.branch_length),
        lambda: jc69.site_patterns(space.n_leaves),
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
    from epgfn.data import on_scale

    bounds = [on_scale([v.lower or 0.0, v.upper or 0.0], v).tolist() for v in study.variables]
    low, high = torch.tensor(bounds, dtype=torch.float64).unbind(1)
    return low, high

"""Objects that are not graphs: noisy answers about all of them. Nodes' answers add up.

Each world is an object drawn uniformly and records drawn from it; the values that a record can take are public.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.bench.releases.measure import Ask, Errors, Measure
from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.privacy.mechanisms.answers import AnswersMechanism
from epgfn.targets.additive import PerRecord, categorical, location

ITEM_KINDS, SIZE, SHARE = 5, 6, 0.06
SIDE, SIGMA, REACH = 12, 40.0, 2.5
LETTERS, LENGTH, PULL = 4, 3, 0.3


class Case(NamedTuple):
    """`objects` (B, ...); `per_record` what a record says about them; `domain` values a record can take, or corners of a box that holds
    them; `draw` n records from the object of a number."""

    objects: Tensor
    per_record: PerRecord
    domain: Tensor
    draw: Callable[[int, int, np.random.Generator], Tensor]


def answers(ask: Ask, case: Case) -> Measure:
    """Every object answered for."""
    mechanism = AnswersMechanism.for_domain(
        case.per_record, case.objects, case.domain, ask.epsilon, ask.delta
    )
    return _measure(ask, case, lambda records, _: mechanism.release(records).log_likelihood)


def multisets() -> Case:
    """6 items of 5 kinds, 210 multisets; a record is one item, of kind k with probability .94 / 5 + .06 x_k / 6."""
    every = itertools.product(range(SIZE + 1), repeat=ITEM_KINDS)
    objects = torch.tensor([x for x in every if sum(x) == SIZE], dtype=torch.float64)
    return _categories((1 - SHARE) / ITEM_KINDS + SHARE * objects / SIZE)


def sequences() -> Case:
    """Up to 3 of 4 letters, 85 sequences; a record is one letter, drawn in proportion to 1 + .3 times the weights 1, 1/2, 1/3 of the
    places where the sequence has it."""
    words = [word for size in range(LENGTH + 1) for word in itertools.product(range(LETTERS), repeat=size)]
    weight = torch.ones(len(words), LETTERS, dtype=torch.float64)
    for number, word in enumerate(words):
        for place, letter in enumerate(word):
            weight[number, letter] += PULL / (place + 1)
    return _categories(weight / weight.sum(1, keepdim=True))


def grid() -> Case:
    """144 points, side 12; a record is N(point, 40^2 I), clipped to a public box of 2.5 standard deviations about the middle."""
    axis = torch.arange(SIDE, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    middle, reach = (SIDE - 1) / 2, REACH * SIGMA
    corners = torch.tensor([middle - reach, middle + reach], dtype=torch.float64)

    def draw(chosen: int, n: int, rng: np.random.Generator) -> Tensor:
        records = points[chosen] + SIGMA * torch.from_numpy(rng.normal(size=(n, 2)))
        return records.clamp(middle - reach, middle + reach)

    return Case(points, location(SIGMA), torch.cartesian_prod(corners, corners), draw)


def _categories(shares: Tensor) -> Case:
    """`shares` (B, C): how often object b gives each of the values 0 to C - 1."""

    def draw(chosen: int, n: int, rng: np.random.Generator) -> Tensor:
        p = shares[chosen].numpy()
        return torch.from_numpy(rng.choice(len(p), size=n, p=p / p.sum()))

    per_record = categorical(lambda logs: logs)
    return Case(shares.log(), per_record, torch.arange(shares.shape[1]), draw)


def _measure(ask: Ask, case: Case, private: Callable[[Tensor, int], Tensor]) -> Measure:
    def measure(seed: int) -> Errors:
        rng = np.random.default_rng(seed)
        chosen = int(rng.integers(len(case.objects)))
        parts = [case.draw(chosen, ask.records, rng) for _ in range(ask.nodes)]
        exact = torch.stack([case.per_record(part, case.objects).double().sum(0) for part in parts]).sum(0)
        noisy = torch.stack([private(part, seed) for part in parts]).sum(0)
        return Errors(l1(exact_distribution(noisy), exact_distribution(exact)))

    return measure

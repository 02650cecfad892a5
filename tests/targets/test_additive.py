"""Sums over records: parties multiply to the whole, the prior counts once, and what is not finite is said so."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.spaces import Multiset
from epgfn.targets.additive import Additive, categorical, location

POINTS = torch.tensor([[0.0, 0.0], [1.0, -2.0], [3.0, 3.0]], dtype=torch.float64)


def log_prior(points: Tensor) -> Tensor:
    return -points.abs().sum(1)


@settings(max_examples=20)
@given(st.integers(2, 5), st.integers(5, 40), st.integers(0, 2**31))
def test_parties_multiply_to_the_whole_with_the_prior_once(parties: int, n: int, seed: int) -> None:
    x = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    whole = Additive(location(0.7), x, log_prior).log_reward(POINTS)
    shares = [
        Additive(location(0.7), part, log_prior, parties).log_reward(POINTS)
        for part in x.tensor_split(parties)
    ]
    assert torch.allclose(torch.stack(shares).sum(0), whole)


def test_location_is_the_normal_density() -> None:
    x = torch.randn(6000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))  # two blocks
    expected = [norm.logpdf(x.numpy(), loc=point, scale=1.3).sum() for point in POINTS.numpy()]
    assert Additive(location(1.3), x).log_reward(POINTS).tolist() == pytest.approx(expected)


def test_counts_as_probabilities_by_hand() -> None:
    """A multiset of 3 of 2 items says how likely each item is: (count + 1) / 5."""
    space = Multiset(n_items=2, size=3)
    state = space.initial(1)
    for _ in range(3):
        state = space.step(state, torch.tensor([0]))
    counts = torch.tensor(space.decode(state), dtype=torch.float64)

    def log_probability(values: Tensor) -> Tensor:
        return ((values + 1) / (values.sum(1, keepdim=True) + 2)).log()

    found = Additive(categorical(log_probability), torch.tensor([0, 0, 1])).log_reward(counts)
    assert float(found[0]) == pytest.approx(2 * math.log(4 / 5) + math.log(1 / 5))


def test_centred_terms_say_which_object_and_nothing_else() -> None:
    target = Additive(location(1.0), torch.randn(10, 2, dtype=torch.float64))
    terms, log_reward = target.centred_terms(POINTS), target.log_reward(POINTS)
    assert torch.allclose(terms.mean(1), torch.zeros(10, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(terms.sum(0), log_reward - log_reward.mean())


def test_what_is_not_finite_is_refused() -> None:
    bad = torch.tensor([[0.0, math.nan]])
    with pytest.raises(UsageError, match="not finite"):
        Additive(location(1.0), bad)
    with pytest.raises(UsageError, match="no records"):
        Additive(location(1.0), bad[:0])
    with pytest.raises(ValueError, match="party"):
        Additive(location(1.0), bad[:, :1], n_parties=0)
    with pytest.raises(UsageError, match="sigma"):
        location(0.0)
    impossible = Additive(lambda x, points: torch.full((len(x), len(points)), -math.inf), POINTS)
    with pytest.raises(EpgfnError, match="not finite"):
        impossible.log_reward(POINTS)
    with pytest.raises(EpgfnError, match="not finite"):
        Additive(location(1.0), POINTS, lambda p: p[:, 0] * math.nan).log_reward(POINTS)

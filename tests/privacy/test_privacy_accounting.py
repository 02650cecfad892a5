"""epsilon is never told smaller than it is: closed forms, discrete noise and subsampling against independent computations."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from epgfn.privacy import accounting
from epgfn.privacy.claims.sensitivity import moments_replace_one


def pld(event: object, delta: float) -> float:
    accountant = PLDAccountant()
    accountant.compose(event)
    return float(accountant.get_epsilon(delta))


@pytest.mark.parametrize("mu", [0.05, 0.27, 0.9, 1.7, 3.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-8])
def test_one_gaussian_costs_what_the_closed_form_says_and_not_less_than_the_loss_distribution(
    mu: float, delta: float
) -> None:
    epsilon = accounting.gdp_epsilon(mu, delta)
    assert ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon) * ndtr(-mu / 2 - epsilon / mu) == pytest.approx(
        delta, rel=1e-4
    )
    assert epsilon == pytest.approx(pld(dp_event.GaussianDpEvent(1 / mu), delta), abs=1e-6)
    grid = accounting.discrete_epsilon(mu, delta, 30, 2.0**14 / mu)
    assert epsilon <= grid <= epsilon + 1e-5 and grid >= pld(dp_event.GaussianDpEvent(1 / mu), delta)


@given(epsilon=st.floats(0.05, 20), log_delta=st.floats(-10, -3))
@settings(max_examples=60)
def test_the_noise_for_an_epsilon_keeps_to_it_and_wastes_next_to_nothing(
    epsilon: float, log_delta: float
) -> None:
    delta = 10.0**log_delta
    mu = accounting.gdp_mu(epsilon, delta)
    assert accounting.gdp_epsilon(mu, delta) <= epsilon
    assert accounting.gdp_epsilon(mu * (1 + 1e-4), delta) > epsilon
    scale = lambda m: 2.0**12 / m  # noqa: E731
    on_grid = accounting.discrete_mu(epsilon, delta, 10, scale)
    assert accounting.discrete_epsilon(on_grid, delta, 10, scale(on_grid)) <= epsilon
    assert on_grid == pytest.approx(mu, rel=1e-3)


def test_two_gaussians_cost_as_much_as_one_of_the_root_of_the_sum_of_squares() -> None:
    both = dp_event.ComposedDpEvent([dp_event.GaussianDpEvent(1 / 0.3), dp_event.GaussianDpEvent(1 / 0.6)])
    epsilon = accounting.gdp_epsilon(accounting.compose([0.3, 0.6]), 1e-5)
    assert epsilon == pytest.approx(pld(both, 1e-5), abs=1e-6)


@pytest.mark.parametrize("sigma", [3.0, 20.0, 200.0])
@pytest.mark.parametrize("mu", [0.3, 1.0, 2.0])
def test_the_bound_on_discrete_noise_covers_its_exact_divergence(sigma: float, mu: float) -> None:
    shift = max(1, round(mu * sigma))
    k = np.arange(-int(40 * sigma) - shift, int(40 * sigma) + shift + 1)
    here = np.exp(-(k**2) / (2 * sigma**2))
    there = np.exp(-((k - shift) ** 2) / (2 * sigma**2))
    here, there = here / here.sum(), there / there.sum()
    for epsilon in (0.1, 1.0, 3.0):
        exact = float(np.maximum(there - math.exp(epsilon) * here, 0).sum())
        if exact > 1e-12:
            assert accounting.discrete_epsilon(shift / sigma, exact, 1, sigma) >= epsilon - 1e-9


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.5, 0.05, 500), (0.8, 0.01, 1000), (2.0, 0.2, 100)])
def test_subsampled_steps_never_cost_less_than_the_loss_distribution_says(
    noise: float, rate: float, steps: int
) -> None:
    event = dp_event.SelfComposedDpEvent(
        dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise)), steps
    )
    accountant = PLDAccountant()
    accountant.compose(event)
    exact = accountant.get_epsilon(1e-5)
    assert exact <= accounting.subsampled_epsilon(noise, rate, steps, 1e-5) <= exact + 0.03


def test_the_noise_for_many_steps_keeps_to_epsilon() -> None:
    noise = accounting.noise_multiplier(4.0, 1e-5, 0.1, 100)
    assert 3.9 < accounting.subsampled_epsilon(noise, 0.1, 100, 1e-5) <= 4.0


@given(
    sums=st.floats(0, 10),
    products=st.floats(0, 10),
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 5),
)
@settings(max_examples=60)
def test_no_pair_of_records_is_further_apart_than_the_replace_one_bound(
    sums: float, products: float, seed: int, size: int
) -> None:
    rng, bound = np.random.default_rng(seed), 1.7
    x, y = rng.normal(size=(2, 300, size))
    y[:100] = -x[:100] + rng.normal(size=(100, size)) * 0.2
    x, y = (bound * a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    outer = lambda a: a[:, :, None] * a[:, None, :]  # noqa: E731
    apart = sums * ((x - y) ** 2).sum(1) + products * ((outer(x) - outer(y)) ** 2).sum((1, 2))
    worst = moments_replace_one(bound, sums, products)
    assert apart.max() <= worst * (1 + 1e-9) + 1e-12
    if size > 1:  # and some pair is: two vectors on the sphere at the angle where the parabola peaks
        c = -1.0 if products == 0 else max(-1.0, -sums / (2 * products) / bound**2)
        a, b = np.zeros(size), np.zeros(size)
        a[0], b[0], b[1] = bound, bound * c, bound * math.sqrt(1 - c * c)
        reached = sums * ((a - b) ** 2).sum() + products * ((np.outer(a, a) - np.outer(b, b)) ** 2).sum()
        assert reached == pytest.approx(worst, rel=1e-9, abs=1e-12)


def test_more_epsilon_for_more_information_and_less_delta() -> None:
    mus = [0.1, 0.5, 1.0, 3.0]
    assert all(accounting.gdp_epsilon(a, 1e-5) < accounting.gdp_epsilon(b, 1e-5) for a, b in pairwise(mus))
    assert accounting.gdp_epsilon(1.0, 1e-9) > accounting.gdp_epsilon(1.0, 1e-5)
    assert accounting.zcdp_epsilon(0.5, 1e-5) > accounting.gdp_epsilon(1.0, 1e-5)
    for bad in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError):
            accounting.gdp_epsilon(1.0, bad)
    with pytest.raises(ValueError):
        accounting.gdp_mu(-1.0, 1e-5)

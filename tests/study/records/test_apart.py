"""A mistyped value or row is found by itself, however many honest ones it is among, and honest columns are left alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from epgfn.study.records.apart import leverages, standing_apart

Draw = Callable[[np.random.Generator, int], np.ndarray]
HONEST: dict[str, tuple[Draw, float]] = {
    "normal": (lambda r, n: r.normal(size=n), 0.0),
    "uniform": (lambda r, n: r.uniform(size=n), 0.0),
    "log-normal, sigma 0.5": (lambda r, n: np.exp(0.5 * r.normal(size=n)), 0.01),
    "log-normal, sigma 1": (lambda r, n: np.exp(r.normal(size=n)), 0.05),
    "gamma": (lambda r, n: r.gamma(2.0, size=n), 0.01),
    "t with 3 degrees of freedom": (lambda r, n: r.standard_t(3, n), 0.08),
    "counts": (lambda r, n: r.poisson(0.7, n).astype(float), 0.0),
    "0 and 1": (lambda r, n: (r.random(n) < 0.1).astype(float), 0.0),
    "rare 1": (lambda r, n: (r.random(n) < 0.01).astype(float), 0.0),
    "half of them 0": (lambda r, n: np.where(r.random(n) < 0.5, 0.0, r.exponential(5, n)), 0.01),
}


@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("n", [30, 200, 2000])
def test_honest_columns_have_no_value_apart(name: str, n: int) -> None:
    draw, most = HONEST[name]
    rng = np.random.default_rng(20)
    found = [len(standing_apart(draw(rng, n))) > 0 for _ in range(100)]
    assert np.mean(found) <= most


@pytest.mark.parametrize("n", [60, 200, 2000])
@pytest.mark.parametrize("far", [-20.0, 20.0])
@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_a_value_far_from_all_others_is_found(n: int, far: float, scale: float) -> None:
    x = np.random.default_rng(n).normal(size=n) * scale
    x[7] = far * scale
    assert standing_apart(x).tolist() == [7]


def test_several_are_found_on_both_sides() -> None:
    x = np.random.default_rng(3).normal(size=200)
    x[[5, 50, 90]] = [20.0, -18.0, -21.0]
    assert standing_apart(x).tolist() == [90, 50, 5]


def test_a_far_one_among_equal_or_few_is_found_where_the_others_vary() -> None:
    x = (np.arange(200) % 4 == 0).astype(float)
    x[9] = 11.0
    assert standing_apart(x).tolist() == [9]
    assert standing_apart(np.append(np.ones(50), 7.0)).tolist() == []  # a rare one of two
    assert standing_apart(np.array([0.0, 1.0, 2.0, 99.0])).tolist() == []


@pytest.mark.parametrize("n", [60, 200, 2000])
def test_a_record_that_makes_a_correlation_is_found_with_what_it_does(n: int) -> None:
    x = np.random.default_rng(n).normal(size=(4, n))
    x[1, 11], x[3, 11] = -20.0, 25.0
    (found,) = leverages(x)
    rest = np.delete(x, 11, axis=1)
    assert (found.i, found.j, found.places.tolist()) == (1, 3, [11])
    assert found.r == pytest.approx(np.asarray(np.corrcoef(x))[1, 3])
    assert found.rest == pytest.approx(np.asarray(np.corrcoef(rest))[1, 3])


def test_a_record_that_hides_a_correlation_is_found() -> None:
    x = np.random.default_rng(1).normal(size=(2, 200))
    x[1] += 2 * x[0]
    x[:, 0] = 12.0, -25.0
    (found,) = leverages(x)
    assert found.places.tolist() == [0] and found.rest > 0.85 > 0.6 > found.r


@pytest.mark.parametrize("name", ["normal", "log-normal, sigma 0.5", "gamma", "counts", "0 and 1"])
def test_honest_tables_are_decided_by_no_record(name: str) -> None:
    draw, _ = HONEST[name]
    rng = np.random.default_rng(8)
    for n in (30, 200, 2000):
        for _ in range(10):
            independent = np.stack([draw(rng, n) for _ in range(5)])
            related = independent + independent[:1] - 0.5 * independent[1:2]
            assert leverages(independent) == [] and leverages(related) == []

"""The score of networks of categories and numbers: against multivariate t densities, integrals, and its own promise of equivalence."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import gammaln
from scipy.stats import multivariate_t

from epgfn.base.errors import UsageError
from epgfn.gflownet.measure.exact import enumerate_dags
from epgfn.gflownet.spaces.parent_sets import parent_sets
from epgfn.targets.conditional_gaussian import conditional_gaussian
from epgfn.targets.gaussian import DegenerateError

SIZES = (0, 2, 0, 3, 0)
"""Categories of each variable; 0: numbers."""


def settings(**changes: Any) -> Any:
    return SimpleNamespace(
        **{"alpha_mu": 1.0, "alpha_w": None, "t": 1.0, "sample_size": 1.0, "covariance": "common", **changes}
    )


def records(n: int, seed: int) -> np.ndarray:
    """Of variables that hang together: a number follows a category and another number in a way of each category's own."""
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, 2, n), rng.integers(0, 3, n)
    a = rng.normal(size=n) + 0.8 * one
    c = np.where(other == 2, -1.0, 0.6) * a + rng.normal(size=n) * (0.5 + 0.5 * one)
    return np.column_stack([a, one, c, other, rng.normal(size=n) + 0.4 * c])


def by_densities(x: np.ndarray, j: int, parents: tuple[int, ...], s: Any) -> float:
    """log p(D_j | D_Pa): of categories rows counted one after another, of numbers the multivariate t density that a regression with
    intercepts N(0, s / alpha_mu), coefficients N(0, s / t) and 1 / s ~ Gamma(a / 2, t / 2) gives all records at once, or all of a
    combination."""
    shown: dict[tuple[float, ...], list[int]] = {}
    for row, values in enumerate(x):
        shown.setdefault(tuple(values[i] for i in parents if SIZES[i]), []).append(row)
    if SIZES[j]:
        cells = SIZES[j] * math.prod(SIZES[i] for i in parents)
        a, total = s.sample_size / cells, 0.0
        for rows in shown.values():
            counts = np.bincount(x[rows, j].astype(int), minlength=SIZES[j])
            total += gammaln(a * SIZES[j]) - gammaln(a * SIZES[j] + len(rows))
            total += float((gammaln(a + counts) - gammaln(a)).sum())
        return total
    z = [i for i in parents if not SIZES[i]]
    count = SIZES.count(0)
    a = (count + 2.0 if s.alpha_w is None else s.alpha_w) - count + len(z) + 1
    total = 0.0
    same = np.zeros((len(x), len(x)))
    for rows in shown.values():
        same[np.ix_(rows, rows)] = 1 / s.alpha_mu
    for rows in [range(len(x))] if s.covariance == "common" else shown.values():
        given = x[np.ix_(rows, z)]
        spread = np.eye(len(rows)) + same[np.ix_(rows, rows)] + given @ given.T / s.t
        total += multivariate_t.logpdf(x[rows, j], np.zeros(len(rows)), s.t / a * spread, df=a)
    return total


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"covariance": "own"},
        {"alpha_mu": 0.3, "t": 2.0, "sample_size": 5.0},
        {"alpha_w": 7.5, "t": 0.4, "alpha_mu": 2.0, "covariance": "own"},
    ],
)
def test_every_score_is_the_density_of_its_records(chosen: dict[str, float]) -> None:
    s, x, sets = settings(**chosen), records(60, 1), parent_sets(5, 3)
    found = conditional_gaussian(torch.from_numpy(x), torch.tensor(SIZES), sets, s)
    seen = 0
    for k, members in enumerate(sets.tolist()):
        parents = tuple(i for i in range(5) if members[i])
        for j in range(5):
            if j in parents or (SIZES[j] and any(not SIZES[i] for i in parents)):
                continue
            assert float(found[j, k]) == pytest.approx(by_densities(x, j, parents, s), abs=1e-9)
            seen += 1
    assert seen == 49


def test_of_three_records_it_is_the_integral_over_intercept_coefficient_and_variance() -> None:
    x = np.array([[0.3, 0.0], [-0.7, 1.2], [1.1, 0.4]])
    a = 2.0 + 2 - 2 + 1 + 1  # alpha_w - N + |Pa| + 1 of two numbers
    sizes, sets = torch.tensor([0, 0]), torch.tensor([[True, False]])
    found = float(conditional_gaussian(torch.from_numpy(x), sizes, sets, settings())[1, 0])

    line, log_s = np.linspace(-9, 9, 181), np.linspace(-4, 9, 131)
    b0, b, variance = np.meshgrid(line, line, np.exp(log_s), indexing="ij")
    squares = b0**2 + b**2 + sum((row[1] - b0 - b * row[0]) ** 2 for row in x)
    normals = -5 / 2 * np.log(2 * math.pi * variance) - squares / (2 * variance)
    gamma = a / 2 * math.log(1 / 2) - math.lgamma(a / 2) - a / 2 * np.log(variance) - 1 / (2 * variance)
    whole = float(np.exp(normals + gamma).sum()) * (line[1] - line[0]) ** 2 * (log_s[1] - log_s[0])
    assert found == pytest.approx(math.log(whole), abs=1e-3)


@pytest.mark.parametrize("covariance", ["common", "own"])
def test_graphs_that_imply_the_same_independences_have_one_score_where_no_number_leads_to_a_category(
    covariance: str,
) -> None:
    sizes = (0, 2, 0, 3)
    x = records(80, 2)[:, :4]
    sets = parent_sets(4, 3)
    s = settings(covariance=covariance)
    table = conditional_gaussian(torch.from_numpy(x), torch.tensor(sizes), sets, s)
    column = {tuple(row): k for k, row in enumerate(sets.tolist())}
    classes: dict[Any, list[float]] = {}
    for graph in enumerate_dags(4):
        edges = {tuple(edge) for edge in graph.nonzero().tolist()}
        if any(not sizes[i] and sizes[j] for i, j in edges):
            continue
        joined = frozenset(map(frozenset, edges))
        colliders = frozenset(
            (j, frozenset({i, k}))
            for j in range(4)
            for i, k in itertools.combinations(range(4), 2)
            if (i, j) in edges and (k, j) in edges and frozenset({i, k}) not in joined
        )
        score = sum(float(table[j, column[tuple(graph[:, j].tolist())]]) for j in range(4))
        classes.setdefault((joined, colliders), []).append(score)
    assert max(map(len, classes.values())) > 3
    for scores in classes.values():
        assert max(scores) - min(scores) < 1e-9


def test_an_outcome_of_two_that_hangs_on_nothing_has_no_causes_by_groups_in_which_it_did_not_occur() -> None:
    """With noise of their own, groups without the outcome would seem to know it exactly."""
    rng = np.random.default_rng(5)
    one, two, three = (rng.integers(0, size, 250) for size in (2, 3, 3))
    event = (rng.random(250) < 0.05) * 1.0
    x = torch.from_numpy(np.column_stack([one, two, three, (event - 0.05) / 0.22]))
    sets, gain = torch.tensor([[False] * 4, [True, True, True, False]]), {}
    for covariance in ("common", "own"):
        found = conditional_gaussian(x, torch.tensor([2, 3, 3, 0]), sets, settings(covariance=covariance))[3]
        gain[covariance] = float(found[1] - found[0])
    assert gain["common"] < -5 and gain["own"] > 20


def test_what_no_record_shows_adds_nothing() -> None:
    x, sets = torch.from_numpy(records(50, 3)), parent_sets(5, 2)
    few = conditional_gaussian(x, torch.tensor(SIZES), sets, settings())
    more = conditional_gaussian(x, torch.tensor([0, 2, 0, 30, 0]), sets, settings())
    torch.testing.assert_close(few[[0, 2, 4]], more[[0, 2, 4]])
    assert not bool(conditional_gaussian(x[:0], torch.tensor(SIZES), sets, settings()).any())


def test_numbers_that_are_constant_or_off_the_scale_and_impossible_settings_are_refused() -> None:
    x, sets, sizes = records(50, 4), parent_sets(5, 1), torch.tensor(SIZES)
    still, wide = x.copy(), x.copy()
    still[:, 2], wide[:, 4] = 1.5, x[:, 4] * 1e4
    for wrong, column in ((still, 2), (wide, 4)):
        with pytest.raises(DegenerateError) as caught:
            conditional_gaussian(torch.from_numpy(wrong), sizes, sets, settings())
        assert caught.value.columns == [column]
    unjudged = torch.tensor([True, True, False, True, True])
    assert bool(
        conditional_gaussian(torch.from_numpy(still), sizes, sets, settings(), unjudged).isfinite().all()
    )
    with pytest.raises(UsageError, match="alpha_w"):
        conditional_gaussian(torch.from_numpy(x), sizes, sets, settings(alpha_w=4.0))

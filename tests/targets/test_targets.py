"""Local scores: equal to independent computations, the same for equivalent graphs, with the prior once in the product."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_t, norm
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.measure.exact import enumerate_dags, log_scores
from epgfn.gflownet.spaces.parent_sets import parent_masks, parent_matrix, popcount
from epgfn.learn.scores import prior_table, score_table, study_masks
from epgfn.study import Study
from epgfn.targets import TARGETS
from epgfn.targets.likelihood import pooled_profile_score


def make_study(n_variables: int, max_parents: int, **tables: dict[str, object]) -> Study:
    names = "abcdefgh"[:n_variables]
    base = {"name": "t", "roster": ["north", "south"], "variables": [{"name": x} for x in names]}
    return Study.model_validate({**base, "space": {"max_parents": max_parents}, **tables})


def records(n: int, n_variables: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_variables)) @ (
        np.eye(n_variables) + rng.normal(size=(n_variables,) * 2) * 0.5
    )


def members(mask: int) -> list[int]:
    return [i for i in range(62) if mask >> i & 1]


def entries(study: Study) -> list[tuple[int, int, list[int]]]:
    """(variable, column, parents) of every legal entry of the table."""
    sets = study_masks(study).tolist()
    return [
        (j, k, members(s)) for j in range(len(study.variables)) for k, s in enumerate(sets) if not s >> j & 1
    ]


def predictive_log_marginal(x: np.ndarray, members: list[int], t: float, alpha_w: float) -> float:
    """log p(D_Y) record by record: each is multivariate Student t given those before it."""
    size, n_variables = len(members), x.shape[1]
    if not size:
        return 0.0
    y, scatter, freedom = x[:, members], t * np.eye(size), alpha_w - n_variables + size
    total = 0.0
    for row in y:
        df = freedom - size + 1
        total += multivariate_t.logpdf(row, np.zeros(size), scatter / df, df)
        scatter, freedom = scatter + np.outer(row, row), freedom + 1
    return total


@pytest.mark.parametrize(("alpha_mu", "alpha_w"), [(1.0, None), (0.3, 9.5)])
def test_bge_is_the_wishart_marginal_likelihood(alpha_mu: float, alpha_w: float | None) -> None:
    target = {"kind": "bge", "alpha_mu": alpha_mu} | ({} if alpha_w is None else {"alpha_w": alpha_w})
    study, x = make_study(4, 3, target=target), records(25, 4, 1)
    w = 6.0 if alpha_w is None else alpha_w
    t = alpha_mu * (w - 5) / (alpha_mu + 1)
    table = score_table(study, x, 2)
    for j, k, parents in entries(study):
        expected = predictive_log_marginal(x, [*parents, j], t, w) - predictive_log_marginal(x, parents, t, w)
        assert float(table[j, k]) == pytest.approx(expected, abs=1e-9)


def equivalence_classes(adjacency: Tensor) -> dict[bytes, list[int]]:
    """DAGs by skeleton and v-structures (Verma & Pearl): Markov-equivalent ones fall together."""
    skeleton = adjacency | adjacency.transpose(1, 2)
    apart = ~skeleton & ~torch.eye(adjacency.shape[1], dtype=torch.bool)
    collider = adjacency[:, :, None, :] & adjacency[:, None, :, :] & apart[:, :, :, None]  # i -> k <- j
    key = torch.cat([skeleton.flatten(1), collider.flatten(1)], 1).numpy()
    classes: dict[bytes, list[int]] = {}
    for d, row in enumerate(key):
        classes.setdefault(row.tobytes(), []).append(d)
    return classes


@pytest.mark.parametrize("kind", ["bge", "bic", "profile-likelihood"])
def test_equivalent_graphs_score_the_same(kind: str) -> None:
    study, adjacency = make_study(4, 3, target={"kind": kind}), enumerate_dags(4)
    total = log_scores(score_table(study, records(40, 4, 2), 2), study_masks(study), adjacency)
    classes = equivalence_classes(adjacency)
    assert len(classes) == 185  # essential graphs on 4 variables
    for graphs in classes.values():
        assert float(total[graphs].max() - total[graphs].min()) < 1e-6


@pytest.mark.parametrize("kind", ["bic", "profile-likelihood", "max-likelihood"])
def test_likelihood_scores_are_those_of_a_least_squares_fit(kind: str) -> None:
    study, x = make_study(4, 3, target={"kind": kind, "sigma": 0.7}), records(30, 4, 3)
    table = score_table(study, x, 2)
    for j, k, parents in entries(study):
        theta = np.linalg.lstsq(x[:, parents], x[:, j], rcond=None)[0]
        residual = x[:, j] - x[:, parents] @ theta
        sigma = 0.7 if kind == "max-likelihood" else math.sqrt((residual**2).mean())
        expected = norm.logpdf(residual, scale=sigma).sum()
        if kind == "bic":
            expected -= (len(parents) + 1) / 2 * math.log(30)
        assert float(table[j, k]) == pytest.approx(expected, abs=1e-6)


def test_bic_by_hand() -> None:
    # a = (1, -1, 1, -1) and b = (1, 1, -1, -1) are orthogonal, so RSS = 4 = n with and without the parent.
    study = make_study(2, 1, target={"kind": "bic"})
    table = score_table(study, np.array([[1.0, 1], [-1, 1], [1, -1], [-1, -1]]), 2)
    empty = -2 * (math.log(2 * math.pi) + 1) - 0.5 * math.log(4)
    assert table[0].tolist() == pytest.approx([empty, -math.inf, empty - 0.5 * math.log(4)], abs=1e-8)


@pytest.mark.parametrize("kind", ["max-likelihood", "profile-likelihood"])
def test_unpenalised_likelihood_always_prefers_the_denser_graph(kind: str) -> None:
    study, x = make_study(5, 4, target={"kind": kind}), records(20, 5, 4)
    table, sets = score_table(study, x, 2), study_masks(study).tolist()
    for j, k, parents in entries(study):
        for i in parents:
            assert table[j, k] >= table[j, sets.index(sets[k] ^ 1 << i)] - 1e-8


@pytest.mark.parametrize("kind", TARGETS)
def test_a_local_score_depends_on_its_family_only(kind: str) -> None:
    study, x = make_study(4, 2, target={"kind": kind}), records(30, 4, 5)
    changed = x.copy()
    changed[:, 3] = np.random.default_rng(0).normal(size=30)
    before, after = score_table(study, x, 2), score_table(study, changed, 2)
    for j, k, parents in entries(study):
        if 3 not in [j, *parents]:
            assert float(before[j, k]) == pytest.approx(float(after[j, k]), abs=1e-9)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_table_is_minus_infinity_for_loops_and_finite_elsewhere(kind: str) -> None:
    study = make_study(5, 3, target={"kind": kind})
    table, own = score_table(study, records(12, 5, 6), 2), parent_matrix(study_masks(study), 5).T
    assert table.dtype == torch.float64 and bool((table == -torch.inf).eq(own).all())
    assert bool(torch.isfinite(table[~own]).all())


def test_the_product_of_subposteriors_holds_the_prior_once() -> None:
    x = records(30, 4, 7)
    edge = make_study(4, 3, prior={"kind": "edge", "edge_probability": 0.2})
    flat, adjacency = make_study(4, 3), enumerate_dags(4)
    masks = study_masks(edge)
    gained = 3 * (
        log_scores(score_table(edge, x, 3), masks, adjacency)
        - log_scores(score_table(flat, x, 3), masks, adjacency)
    )
    assert torch.allclose(gained, adjacency.double().sum((1, 2)) * math.log(0.2 / 0.8), atol=1e-8)
    assert torch.allclose(log_scores(prior_table(edge), masks, adjacency), gained, atol=1e-8)
    assert bool(torch.isfinite(prior_table(edge)).all()) and not bool(prior_table(flat).any())


def test_pooled_score_is_the_table_of_fixed_variance_summed_over_the_graph() -> None:
    study, x, adjacency = (
        make_study(4, 3, target={"kind": "max-likelihood", "sigma": 1.3}),
        records(50, 4, 8),
        enumerate_dags(4),
    )
    expected = log_scores(score_table(study, x, 2), study_masks(study), adjacency)
    assert torch.allclose(pooled_profile_score(torch.from_numpy(x), adjacency, 1.3), expected, atol=1e-8)


def test_a_score_that_is_not_finite_is_an_error_at_once() -> None:
    study, x = make_study(3, 2), records(20, 3, 9)
    for broken in (x * 1e200, x * np.nan):
        with pytest.raises(EpgfnError, match="finite"):
            score_table(study, broken, 2)
    with pytest.raises(UsageError, match="alpha_w"):
        score_table(make_study(3, 2, target={"alpha_w": 4.0}), x, 2)


@pytest.mark.parametrize("kind", TARGETS)
def test_doubled_columns_do_not_break_a_score(kind: str) -> None:
    x = records(20, 3, 10)
    x[:, 2] = -2 * x[:, 1]
    study = make_study(3, 2, target={"kind": kind})
    table = score_table(study, x, 2)
    assert bool(torch.isfinite(table[~parent_matrix(study_masks(study), 3).T]).all())


def test_a_table_too_large_to_hold_is_refused() -> None:
    base = {"name": "t", "roster": ["n"], "variables": [{"name": f"x{i}"} for i in range(60)]}
    settings = {"space": {"kind": "dag-by-edges", "max_parents": 8}, "policy": {"kind": "edge-net"}}
    with pytest.raises(UsageError, match="max_parents"):
        study_masks(Study.model_validate({**base, **settings}))


@given(st.integers(1, 12), st.integers(0, 12))
def test_parent_sets_come_by_size_then_in_lexicographic_order(n_variables: int, max_parents: int) -> None:
    sets = [tuple(members(mask)) for mask in parent_masks(n_variables, max_parents).tolist()]
    assert sets == sorted(set(sets), key=lambda s: (len(s), s))
    assert len(sets) == sum(math.comb(n_variables, r) for r in range(max_parents + 1))


@given(st.lists(st.integers(0, 2**62 - 1), min_size=1, max_size=20))
def test_popcount_counts_members(masks: list[int]) -> None:
    tensor = torch.tensor(masks)
    assert (
        popcount(tensor).tolist()
        == [mask.bit_count() for mask in masks]
        == parent_matrix(tensor, 62).sum(1).tolist()
    )

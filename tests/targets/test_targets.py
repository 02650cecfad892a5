"""Local scores: equal to independent computations, the same for equivalent graphs, with the prior once in the product."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_t, norm
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.measure.exact import edge_marginals, enumerate_dags, log_scores
from epgfn.gflownet.spaces.parent_sets import families, parent_masks, parent_matrix, parent_sets, popcount
from epgfn.learn.policy import require_possible
from epgfn.learn.scores import prior_table, score_table, study_masks
from epgfn.study import Study
from epgfn.targets import TARGETS
from epgfn.targets.likelihood import pooled_profile_score

MEANS = np.array([0.5, -1.0, 2.0, 0.0])


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


def log_marginal(y: np.ndarray, t: float, alpha_w: float, n_variables: int, alpha_mu: float | None) -> float:
    """log p(D_Y), one (n, l) block, record by record: each is multivariate Student t given those before it.

    With the mean unknown the first record starts the mean: from alpha_mu records at zero, or from nothing (alpha_mu = 0: the
    limit, less l/2 log alpha_mu). None: the mean is known, and zero. Textbook updates (Gelman et al., Bayesian
    Data Analysis, 3rd edition, section 3.6).
    """
    size = y.shape[1]
    if not size:
        return 0.0
    kappa = math.inf if alpha_mu is None else alpha_mu
    mean, scatter, freedom, total = np.zeros(size), t * np.eye(size), alpha_w - n_variables + size, 0.0
    for row in y:
        if kappa == 0:  # the t density for kappa -> 0, whose scale is scatter (kappa + 1) / kappa / df
            total += math.lgamma((freedom + 1) / 2) - math.lgamma((freedom - size + 1) / 2)
            total -= size / 2 * math.log(math.pi) + np.linalg.slogdet(scatter)[1] / 2
            mean, kappa, freedom = row, 1.0, freedom + 1
            continue
        spread = 1.0 if kappa == math.inf else (kappa + 1) / kappa
        df = freedom - size + 1
        total += multivariate_t.logpdf(row, mean, scatter * spread / df, df)
        scatter, freedom = scatter + np.outer(row - mean, row - mean) / spread, freedom + 1
        if kappa != math.inf:
            mean, kappa = (kappa * mean + row) / (kappa + 1), kappa + 1
    return total


@pytest.mark.parametrize(
    ("target", "t", "alpha_w", "alpha_mu"),
    [
        ({}, 1.0, 6.0, 0.0),
        ({"mean": "unknown", "alpha_mu": 0.0, "t": 0.3, "alpha_w": 9.5}, 0.3, 9.5, 0.0),
        ({"mean": "unknown", "alpha_mu": 0.7, "t": 2.0}, 2.0, 6.0, 0.7),
        ({"mean": "known"}, 0.5, 6.0, None),
        ({"mean": "known", "alpha_mu": 0.3, "alpha_w": 9.5}, 0.3 * 4.5 / 1.3, 9.5, None),
    ],
)
def test_bge_is_the_marginal_likelihood(
    target: dict[str, object], t: float, alpha_w: float, alpha_mu: float | None
) -> None:
    study, x = make_study(4, 3, target={"kind": "bge", **target}), records(25, 4, 1) + MEANS
    table, marginal = (
        score_table(study, x, 2),
        lambda set_: log_marginal(x[:, set_], t, alpha_w, 4, alpha_mu),
    )
    for j, k, parents in entries(study):
        expected = marginal([*parents, j]) - marginal(parents)
        assert float(table[j, k]) == pytest.approx(expected, abs=1e-8)


def test_the_flat_prior_is_the_limit_of_a_weak_one() -> None:
    x, weak = records(20, 3, 2) + 0.5, 1e-9
    flat = score_table(make_study(3, 2), x, 2)
    near = score_table(make_study(3, 2, target={"mean": "unknown", "alpha_mu": weak}), x, 2)
    finite = torch.isfinite(flat)
    assert torch.allclose(flat[finite], near[finite] - math.log(weak) / 2, atol=1e-6)


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


@pytest.mark.parametrize(
    "target",
    [
        {"kind": "bge"},
        {"kind": "bge", "mean": "unknown", "alpha_mu": 0.5},
        {"kind": "bge", "mean": "known"},
        {"kind": "bic"},
        {"kind": "profile-likelihood"},
    ],
)
def test_equivalent_graphs_score_the_same(target: dict[str, object]) -> None:
    study, adjacency = make_study(4, 3, target=target), enumerate_dags(4)
    total = log_scores(score_table(study, records(40, 4, 2), 2), study_masks(study), adjacency)
    classes = equivalence_classes(adjacency)
    assert len(classes) == 185  # essential graphs on 4 variables
    for graphs in classes.values():
        assert float(total[graphs].max() - total[graphs].min()) < 1e-6


@pytest.mark.parametrize("mean", ["unknown", "known"])
@pytest.mark.parametrize("kind", ["bic", "profile-likelihood", "max-likelihood"])
def test_likelihood_scores_are_those_of_a_least_squares_fit(kind: str, mean: str) -> None:
    study = make_study(4, 3, target={"kind": kind, "sigma": 0.7, "mean": mean})
    x = records(30, 4, 3) + MEANS
    table, intercept = score_table(study, x, 2), np.ones((30, int(mean == "unknown")))
    for j, k, parents in entries(study):
        design = np.hstack([intercept, x[:, parents]])
        theta = np.linalg.lstsq(design, x[:, j], rcond=None)[0]
        residual = x[:, j] - design @ theta
        sigma = 0.7 if kind == "max-likelihood" else math.sqrt((residual**2).mean())
        expected = norm.logpdf(residual, scale=sigma).sum()
        if kind == "bic":
            expected -= (design.shape[1] + 1) / 2 * math.log(30)
        assert float(table[j, k]) == pytest.approx(expected, abs=1e-9)


def test_bic_by_hand() -> None:
    # a = (1, -1, 1, -1) and b = (1, 1, -1, -1) are orthogonal and have mean zero, so RSS = 4 = n with and without the parent.
    study = make_study(2, 1, target={"kind": "bic"})
    table = score_table(study, np.array([[1.0, 1], [-1, 1], [1, -1], [-1, -1]]), 2)
    empty = -2 * (math.log(2 * math.pi) + 1) - math.log(4)
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


# --- numbers far off their scale, and columns that say the same ----------------------------------------------------------


@pytest.mark.parametrize("kind", TARGETS)
@given(
    seed=st.integers(0, 1000),
    offsets=st.lists(st.integers(-(2**31), 2**31), min_size=3, max_size=3),
    alone=st.booleans(),
)
@settings(max_examples=25)
def test_a_constant_added_to_a_column_changes_no_difference(
    kind: str, seed: int, offsets: list[int], alone: bool
) -> None:
    study = make_study(3, 2, target={"kind": kind})
    x = records(60, 3, seed)
    x = np.round(x / x.std(0) * 2**20) / 2**20  # so that adding is exact
    shift = np.array(offsets) * [1, not alone, not alone]
    table, moved = score_table(study, x, 2), score_table(study, x + shift, 2)
    own = ~torch.isfinite(table)
    gap = (moved - table).masked_fill(own, 0.0)
    assert float((gap - gap[:, :1]).masked_fill(own, 0.0)[1:].abs().max()) < 1e-6
    assert float((gap - gap[:, -1:]).masked_fill(own, 0.0)[:1].abs().max()) < 1e-6


@pytest.mark.parametrize("kind", ["bic", "profile-likelihood"])
@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_units_are_nothing_to_a_score_that_has_no_scale(kind: str, factor: float) -> None:
    study, x = make_study(3, 2, target={"kind": kind}), records(200, 3, 3)
    masks = study_masks(study)
    before, after = (
        edge_marginals(score_table(study, y, 2), masks) for y in (x, x * [1.0, factor, 1 / factor])
    )
    assert np.allclose(before, after, atol=1e-9)


@pytest.mark.parametrize("kind", ["bge", "max-likelihood"])
@pytest.mark.parametrize("factor", [1e-12, 0.02, 200.0, 1e12])
def test_a_column_far_off_the_studys_scale_is_named(kind: str, factor: float) -> None:
    study, x = make_study(3, 2, target={"kind": kind}), np.random.default_rng(0).normal(size=(200, 3))
    with pytest.raises(EpgfnError, match=r"column b: .*scale"):
        score_table(study, x * [1.0, factor, 1.0], 2)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_column_whose_spread_is_lost_in_rounding_is_named(kind: str) -> None:
    study, x = make_study(3, 2, target={"kind": kind}), records(200, 3, 3)
    for spoilt in (x + np.array([0, 0, 1e14]), x * [1, 1, 0] + np.array([0, 0, 3.0])):
        with pytest.raises(EpgfnError, match="column c: "):
            score_table(study, spoilt, 2)


@pytest.mark.parametrize("kind", ["bic", "profile-likelihood"])
def test_columns_that_determine_each_other_are_named_where_there_is_no_maximum(kind: str) -> None:
    x = records(200, 4, 10)
    doubled, summed = x.copy(), x.copy()
    doubled[:, 2] = 2.54 * x[:, 1] - 7
    summed[:, 3] = x[:, 0] + x[:, 1] - 3
    study = make_study(4, 3, target={"kind": kind})
    with pytest.raises(EpgfnError, match=r"columns b, c: .*linear combinations"):
        score_table(study, doubled, 2)
    with pytest.raises(EpgfnError, match=r"columns a, b, d: .*linear combinations"):
        score_table(study, summed, 2)
    with pytest.raises(EpgfnError, match=r"columns b, c: .*linear combinations"):
        score_table(study, doubled + 1e6, 2)
    single = make_study(4, 1, target={"kind": kind})  # no family holds all three
    assert bool(torch.isfinite(score_table(single, summed, 2)).any())


def test_fixed_variance_scores_dependent_columns_by_their_rank() -> None:
    x = records(200, 4, 11)
    x[:, 2] = -2 * x[:, 1] + 1
    study = make_study(4, 3, target={"kind": "max-likelihood"})
    table, sets = score_table(study, x, 2), study_masks(study).tolist()
    for j, k, parents in entries(study):
        design = np.hstack([np.ones((200, 1)), x[:, parents]])
        residual = x[:, j] - design @ np.linalg.lstsq(design, x[:, j], rcond=None)[0]
        assert float(table[j, k]) == pytest.approx(norm.logpdf(residual).sum(), abs=1e-8)
    both, one = sets.index(0b0110), sets.index(0b0010)
    assert float(table[0, both]) == pytest.approx(float(table[0, one]), abs=1e-12)


def test_bge_takes_doubled_columns_for_an_edge() -> None:
    x = records(200, 3, 12)
    x[:, 2] = -2 * x[:, 1]
    study = make_study(3, 2)
    edges = edge_marginals(score_table(study, x, 2), study_masks(study))
    assert edges[1, 2] + edges[2, 1] > 0.999 and np.isfinite(edges).all()


# --- means that nobody knew ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bge", "bic"])
def test_sites_with_different_means_are_no_edge(kind: str) -> None:
    study = make_study(3, 2, roster=["n", "s", "w"], target={"kind": kind})
    for seed in range(5):
        rng = np.random.default_rng(seed)
        sites = [rng.normal(size=(200, 3)) + mean for mean in (-0.8, 0.0, 0.8)]
        product = torch.stack([score_table(study, x, 3) for x in sites]).sum(0)
        assert edge_marginals(product, study_masks(study)).max() < 0.1


def test_a_centre_that_is_off_is_no_edge() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal([66.0, 175.0, 82.0], [12.0, 10.0, 14.0], size=(1000, 3))
    for centre, scale in (((60.0, 170.0, 75.0), 10.0), ((0.0, 0.0, 0.0), 1.0)):
        x = (raw - centre) / scale
        study = make_study(3, 2, roster=["n"])
        assert edge_marginals(score_table(study, x, 1), study_masks(study)).max() < 0.1
        if scale > 1:  # what it was before the mean was unknown
            known = make_study(3, 2, roster=["n"], target={"mean": "known"})
            assert edge_marginals(score_table(known, x, 1), study_masks(known)).max() > 0.4


def test_profile_likelihood_at_an_offset_of_1_7e9() -> None:
    """Seconds since 1970 beside two columns of unit size: the same probabilities as without the offset."""
    study, x = make_study(3, 2, target={"kind": "profile-likelihood"}), records(200, 3, 14)
    near, far = (edge_marginals(score_table(study, x + c, 2), study_masks(study)) for c in (0.0, 1.7e9))
    assert np.allclose(near, far, atol=1e-4) and np.isfinite(far).all()


def test_a_study_of_before_that_sets_alpha_mu_must_say_what_it_means() -> None:
    old = make_study(3, 2, target={"kind": "bge", "alpha_mu": 1.0})
    with pytest.raises(UsageError, match=r'target\.mean = "known"'):
        score_table(old, records(20, 3, 1), 2)
    with pytest.raises(UsageError, match=r"target\.mean"):
        require_possible(old)
    with pytest.raises(ValueError, match="alpha_mu must be above 0"):
        make_study(3, 2, target={"mean": "known", "alpha_mu": 0.0})


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


@pytest.mark.parametrize("target", ["bge", "bic", "max-likelihood", "bdeu"])
def test_more_than_62_variables_score_as_few_of_them_do(target: str) -> None:
    """A family's score is what it is beside fewer variables too; 65 do not fit one word of bits."""
    numeric = target != "bdeu"
    alpha_w = {"alpha_w": 67.0, "t": 0.5} if target == "bge" else {}

    def of(columns: list[int]) -> tuple[Study, Tensor]:
        variables = [
            {"name": f"x{i}"} if numeric else {"name": f"x{i}", "categories": ["no", "yes", "?"]}
            for i in columns
        ]
        less = (
            {"alpha_w": 67.0 - (65 - len(columns)), "t": 0.5} if alpha_w else {}
        )  # the block of a Wishart is one of less weight
        study = Study.model_validate(
            {
                "name": "t",
                "roster": ["n"],
                "variables": variables,
                "space": {"max_parents": 2},
                "target": {"kind": target, **less},
            }
        )
        return study, score_table(study, x[:, columns], 1)

    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 65)) if numeric else rng.integers(3, size=(60, 65))
    _, wide = of(list(range(65)))
    chosen = [0, 31, 61, 62, 63, 64]
    _, small = of(chosen)
    sets = parent_sets(65, 2)
    within = sets[:, chosen].sum(1) == sets.sum(1)
    assert torch.equal(sets[within][:, chosen], parent_sets(6, 2))
    shown = ~parent_sets(6, 2).T
    assert torch.allclose(wide[chosen][:, within][shown], small[shown], atol=1e-8)


@given(st.integers(1, 130), st.integers(0, 2), st.integers(0, 2**31))
def test_families_are_sets_with_one_more(n_variables: int, max_parents: int, seed: int) -> None:
    sets = parent_sets(n_variables, max_parents)
    some = sets[torch.randperm(len(sets), generator=torch.Generator().manual_seed(seed))[:50]]
    found, where = families(some)
    assert len({tuple(row) for row in found.tolist()}) == len(found) == int(where.max()) + 1
    with_one = some | torch.eye(n_variables, dtype=torch.bool)[:, None]
    assert torch.equal(found[where], torch.cat([some[None], with_one]))


@given(st.lists(st.integers(0, 2**62 - 1), min_size=1, max_size=20))
def test_popcount_counts_members(masks: list[int]) -> None:
    tensor = torch.tensor(masks)
    assert (
        popcount(tensor).tolist()
        == [mask.bit_count() for mask in masks]
        == parent_matrix(tensor, 62).sum(1).tolist()
    )


@pytest.mark.parametrize("kind", ["bic", "profile-likelihood"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_too_few_records_are_called_that(kind: str, n: int) -> None:
    """Two parents and a mean take three of them, and a residual one more."""
    study = make_study(3, 2, target={"kind": kind})
    with pytest.raises(EpgfnError, match="too few records"):
        score_table(study, records(n, 3, 4), 2)
    assert bool(torch.isfinite(score_table(study, records(4, 3, 4), 2)).any())
    assert bool(torch.isfinite(score_table(make_study(3, 2), records(n, 3, 4), 2)).any())

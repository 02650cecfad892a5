"""What a release gives, and what no record can do to it."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.gflownet.measure.exact import edge_marginals, posterior
from epgfn.gflownet.spaces.parent_sets import parent_masks, parent_sets
from epgfn.privacy.mechanisms import checks, discrete, whitening
from epgfn.privacy.mechanisms.answers import AnswersMechanism
from epgfn.privacy.mechanisms.counts import CountsMechanism, choose_tables
from epgfn.privacy.mechanisms.marginals import agreeing, fitted, onto_simplex
from epgfn.privacy.mechanisms.moments import MomentsMechanism
from epgfn.privacy.mechanisms.release import pack, unpack
from epgfn.targets.additive import categorical
from epgfn.targets.bdeu import bdeu
from epgfn.targets.bge import bge

DELTA = 1e-5


def chain(n: int, seed: int, v: int = 4) -> np.ndarray:
    """x_1 -> x_2 -> ... each of about unit variance."""
    noise = np.random.default_rng(seed).normal(size=(n, v))
    for i in range(1, v):
        noise[:, i] = 0.7 * noise[:, i - 1] + 0.7 * noise[:, i]
    return noise


def graphs(scatter: torch.Tensor, n: float) -> torch.Tensor:
    v = len(scatter)
    masks = parent_masks(v, v - 1)
    table = bge(scatter, n, parent_sets(v, v - 1), t=0.5, alpha_w=v + 2.0)
    own = (masks[None] >> torch.arange(v)[:, None]) & 1 == 1
    return posterior(table.masked_fill(own, -torch.inf), masks)[1]


# --- integers ---------------------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32 - 1),
    d=st.integers(1, 40),
    radius=st.floats(0.3, 50),
    spread=st.sampled_from([1e-3, 1.0, 1e3, 1e200]),
)
@settings(max_examples=60)
def test_no_row_of_integers_is_longer_than_the_bound(seed: int, d: int, radius: float, spread: float) -> None:
    rows = np.random.default_rng(seed).normal(size=(50, d)) * spread
    rows[0], rows[1, 0], rows[2, 0] = np.inf, np.nan, -np.inf
    grid, bound = discrete.clipped_rows(rows, radius), discrete.norm_bound(radius)
    assert (grid.astype(object) ** 2).sum(1).max() <= bound**2
    inside = np.abs(rows[3:]).max(1) < 0.8 * radius / math.sqrt(d)
    assert np.abs(grid[3:][inside] - rows[3:][inside] * 2**discrete.GRID_BITS).max(initial=0) <= 1


def test_a_row_says_the_same_in_any_company() -> None:
    rows, matrix = (
        np.random.default_rng(0).normal(size=(9001, 17)),
        np.random.default_rng(1).normal(size=(17, 17)),
    )
    together = discrete.clipped_rows(discrete.product(rows, matrix), 4.0)
    for part in (rows[:1], rows[:4095], rows[4096:4100], rows[9000:]):
        alone = discrete.clipped_rows(discrete.product(part, matrix), 4.0)
        where = np.flatnonzero((rows == part[0]).all(1))[0]
        assert (together[where : where + len(part)] == alone).all()


def test_sums_of_integers_are_exact() -> None:
    rows = np.random.default_rng(0).integers(-(1 << 20), 1 << 20, size=(70_000, 3))
    assert (discrete.gram(rows).astype(object) == rows.astype(object).T @ rows.astype(object)).all()


def test_noise_is_a_gaussian_of_its_scale_on_the_integers() -> None:
    noise = discrete.discrete_gaussian(np.zeros(20_000, dtype=np.int64), 37.5)
    assert noise.dtype == np.int64
    assert abs(noise.mean()) < 6 * 37.5 / math.sqrt(20_000)
    assert noise.std() == pytest.approx(37.5, rel=0.03)  # six standard errors
    assert discrete.discrete_gaussian(np.full(3, (1 << 63) - 1), 9.0).max() <= 1 << 62
    with pytest.raises(ValueError):
        discrete.discrete_gaussian(np.zeros(1, dtype=np.int64), 0.0)


def test_the_same_seed_gives_other_noise() -> None:
    x, outputs = chain(200, 0), []
    for _ in range(2):
        torch.manual_seed(7)
        np.random.seed(7)
        random.seed(7)
        outputs.append(MomentsMechanism(4, 1.0, DELTA).release(x))
    assert not (outputs[0].outputs[0]["squares"] == outputs[1].outputs[0]["squares"]).any()
    assert outputs[0].n != outputs[1].n


# --- moments ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("seeded_noise")
@pytest.mark.parametrize("adjacency", ["add-remove", "replace-one"])
@pytest.mark.parametrize("with_sums", [False, True])
def test_much_epsilon_gives_the_statistic_back(adjacency: str, with_sums: bool) -> None:
    x = chain(40_000, 1) + (0.3 if with_sums else 0.0)
    public = len(x) if adjacency == "replace-one" else None
    release = MomentsMechanism(
        4, 40.0, DELTA, adjacency=adjacency, with_sums=with_sums, n_public=public
    ).release(x)
    assert release.records == pytest.approx(len(x), rel=1e-3)
    assert release.n == pytest.approx(len(x), rel=3e-3)
    assert torch.allclose(release.scatter / len(x), torch.from_numpy(x.T @ x / len(x)), atol=0.03)
    assert bool((torch.linalg.eigvalsh(release.scatter) > 0).all())
    if with_sums:
        assert release.sums is not None and np.allclose(release.sums / len(x), x.mean(0), atol=0.02)
        truth = torch.from_numpy(np.cov(x.T)) * len(x)
        found = release.moments
        assert found.mean is not None and torch.allclose(found.scatter / len(x), truth / len(x), atol=0.03)
        assert found.n == pytest.approx(len(x), rel=3e-3)


@pytest.mark.usefixtures("seeded_noise")
def test_a_private_posterior_is_close_to_the_exact_one() -> None:
    distances = []
    for seed in range(6):
        x = chain(2000, seed)
        release = MomentsMechanism(4, 8.0, DELTA).release(x)
        exact = graphs(torch.from_numpy(x.T @ x), len(x))
        distances.append(float((graphs(release.scatter, release.n) - exact).abs().sum()))
    assert np.mean(distances) < 0.35


@pytest.mark.parametrize("m", [3, 8])
@pytest.mark.parametrize("factor", [1.1, 1.5])
def test_clipping_is_undone_for_any_covariance(m: int, factor: float) -> None:
    rng = np.random.default_rng(m)
    covariance = np.diag(rng.uniform(0.1, 2.0, m))
    turn = np.linalg.qr(rng.normal(size=(m, m)))[0]
    covariance = turn @ covariance @ turn.T
    y = rng.multivariate_normal(np.zeros(m), covariance, size=400_000)
    radius = factor * math.sqrt(m)
    y *= np.minimum(1.0, radius / np.linalg.norm(y, axis=1))[:, None]
    found = whitening.unclip(y.T @ y / len(y), radius, 0.0)
    assert np.abs(found - covariance).max() < 0.03


@pytest.mark.usefixtures("seeded_noise")
def test_the_noisier_a_release_the_fewer_records_it_is_worth() -> None:
    x = chain(5000, 3)
    noisy, fine = (MomentsMechanism(4, epsilon, DELTA).release(x) for epsilon in (0.3, 8.0))
    assert 1 <= noisy.n < 0.65 * len(x) < 0.9 * len(x) < fine.n < 1.01 * len(x)
    assert noisy.records == pytest.approx(len(x), rel=0.1)


@pytest.mark.usefixtures("seeded_noise")
def test_a_release_says_how_sure_one_can_be() -> None:
    """Entries of the whitened covariance miss the truth by what `n` records would: the pattern of a Wishart matrix."""
    v, errors, worth = 4, [], []
    for seed in range(60):
        x = np.random.default_rng(seed).normal(size=(1500, v))
        release = MomentsMechanism(v, 1.0, DELTA).release(x)
        found = release.second_moments / release.n
        shape = found / (np.trace(found) / v)
        errors.append(shape[np.triu_indices(v, 1)])
        worth.append(release.n)
    assert np.mean(np.square(errors)) * np.mean(worth) == pytest.approx(1.0, abs=0.35)


@pytest.mark.usefixtures("seeded_noise")
def test_far_too_few_records_give_a_statistic_all_the_same() -> None:
    for n in (0, 1, 3):
        release = MomentsMechanism(4, 0.1, DELTA).release(chain(n, 0))
        assert bool(torch.isfinite(graphs(release.scatter, release.n)).all())


def test_what_was_stored_gives_the_same_release() -> None:
    mechanism = MomentsMechanism(4, 1.0, DELTA)
    outputs = mechanism.observe(chain(100, 0))
    again = mechanism.finish(unpack(pack(outputs)))
    assert torch.equal(again.scatter, mechanism.finish(outputs).scatter)


def test_the_number_of_records_is_given_only_where_it_is_public() -> None:
    with pytest.raises(UsageError, match="number of records"):
        MomentsMechanism(4, 1.0, DELTA, n_public=100)
    with pytest.raises(UsageError, match="number of records"):
        MomentsMechanism(4, 1.0, DELTA, adjacency="replace-one")
    for epsilon, delta in ((0.0, 1e-5), (-1.0, 1e-5), (1.0, 0.0), (1.0, 0.5), (math.nan, 1e-5)):
        with pytest.raises(UsageError, match="privacy"):
            MomentsMechanism(4, epsilon, delta)


# --- counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("seeded_noise")
@pytest.mark.parametrize("order", [3, 5])
def test_much_epsilon_gives_the_counts_back(order: int) -> None:
    categories = (2, 3, 2, 2, 3)
    x = np.random.default_rng(0).integers(0, categories, size=(3000, 5))
    x[::2, 3] = x[::2, 0]
    sets = parent_sets(5, 2)
    release = CountsMechanism(categories, order, 40.0, DELTA).release(x)
    exact = bdeu(torch.from_numpy(x), torch.tensor(categories), sets, sample_size=1.0)
    inside = ~sets.T
    assert torch.allclose(release.bdeu(sets, 1.0)[inside], exact[inside], atol=15.0)
    assert np.allclose(release.table((0, 3)), [[1125, 375], [375, 1125]], atol=120)


def test_tables_of_few_variables_where_the_joint_one_is_too_large() -> None:
    assert choose_tables((2,) * 5, 4) == [(0, 1, 2, 3, 4)]
    assert choose_tables((2,) * 30, 2) == list(itertools.combinations(range(30), 2))
    assert choose_tables((4,) * 8, 2) == list(itertools.combinations(range(8), 2))
    with pytest.raises(UsageError, match="max_parents"):
        choose_tables((2,) * 60, 9)


def test_a_projected_table_has_no_negative_cell_and_the_right_sum() -> None:
    table = onto_simplex(np.array([[5.0, -2.0], [3.0, 1.0]]), 6.0)
    assert table.min() == 0 and table.sum() == pytest.approx(6.0)
    assert np.allclose(table, [[4.0, 0.0], [2.0, 0.0]])


def noisy_tables(
    categories: tuple[int, ...], order: int
) -> tuple[dict[tuple[int, ...], np.ndarray], np.ndarray]:
    """All tables of `order` variables of 300 records with noise of 5, and the joint counts."""
    rng = np.random.default_rng(0)
    joint = rng.multinomial(300, rng.dirichlet(np.ones(math.prod(categories)))).reshape(categories)
    v, tables = len(categories), {}
    for subset in itertools.combinations(range(v), order):
        counts = joint.sum(axis=tuple(i for i in range(v) if i not in subset))
        tables[subset] = counts + 5 * rng.normal(size=counts.shape)
    return tables, joint


def test_tables_agree_where_they_count_the_same_and_are_closer_to_the_truth() -> None:
    categories = (2, 3, 2, 4, 2)
    raw, joint = noisy_tables(categories, 3)
    same = agreeing(raw, 300.0)

    def margin(table: np.ndarray, subset: tuple[int, ...], part: tuple[int, ...]) -> np.ndarray:
        return np.asarray(table.sum(axis=tuple(i for i, v in enumerate(subset) if v not in part)))

    for size in (0, 1, 2):
        for part in itertools.combinations(range(5), size):
            first, *others = [
                margin(same[subset], subset, part) for subset in same if set(part) <= set(subset)
            ]
            assert all(np.allclose(other, first, atol=1e-9) for other in others)
            assert size or first == pytest.approx(300.0)
    once = agreeing(same, 300.0)
    assert all(np.allclose(once[subset], same[subset]) for subset in same)

    def off(tables: dict[tuple[int, ...], np.ndarray]) -> float:
        truth = {s: joint.sum(axis=tuple(i for i in range(5) if i not in s)) for s in tables}
        return sum(float(np.square(tables[s] - truth[s]).sum()) for s in tables)

    done = fitted(raw, 300.0)
    assert off(done) < off(same) < 0.8 * off(raw)
    assert min(float(table.min()) for table in done.values()) >= 0


@pytest.mark.usefixtures("seeded_noise")
def test_private_scores_of_overlapping_tables_find_the_edges() -> None:
    """Families' scores set overlapping tables against each other: tables that disagree would swamp what 10,000 records say."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, size=(10_000, 7))
    for child in (2, 4, 6):  # 1 -> 2, 3 -> 4, 5 -> 6, and nothing else
        x[:, child] = np.where(rng.random(10_000) < 0.3, x[:, child - 1], x[:, child])
    masks = parent_masks(7, 2)
    mechanism = CountsMechanism((3,) * 7, 3, 1.0, DELTA)
    assert len(mechanism.subsets) == 35
    table = mechanism.release(x).bdeu(parent_sets(7, 2), 1.0)
    own = (masks[None] >> torch.arange(7)[:, None]) & 1 == 1
    found = edge_marginals(table.masked_fill(own, -torch.inf), masks)
    linked = {tuple(sorted(pair)) for pair in zip(*np.nonzero(found + found.T > 0.5), strict=True)}
    assert linked == {(1, 2), (3, 4), (5, 6)}


@pytest.mark.usefixtures("seeded_noise")
def test_counts_say_how_many_records_they_are_worth() -> None:
    x = np.random.default_rng(0).integers(0, 3, size=(3000, 4))
    loose, strict = (CountsMechanism((3,) * 4, 4, epsilon, DELTA).release(x) for epsilon in (40.0, 0.5))
    assert loose.records == pytest.approx(3000, abs=30) and loose.n > 0.99 * loose.records
    assert strict.n < 0.7 * strict.records
    for release in (loose, strict):
        assert all(table.sum() == pytest.approx(release.n) for table in release.tables.values())
    nobody = CountsMechanism((3,) * 4, 4, 0.5, DELTA).release(x[:0])
    assert nobody.n < 20 and bool(torch.isfinite(nobody.bdeu(parent_sets(4, 3), 1.0)).all())


# --- answers ----------------------------------------------------------------------------------------------------------

KINDS, SIZE, RATE = 5, 6, 0.06
OBJECTS = torch.tensor(
    [c for c in itertools.product(range(SIZE + 1), repeat=KINDS) if sum(c) == SIZE]
).double()
ITEMS = categorical(lambda x: ((1 - RATE) / KINDS + RATE * x / SIZE).log())


def items(n: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    chosen = OBJECTS[rng.integers(len(OBJECTS))].numpy()
    return torch.from_numpy(rng.choice(KINDS, size=n, p=(1 - RATE) / KINDS + RATE * chosen / SIZE))


@pytest.mark.usefixtures("seeded_noise")
def test_answers_about_every_multiset_are_close_to_its_posterior() -> None:
    mechanism = AnswersMechanism.for_domain(ITEMS, OBJECTS, torch.arange(KINDS), 4.0, DELTA)
    assert mechanism.dimension <= KINDS
    distances = []
    for seed in range(8):
        records = items(2000, seed)
        exact = torch.softmax(ITEMS(records, OBJECTS).sum(0), 0)
        private = torch.softmax(mechanism.release(records).log_likelihood, 0)
        distances.append(float((private - exact).abs().sum()))
    assert np.mean(distances) <= 0.15


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_bad_bounds_and_deltas_are_refused_without_a_number_of_the_data() -> None:
    x = np.full((100, 2), 31.25)
    cases = [
        ("missing-bounds", lambda: checks.check_bounds(x, np.array([0, np.nan]), np.ones(2))),
        ("bounds-clip-most", lambda: checks.check_bounds(x, np.zeros(2), np.ones(2))),
        ("bounds-clip-most", lambda: checks.check_radius(x, math.sqrt(2))),
        ("delta-too-large", lambda: checks.check_delta(0.01, 100)),
    ]
    for reason, call in cases:
        with pytest.raises(EpgfnError) as refused:
            call()
        assert isinstance(refused.value, RefusedError) and refused.value.reason == reason
        assert "31" not in str(refused.value) and "100" not in str(refused.value)
    kept = checks.check_bounds(x / 31.25, np.zeros(2), np.full(2, 0.5) + 0.5)
    assert kept.max() == 1.0

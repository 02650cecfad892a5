"""Exact posteriors: equal to a listing of all DAGs however peaked the scores, and able to do what a listing cannot."""

from __future__ import annotations

import math
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.measure.exact import (
    auroc,
    edge_errors,
    edge_marginals,
    enumerate_dags,
    l1,
    local_marginals,
    log_partition,
    log_scores,
    posterior,
    sample_dags,
    total_variation,
)
from epgfn.gflownet.spaces.parent_sets import parent_masks, parent_matrix, popcount
from epgfn.learn.scores import score_table, study_masks
from epgfn.study import Study
from epgfn.study.records.tables import load_records

SACHS = Path(__file__).parents[3] / "examples" / "sachs"


def random_table(n_variables: int, max_parents: int, spread: float, seed: int) -> tuple[Tensor, Tensor]:
    """Scores of standard deviation `spread` nats around -500, and their parent sets."""
    masks = parent_masks(n_variables, max_parents)
    noise = torch.randn(
        n_variables, len(masks), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return (spread * noise - 500).masked_fill(parent_matrix(masks, n_variables).T, -torch.inf), masks


@pytest.mark.parametrize(("n_variables", "count"), [(1, 1), (2, 3), (3, 25), (4, 543), (5, 29281)])
def test_every_dag_is_listed_once(n_variables: int, count: int) -> None:
    adjacency = enumerate_dags(n_variables)
    assert len(adjacency) == count == len(torch.unique(adjacency.flatten(1), dim=0))
    some = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:200]
    assert all(nx.is_directed_acyclic_graph(nx.DiGraph(a.numpy().astype(int))) for a in adjacency[some])
    assert not adjacency[0].any()
    for most in range(n_variables):
        kept = adjacency[(adjacency.sum(1) <= most).all(1)]
        assert torch.equal(enumerate_dags(n_variables, most), kept)


@settings(max_examples=60)
@given(
    n_variables=st.integers(1, 4),
    max_parents=st.integers(0, 3),
    spread=st.sampled_from([0.0, 1.0, 20.0, 300.0, 3000.0]),
    seed=st.integers(0, 10**6),
)
def test_sums_over_layers_equal_the_listing(
    n_variables: int, max_parents: int, spread: float, seed: int
) -> None:
    agree(*random_table(n_variables, max_parents, spread, seed))


@pytest.mark.parametrize("max_parents", [1, 2, 4])
@pytest.mark.parametrize("spread", [1.0, 30.0, 500.0])
def test_sums_over_layers_equal_the_listing_of_five_variables(max_parents: int, spread: float) -> None:
    agree(*random_table(5, max_parents, spread, 7))


def agree(table: Tensor, masks: Tensor) -> None:
    """Edge and parent-set marginals and log Z against enumeration."""
    adjacency, p = posterior(table, masks)
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    edges = torch.einsum("d,dij->ij", p, adjacency.double()).numpy()
    assert np.abs(edge_marginals(table, masks) - edges).max() < 1e-10
    bits = 1 << torch.arange(len(table))
    parents = (adjacency.long() * bits[:, None]).sum(1)  # (D, V)
    local = torch.einsum("d,djk->jk", p, (parents[:, :, None] == masks).double()).numpy()
    assert np.abs(local_marginals(table, masks) - local).max() < 1e-10
    log_z = float(torch.logsumexp(log_scores(table, masks, adjacency), 0))
    assert log_partition(table, masks) == pytest.approx(log_z, rel=1e-13, abs=1e-9)


def test_masks_may_come_in_any_order_and_with_holes() -> None:
    table, masks = random_table(4, 3, 3.0, 1)
    keep = torch.randperm(len(masks), generator=torch.Generator().manual_seed(1))[:12]
    keep = torch.unique(torch.cat([keep, torch.tensor([0])])).flip(
        0
    )  # with the empty set, so that some DAG is left
    agree(table[:, keep], masks[keep])


def test_equal_scores_count_dags() -> None:
    """The number of labelled DAGs, OEIS A003024."""
    for n_variables, count in [(6, 3781503), (7, 1138779265), (8, 783702329343)]:
        masks = parent_masks(n_variables, n_variables - 1)
        table = torch.zeros(n_variables, len(masks))
        assert math.exp(log_partition(table, masks)) == pytest.approx(count, rel=1e-10)


def test_samples_have_the_exact_distribution() -> None:
    table, masks = random_table(4, 3, 1.5, 2)
    adjacency, p = posterior(table, masks)
    n = 40_000
    drawn = sample_dags(table, masks, n, seed=5)
    assert torch.equal(drawn, sample_dags(table, masks, n, seed=5))
    bits = 1 << torch.arange(16)
    code = (adjacency.flatten(1).long() * bits).sum(1)
    seen = torch.bincount((drawn.flatten(1).long() * bits).sum(1), minlength=1 << 16)[code]
    assert int(seen.sum()) == n
    common = p * n > 5
    z2 = ((seen - n * p) ** 2 / (n * p))[common]
    freedom = int(common.sum()) - 1
    assert abs(float(z2.sum()) - freedom) < 6 * math.sqrt(2 * freedom)  # chi-square; the seed is fixed


def test_samples_of_a_peaked_posterior_hold_the_peaks() -> None:
    table, masks = random_table(5, 4, 300.0, 3)  # two graphs hold all but 1e-11 of the mass, .835 and .165
    adjacency, p = posterior(table, masks)
    drawn = sample_dags(table, masks, 2000, seed=1)
    (much, little), peaks = p.topk(2)
    shares = [(drawn == adjacency[peak]).all((1, 2)).double().mean() for peak in peaks]
    assert float(shares[0] + shares[1]) == 1.0 and float(shares[0]) == pytest.approx(float(much), abs=0.04)
    assert float(little) > 0.1
    assert sample_dags(table, masks, 0, seed=1).shape == (0, 5, 5)


def test_sachs_product_of_four_institutions() -> None:
    study = Study.load(SACHS / "study.toml")
    records = load_records(SACHS / "sachs.csv", study)
    parts = np.array_split(np.random.default_rng(0).permutation(len(records)), 4)
    table, masks = sum(score_table(study, records[rows], 4) for rows in parts), study_masks(study)
    assert isinstance(table, Tensor)
    local = local_marginals(table, masks)
    assert np.allclose(local.sum(1), 1, atol=1e-10) and local.min() >= 0
    edges = edge_marginals(table, masks)
    raf, mek, erk, akt = (study.variable_names.index(name) for name in ("raf", "mek", "erk", "akt"))
    assert edges[raf, mek] + edges[mek, raf] == pytest.approx(1, abs=1e-3)
    assert edges[erk, akt] + edges[akt, erk] == pytest.approx(1, abs=1e-3)
    assert np.allclose(np.diag(edges), 0) and (edges + edges.T).max() <= 1 + 1e-10
    drawn = sample_dags(table, masks, 2000, seed=1)
    assert edge_errors(drawn.double().mean(0).numpy(), edges)[1] < 0.05
    assert int(popcount((drawn.long() << torch.arange(11)[:, None]).sum(1)).max()) <= study.space.max_parents


def test_too_many_variables_are_refused_with_a_way_out() -> None:
    with pytest.raises(UsageError, match="exact up to 14"):
        enumerate_dags(6)
    masks = parent_masks(15, 1)
    with pytest.raises(UsageError, match="draw samples"):
        edge_marginals(torch.zeros(15, len(masks)), masks)


def test_scores_without_a_distribution_are_refused() -> None:
    table, masks = random_table(3, 2, 1.0, 4)
    cyclic = torch.where(popcount(masks) == 2, 0.0, -torch.inf).expand(3, -1)  # everybody needs both others
    for broken in (
        torch.full_like(table, torch.nan),
        torch.full_like(table, -torch.inf),
        table + torch.inf,
        cyclic,
    ):
        for compute in (edge_marginals, log_partition, posterior, lambda t, m: sample_dags(t, m, 1, 0)):
            with pytest.raises(EpgfnError):
                compute(broken, masks)


def test_errors_leave_out_the_diagonal() -> None:
    exact = np.array([[9.0, 0.5], [0.25, 9.0]])
    assert edge_errors(np.array([[0.0, 0.75], [0.25, 0.0]]), exact) == (0.125, 0.25)


def test_auroc_counts_ties_half() -> None:
    truth = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1]])
    assert auroc(np.array([[0, 0.9, 0.1], [0.2, 0, 0.8], [0.3, 0.1, 0]]), truth) == 1.0
    assert auroc(np.full((3, 3), 0.5), truth) == 0.5
    # true edges score .4 and .2, false ones .4, .3, .2, .1: (.5 + 1 + 1 + 1 + 0 + 0 + .5 + 1) / 8
    assert auroc(np.array([[0, 0.4, 0.4], [0.3, 0, 0.2], [0.2, 0.1, 0]]), truth) == 5 / 8
    assert math.isnan(auroc(np.zeros((3, 3)), np.zeros((3, 3))))


def test_distances_between_distributions() -> None:
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.25, 0.5])
    assert l1(p, q) == 1.0 and total_variation(p, q) == 0.5

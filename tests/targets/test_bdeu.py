"""BDeu: by hand, record by record, and the same for equivalent graphs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.measure.exact import enumerate_dags, log_scores
from epgfn.gflownet.spaces.parent_sets import parent_masks, parent_sets
from epgfn.targets.bdeu import bdeu, run_lengths

CATEGORIES = torch.tensor([2, 3, 2, 4])


def columns(n: int, seed: int, categories: Tensor = CATEGORIES) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(2, (n,), generator=generator)
    noise = torch.stack([torch.randint(int(r), (n,), generator=generator) for r in categories], 1)
    return (noise + (torch.rand(n, len(categories), generator=generator) < 0.5) * first[:, None]) % categories


def members(mask: int) -> list[int]:
    return [i for i in range(62) if mask >> i & 1]


def one_by_one(x: Tensor, j: int, parents: list[int], sample_size: float) -> float:
    """log p(D_j | D_Pa) record by record: the chance of a category is (its prior share + how often it was seen here)."""
    configurations = math.prod(int(CATEGORIES[i]) for i in parents)
    prior = sample_size / (configurations * int(CATEGORIES[j]))
    seen: dict[tuple[int, ...], list[int]] = {}
    total = 0.0
    for row in x.tolist():
        counts = seen.setdefault(tuple(row[i] for i in parents), [0] * int(CATEGORIES[j]))
        total += math.log((prior + counts[row[j]]) / (prior * len(counts) + sum(counts)))
        counts[row[j]] += 1
    return total


@settings(max_examples=15)
@given(st.integers(0, 40), st.floats(0.1, 20), st.integers(0, 2**31))
def test_scores_are_predictions_multiplied(n: int, sample_size: float, seed: int) -> None:
    x, masks = columns(n, seed), parent_masks(4, 3)
    table = bdeu(x, CATEGORIES, parent_sets(4, 3), sample_size=sample_size)
    for j in range(4):
        for k, mask in enumerate(masks.tolist()):
            if not mask >> j & 1:
                expected = one_by_one(x, j, members(mask), sample_size)
                assert float(table[j, k]) == pytest.approx(expected, abs=1e-8)


def test_by_hand() -> None:
    """a = 1 and four records of two coins. Alone: Beta(1/2, 1/2), two heads of four: B(2.5, 2.5) / B(.5, .5) = 3/128. Given the
    other coin, which is always the same: two of two twice, with Beta(1/4, 1/4): (1/4 * 5/4 / (1/2 * 3/2))^2 = 25/144."""
    x = torch.tensor([[0, 0], [0, 0], [1, 1], [1, 1]])
    table = bdeu(x, torch.tensor([2, 2]), parent_sets(2, 1), sample_size=1.0)
    assert float(table[0, 0]) == pytest.approx(math.log(3 / 128))
    assert float(table[0, 2]) == pytest.approx(math.log(25 / 144))


def test_equivalent_graphs_score_the_same() -> None:
    masks, adjacency = parent_masks(4, 3), enumerate_dags(4)
    table = bdeu(columns(60, 1), CATEGORIES, parent_sets(4, 3), sample_size=2.0)
    total = log_scores(table, masks, adjacency)
    skeleton = adjacency | adjacency.transpose(1, 2)
    apart = ~skeleton & ~torch.eye(4, dtype=torch.bool)
    collider = adjacency[:, :, None, :] & adjacency[:, None, :, :] & apart[:, :, :, None]  # i -> k <- j
    _, group = torch.unique(
        torch.cat([skeleton.flatten(1), collider.flatten(1)], 1), dim=0, return_inverse=True
    )
    assert int(group.max()) + 1 == 185  # essential graphs on 4 variables
    for g in range(185):
        assert float(total[group == g].max() - total[group == g].min()) < 1e-9


def test_a_category_nobody_saw_still_counts() -> None:
    x, sets = columns(20, 2, torch.tensor([2, 2])), parent_sets(2, 1)
    two, three = (bdeu(x, torch.tensor([2, r]), sets, sample_size=1.0) for r in (2, 3))
    assert float(two[1, 0]) > float(three[1, 0])


@settings(max_examples=30)
@given(st.lists(st.integers(-3, 3), max_size=12))
def test_run_lengths_count(values: list[int]) -> None:
    expected = [values.count(v) for v in sorted(set(values))]
    assert run_lengths(torch.tensor([values], dtype=torch.int64))[0].tolist() == expected + [0] * (
        len(values) - len(expected)
    )


@pytest.mark.parametrize("sample_size", [0.0, -1.0, math.nan, math.inf])
def test_impossible_sample_sizes_are_refused(sample_size: float) -> None:
    with pytest.raises(UsageError, match="sample size"):
        bdeu(columns(5, 0), CATEGORIES, parent_sets(4, 1), sample_size=sample_size)


def test_categories_outside_the_study_are_refused_by_column() -> None:
    x = columns(5, 0)
    for bad in (-1, 3):
        x[2, 1] = bad
        with pytest.raises(UsageError, match="column 2"):
            bdeu(x, CATEGORIES, parent_sets(4, 1), sample_size=1.0)
    with pytest.raises(UsageError, match="at least 2"):
        bdeu(columns(5, 0), torch.tensor([2, 3, 1, 4]), parent_sets(4, 1), sample_size=1.0)


def test_families_beyond_numbering_are_refused() -> None:
    x, many = torch.zeros(3, 4, dtype=torch.int64), torch.full((4,), 1 << 20)
    assert bool(torch.isfinite(bdeu(x, many, parent_sets(4, 2), sample_size=1.0)[0, 0]))
    with pytest.raises(UsageError, match="too many configurations"):
        bdeu(x, many, parent_sets(4, 3), sample_size=1.0)

"""Substitution models: equal to the matrix exponentials and the gamma quarters that define them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.linalg import expm
from scipy.stats import gamma

from epgfn.base.errors import UsageError
from epgfn.targets.substitution import hky, jc69, renamed, speeds

PI, KAPPA = [0.3, 0.1, 0.2, 0.4], 4.0


def rate_matrix() -> np.ndarray:
    """HKY as its authors write it, a transition (A-G, C-T) kappa times as fast, one change per unit of time."""
    q = np.zeros((4, 4))
    for x, y in itertools.permutations(range(4), 2):
        q[x, y] = PI[y] * (KAPPA if {x, y} in ({0, 2}, {1, 3}) else 1.0)
    q -= np.diag(q.sum(1))
    return q / -(np.array(PI) * np.diag(q)).sum()


@pytest.mark.parametrize("length", [1e-6, 0.1, 3.0])
def test_changes_along_a_branch_are_the_matrix_exponential(length: float) -> None:
    model = hky(PI, KAPPA, 0.5)
    found = model.changes(torch.tensor([length], dtype=torch.float64))[0]
    for k, speed in enumerate(model.speeds.tolist()):
        assert found[k].numpy() == pytest.approx(expm(rate_matrix() * length * speed), abs=1e-12)


def test_jukes_and_cantor_change_by_their_formula() -> None:
    found = jc69().changes(torch.tensor(0.2, dtype=torch.float64))[0]
    decay = np.exp(-4 * 0.2 / 3)
    assert found.numpy() == pytest.approx(np.full((4, 4), (1 - decay) / 4) + decay * np.eye(4), abs=1e-14)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 3.0])
def test_speeds_are_the_means_of_the_quarters_of_a_gamma_distribution(alpha: float) -> None:
    ends = gamma.ppf(np.arange(5) / 4, alpha, scale=1 / alpha)
    share = gamma(alpha + 1, scale=1 / alpha)  # x times the density, over the mean
    expected = [4 * (share.cdf(high) - share.cdf(low)) for low, high in itertools.pairwise(ends)]
    assert speeds(alpha) == pytest.approx(expected, rel=1e-9) and speeds(alpha).mean() == pytest.approx(1)
    middle = 4 * quad(lambda x: x * gamma.pdf(x, alpha, scale=1 / alpha), ends[2], ends[3])[0]
    assert speeds(alpha)[2] == pytest.approx(middle, rel=1e-6)


def test_sites_that_differ_in_the_names_of_bases_alone_become_one() -> None:
    codes = torch.tensor([[1, 8, 2, 1], [1, 8, 2, 15], [4, 1, 8, 3], [2, 2, 1, 12]], dtype=torch.uint8)
    found = renamed(codes)
    assert (found[:, 0] == found[:, 1]).all() and (found[:, 0] == found[:, 2]).all()
    assert (found[:, 3] != found[:, 0]).any() and int(found[1, 3]) == 15
    assert (renamed(found) == found).all()
    assert jc69(0.5).alike and not hky([0.25] * 4, 2.0).alike and not hky(PI, 1.0).alike


@pytest.mark.parametrize(
    "wrong",
    [([0.5, 0.5, 0, 0], 1.0, None), (PI, 0.0, None), (PI, 1.0, 0.0), (PI, 1.0, -1.0), ([1.0] * 3, 1.0, None)],
)
def test_models_that_make_no_sense_are_refused(wrong: tuple[list[float], float, float | None]) -> None:
    with pytest.raises(UsageError):
        hky(*wrong)

"""Effects given graphs: by sums over paths, and coefficients as the posterior of the precision matrix has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import wishart

from epgfn.gflownet.measure.exact import enumerate_dags
from epgfn.study.kinds.dag import GaussianSettings
from epgfn.targets.bge import precision
from epgfn.targets.effects import Families, total
from epgfn.targets.gaussian import Moments


def moments(v: int, seed: int, n: int = 30) -> Moments:
    rng = np.random.default_rng(seed)
    return Moments.of_records(torch.from_numpy(rng.normal(size=(n, v)) @ rng.normal(size=(v, v)) + 1))


def by_paths(graph: np.ndarray, r: np.ndarray, start: int, end: int) -> float:
    """The sum over directed paths of products of mean coefficients: no matrix is inverted but each family's."""
    if start == end:
        return 1.0
    found = 0.0
    for child in np.flatnonzero(graph[start]):
        parents = np.flatnonzero(graph[:, child])
        mean = np.linalg.solve(r[np.ix_(parents, parents)], r[parents, child])
        found += float(mean[list(parents).index(start)]) * by_paths(graph, r, int(child), end)
    return found


@pytest.mark.parametrize("v", [3, 4])
def test_the_mean_effect_is_a_sum_over_paths_in_every_graph(v: int) -> None:
    known = precision(moments(v, 1), GaussianSettings())
    graphs = torch.as_tensor(enumerate_dags(v)).bool()
    found = total(Families.of(known, graphs).means(torch.arange(len(graphs))))
    for graph, effect in zip(graphs.numpy(), found, strict=True):
        for i in range(v):
            for j in range(v):
                assert float(effect[i, j]) == pytest.approx(by_paths(graph, known.r.numpy(), i, j), abs=1e-9)


@pytest.mark.parametrize(
    "settings",
    [
        GaussianSettings(),
        GaussianSettings(mean="known"),
        GaussianSettings(alpha_mu=2.0),
        GaussianSettings(alpha_w=9.0, t=0.5),
    ],
)
def test_coefficients_are_those_of_the_precision_matrix(settings: GaussianSettings) -> None:
    """Of a variable with two of three others for parents: W drawn as a whole, and the regression in the block of the family."""
    known, n = precision(moments(4, 2, 6), settings), 40_000
    graph = torch.zeros(1, 4, 4, dtype=torch.bool)
    graph[0, [0, 2], 3] = True
    graph[0, 0, 2] = True
    drawn = Families.of(known, graph).drawn(
        torch.zeros(n, dtype=torch.int64), torch.Generator().manual_seed(0)
    )
    w = wishart.rvs(
        known.degrees, np.linalg.inv(known.r.numpy()), size=n, random_state=np.random.default_rng(3)
    )
    covariance = np.linalg.inv(w)
    of_parents, towards = covariance[:, [[0], [2]], [0, 2]], covariance[:, [0, 2], 3]
    wanted = np.linalg.solve(of_parents, towards[:, :, None])[:, :, 0]
    ours = drawn[:, [0, 2], 3].numpy()
    spread = np.cov(wanted.T)
    assert np.abs(ours.mean(0) - wanted.mean(0)).max() < 0.03 * np.sqrt(np.diag(spread)).max()
    assert np.abs(np.cov(ours.T) - spread).max() < 0.05 * np.diag(spread).max()
    assert not drawn[:, 1].any() and not drawn[:, :, 0].any()
    # Coefficients of different families are independent of each other.
    assert abs(float(torch.corrcoef(torch.stack([drawn[:, 0, 2], drawn[:, 2, 3]]))[0, 1])) < 0.02

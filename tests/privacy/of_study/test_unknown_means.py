"""A release of sites whose means differ holds their sums, and says nothing of edges that are not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from epgfn.base.errors import UsageError
from epgfn.gflownet.measure.exact import edge_marginals
from epgfn.learn.scores import score_table, study_masks
from epgfn.privacy.of_study.agreement import require_claim
from epgfn.privacy.of_study.releases import maker_of
from epgfn.study import Study
from epgfn.study.records.tables import BoundedRecords

pytestmark = pytest.mark.usefixtures("seeded_noise")
SITES = {"north": -0.8, "south": 0.0, "west": 0.8}


def study_of(**target: object) -> Study:
    return Study.model_validate(
        {
            "name": "means",
            "roster": list(SITES),
            "variables": [{"name": name, "lower": -6.0, "upper": 6.0} for name in "abc"],
            "space": {"max_parents": 2},
            "privacy": {"mode": "statistic", "epsilon": 4.0, "delta": 1e-5, "radius": 1.5},
            "target": target,
        }
    )


def product(study: Study, sites: dict[str, np.ndarray]) -> np.ndarray:
    """P(edge) of the exact product of what the nodes release."""
    tables = []
    for node, x in sites.items():
        maker = maker_of(study, node)
        done = maker.finish(maker.observe(BoundedRecords(x, x)))
        assert require_claim(study, done.claim.to_json()) is not None
        assert done.target is not None and done.target.table is not None
        tables.append(done.target.table)
    return edge_marginals(torch.stack(tables).sum(0), study_masks(study))


@pytest.mark.parametrize("kind", ["bge", "bic"])
def test_private_sites_with_different_means_are_no_edge(kind: str) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        sites = {node: rng.normal(size=(10_000, 3)) + mean for node, mean in SITES.items()}
        assert product(study_of(kind=kind), sites).max() < 0.1
    assert product(study_of(kind=kind, mean="known"), sites).max() > 0.4  # what it was


def test_an_edge_that_is_there_is_seen_through_means_and_noise() -> None:
    rng = np.random.default_rng(5)
    sites = {}
    for node, mean in SITES.items():
        x = rng.normal(size=(10_000, 3))
        x[:, 1] = 0.6 * x[:, 0] + 0.8 * x[:, 1]
        sites[node] = x + mean
    study = study_of(kind="bge")
    found = product(study, sites)
    exact = edge_marginals(
        torch.stack([score_table(study, x, 3) for x in sites.values()]).sum(0), study_masks(study)
    )
    assert found[0, 1] + found[1, 0] > 0.99
    assert np.abs(found - exact).max() < 0.1


def test_only_a_study_with_an_unknown_mean_releases_sums() -> None:
    for target, sums in (({}, True), ({"mean": "unknown"}, True), ({"mean": "known"}, False)):
        stages = maker_of(study_of(kind="bge", **target), "north").planned_claim.stages
        assert [("sums" in {part.kind for part in stage.noise}) for stage in stages] == [sums, sums]


def test_a_study_of_before_is_refused_before_anything_is_released() -> None:
    with pytest.raises(UsageError, match=r"target\.mean"):
        maker_of(study_of(kind="bge", alpha_mu=1.0), "north")

"""What the membership bench claims to do: read records' statistic off an artifact, and count who is caught."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from epgfn.base.console import run_app
from epgfn.base.errors import UsageError
from epgfn.bench import membership_attacks as attacks
from epgfn.bench.membership import Setting, World, figures, membership
from epgfn.cli.main import app
from epgfn.gflownet.policies.order_potential import SCORES
from epgfn.learn.policy import initial_policy
from epgfn.learn.scores import study_masks, table_from_moments
from epgfn.study import Study
from epgfn.targets.gaussian import Moments

pytestmark = pytest.mark.usefixtures("seeded_noise")
FIVE = Study.from_bytes(
    b'name = "five"\nroster = ["a"]\nvariables = [{name="a"},{name="b"},{name="c"},{name="d"},{name="e"}]\n'
    b'[space]\nmax_parents = 4\n[policy]\nhidden = 16\n[target]\nmean = "known"\n'
)
EYE = torch.eye(5, dtype=torch.float64)


def test_whoever_has_the_artifact_has_the_second_moments_of_the_records() -> None:
    world = World(100, None, np.random.default_rng(1))
    records = world.draw(100)
    scatter = torch.from_numpy(records.T @ records)
    generator = torch.Generator().manual_seed(0)
    tensors = initial_policy(FIVE, table_from_moments(FIVE, Moments(100.0, None, scatter), 1), generator)
    scores = attacks.set_scores(tensors[SCORES][None], study_masks(FIVE))
    found = attacks.read_statistic(scores, torch.tensor([100.0]).double(), world.mixing, world.starts)
    assert float(found.misfit) < 1e-4
    torch.testing.assert_close(found.second_moments[0] - 0.5 * EYE, scatter, rtol=1e-3, atol=1e-2)


def test_predicted_scores_are_the_ones_of_the_study_s_target() -> None:
    records = np.random.default_rng(2).normal(size=(40, 5))
    scatter = torch.from_numpy(records.T @ records)
    table = table_from_moments(FIVE, Moments(40.5, None, scatter), 1)
    scores = attacks.set_scores(table[None], study_masks(FIVE))
    predicted = attacks.predicted_scores((scatter + 0.5 * EYE)[None], torch.tensor([40.5]).double())
    torch.testing.assert_close(scores, predicted)


def test_the_likelihood_ratio_is_that_of_two_wishart_densities() -> None:
    from scipy.stats import wishart

    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(5, 5))
    covariance, targets = mixing.T @ mixing, rng.normal(size=(2, 5)) @ mixing
    records = rng.normal(size=(30, 5)) @ mixing
    scatter = records.T @ records + targets[0][:, None] * targets[0] + targets[1][:, None] * targets[1]
    exact = [
        wishart.logpdf(scatter - np.outer(x, x), 31, covariance) - wishart.logpdf(scatter, 32, covariance)
        for x in targets
    ]
    ours = attacks.known_population(
        torch.from_numpy(scatter).expand(2, -1, -1), 32, torch.from_numpy(targets), torch.from_numpy(mixing)
    )
    assert float(ours[0] - ours[1]) == pytest.approx(exact[0] - exact[1], abs=1e-9)


def test_the_figures_of_known_scores() -> None:
    rng = np.random.default_rng(4)
    member, other = rng.normal(size=2000) + 1.0, rng.normal(size=2000)
    (auc, low, high), (tpr, tpr_low, tpr_high) = figures(list(member[:, None]), list(other[:, None]))
    assert low < auc < high and auc == pytest.approx(0.760, abs=0.02)  # Phi(1 / sqrt 2)
    assert tpr_low <= tpr <= tpr_high and tpr == pytest.approx(0.0924, abs=0.03)  # Phi(1 - 2.326)
    (auc, low, high), (tpr, _, _) = figures(list(np.ones((50, 1))), list(np.zeros((50, 1))))
    assert (auc, high, tpr) == (1.0, 1.0, 1.0) and low == pytest.approx(1 - 3 / 50)


def test_without_privacy_an_outlier_is_found_and_with_it_the_claim_bounds_the_attack() -> None:
    rows = membership(Setting(records=(100,), epsilons=(None, 1.0), targets=48, worlds=1, trained=0))
    found = {(row["epsilon"], row["attack"], row["kind"]): row for row in rows}
    assert found[None, "all-but-one", "typical"]["auc"] == 1.0
    assert found[None, "score-table", "outlier"]["auc_low"] > 0.6
    worst = found[1.0, "all-but-one", "outlier"]
    assert worst["auc_low"] <= worst["auc_bound"] < 0.6
    assert all(math.isfinite(row["auc"]) and row["auc_low"] <= row["auc_high"] for row in rows)
    assert {row["targets"] for row in rows} == {48}


def test_the_command_prints_rows_and_trains_a_policy_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--records", "100", "--epsilon", "0", "--targets", "16", "--trained", "2", "--json"]
    with pytest.raises(SystemExit) as ended:
        run_app(app, "epgfn", ["bench", "membership", *options])
    assert ended.value.code == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {
        "records",
        "epsilon",
        "attack",
        "targets",
        "auc",
        "auc_low",
        "auc_high",
        "tpr_at_1pct_fpr",
    } <= set(rows[0])
    flow = [row for row in rows if row["attack"] == "flow"]
    assert [(row["targets"], row["epsilon"]) for row in flow] == [(32, None)]


@pytest.mark.parametrize(
    "wrong", [{"records": (5,)}, {"records": (100_000,)}, {"targets": 8}, {"trained": -1}]
)
def test_a_wrong_question_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Setting(**wrong)  # type: ignore[arg-type]

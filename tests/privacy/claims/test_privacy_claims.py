"""A claim adds up or is refused, and claims compose to no less than they cost."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from epgfn.base.errors import RefusedError
from epgfn.privacy.accounting import gdp_epsilon
from epgfn.privacy.claims.claims import Claim, Limits, recompute, verify_claim
from epgfn.privacy.claims.sensitivity import stage_mu
from epgfn.privacy.mechanisms.answers import AnswersMechanism
from epgfn.privacy.mechanisms.counts import CountsMechanism
from epgfn.privacy.mechanisms.gradient import GradientSettings, RecordSgd, clipped_gradient
from epgfn.privacy.mechanisms.moments import MomentsMechanism
from epgfn.privacy.spending.spending import composed
from epgfn.targets.additive import location

DELTA = 1e-5
X = np.random.default_rng(0).normal(size=(200, 3))


NAMES = ["moments", "moments with sums", "replace-one", "joint counts", "counts", "answers", "gradient"]


@functools.cache
def claims() -> dict[str, Claim]:
    points = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return {
        "moments": MomentsMechanism(3, 2.0, DELTA).release(X).claim,
        "moments with sums": MomentsMechanism(3, 2.0, DELTA, with_sums=True).release(X).claim,
        "replace-one": MomentsMechanism(
            3, 2.0, DELTA, adjacency="replace-one", with_sums=True, n_public=200
        ).planned_claim,
        "joint counts": CountsMechanism((2, 2), 2, 2.0, DELTA).planned_claim,
        "counts": CountsMechanism((2,) * 9, 2, 2.0, DELTA).planned_claim,
        "answers": AnswersMechanism(location(1.0), points, 5, 2.0, DELTA, 3.0).planned_claim,
        "gradient": GradientSettings.for_epsilon(2.0, DELTA, rate=0.1, steps=20, clip=1.0).claim(),
    }


def limits(claim: Claim, **changes: Any) -> Limits:
    values = {"mode": claim.mode, "adjacency": claim.adjacency, "epsilon": 2.0, "delta": DELTA}
    return Limits(**{**values, **changes})


@pytest.mark.parametrize("name", NAMES)
def test_a_claim_survives_the_wire_and_adds_up(name: str) -> None:
    claim = Claim.from_json(json.loads(json.dumps(claims()[name].to_json())))
    assert claim == claims()[name]
    assert verify_claim(claim, limits(claim)).epsilon <= 2.0
    assert recompute(claim).epsilon == pytest.approx(claim.epsilon) and claim.epsilon > 1.9


def changed(value: Any, path: list[Any], factor: float) -> Any:
    if not path:
        return type(value)(value * factor)
    value[path[0]] = changed(value[path[0]], path[1:], factor)
    return value


@pytest.mark.parametrize("name", NAMES)
def test_less_noise_than_claimed_is_refused(name: str) -> None:
    where: list[Any] = (
        ["subsampling", "noise_multiplier"] if name == "gradient" else ["stages", 0, "noise", 0, "scale"]
    )
    claim = Claim.from_json(changed(claims()[name].to_json(), where, 0.5))
    with pytest.raises(RefusedError) as refused:
        verify_claim(claim, limits(claim))
    assert refused.value.reason == "claim-too-weak"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gradient"])
@pytest.mark.parametrize("path", [["mu"], ["rho"], ["stages", 0, "mu"], ["stages", 0, "sensitivity"]])
def test_numbers_that_do_not_add_up_are_refused(name: str, path: list[Any]) -> None:
    claim = Claim.from_json(changed(claims()[name].to_json(), path, 0.99))
    with pytest.raises(RefusedError) as refused:
        verify_claim(claim, limits(claim))
    assert refused.value.reason == "claim-wrong"


@pytest.mark.parametrize("name", NAMES)
def test_what_the_study_does_not_allow_is_refused(name: str) -> None:
    claim = claims()[name]
    other = "replace-one" if claim.adjacency == "add-remove" else "add-remove"
    for change, reason in (
        ({"epsilon": 1.5}, "claim-above-limit"),
        ({"delta": 1e-6}, "claim-above-limit"),
        ({"adjacency": other}, "claim-wrong"),
        ({"mode": "answers" if claim.mode == "statistic" else "statistic"}, "claim-wrong"),
    ):
        with pytest.raises(RefusedError) as refused:
            verify_claim(claim, limits(claim, **change))
        assert refused.value.reason == reason


def test_a_claim_of_another_form_is_refused_and_never_a_crash() -> None:
    good = claims()["moments"].to_json()
    noise = {"kind": "cells", "entries": 4, "unit": 1, "scale": 3.0}
    broken = [
        None,
        {},
        {**good, "extra": 1},
        {**good, "epsilon": "2"},
        {**good, "epsilon": float("nan")},
        {**good, "stages": []},
        {**good, "mode": "answers"},
        {**good, "mode": "gradient"},
        {**good, "stages": [{**good["stages"][0], "noise": [noise]}]},
        {**good, "stages": [{**good["stages"][0], "formula": "counts"}]},
        {**good, "stages": [{**good["stages"][0], "norm_bound": 0}]},
        {**claims()["replace-one"].to_json(), "stages": good["stages"]},
        {**claims()["gradient"].to_json(), "adjacency": "replace-one"},
        {**claims()["gradient"].to_json(), "mu": 1.0},
    ]
    for value in broken:
        with pytest.raises(RefusedError) as refused:
            claim = Claim.from_json(value)
            verify_claim(claim, limits(claim))
        assert refused.value.reason == "claim-wrong"
    tiny = changed(json.loads(json.dumps(good)), ["stages", 0, "noise", 0, "scale"], 1e-12)
    with pytest.raises(RefusedError):
        verify_claim(Claim.from_json(tiny), limits(claims()["moments"]))


def test_a_claim_does_not_depend_on_the_number_of_records() -> None:
    few, many = (MomentsMechanism(3, 2.0, DELTA).release(X[:n]).claim.to_json() for n in (50, 200))
    assert few["stages"][0] == many["stages"][0] and few["mu"] == pytest.approx(many["mu"])


def test_steps_of_sgd_add_to_gaussian_releases() -> None:
    gaussian, steps = claims()["moments"], claims()["gradient"]
    assert composed([], DELTA) == 0.0
    assert composed([gaussian, gaussian], DELTA) < 2 * gaussian.epsilon
    assert composed([gaussian, steps], 2 * DELTA) > gaussian.epsilon + steps.epsilon - 0.1
    assert composed([gaussian, steps], DELTA) == float("inf")


def test_releases_of_both_adjacencies_count_as_replacing_a_record() -> None:
    """Replacing is removing and adding: mu of add-remove counts twice, epsilon of DP-SGD too, and its delta 1 + e^epsilon times."""
    ours, theirs, steps = (claims()[name] for name in ("moments", "replace-one", "gradient"))
    mu = math.hypot(2 * recompute(ours).mu, recompute(theirs).mu)
    assert composed([ours, theirs], DELTA) == pytest.approx(gdp_epsilon(mu, DELTA), rel=1e-4)
    assert composed([theirs, ours], DELTA) == composed([ours, theirs], DELTA)
    for same in (ours, theirs):
        twice = gdp_epsilon(math.sqrt(2) * recompute(same).mu, DELTA)
        assert composed([same, same], DELTA) == pytest.approx(twice, rel=1e-4)
        assert composed([same], DELTA) == pytest.approx(same.epsilon, rel=1e-6)
    grown = steps.delta * (1 + math.exp(steps.epsilon))
    assert composed([theirs, steps], 0.9 * grown) == math.inf
    assert composed([theirs, steps], 1.1 * grown) > 2 * steps.epsilon


def test_doubling_mu_covers_every_replacement_of_a_record() -> None:
    """The same release under replace-one, stage by stage, is never worse than twice its add-remove mu."""
    for claim in claims().values():
        if claim.adjacency == "add-remove":
            for stage in claim.stages:
                assert stage_mu(stage, "replace-one") <= 2 * stage_mu(stage, "add-remove")


# --- ghost clipping ---------------------------------------------------------------------------------------------------


def test_the_clipped_sum_is_that_of_clipped_gradients_one_by_one() -> None:
    rng = torch.Generator().manual_seed(0)
    jacobian, said = torch.randn(6, 20, generator=rng), torch.randn(6, 9, generator=rng)
    centred = said - said.mean(0)
    each = -2 / 6 * (jacobian.T @ centred).T  # (9, 20)
    clip = float(each.norm(dim=1).median())
    expected = (each * (clip / each.norm(dim=1, keepdim=True)).clamp_max(1.0)).sum(0)
    assert torch.allclose(clipped_gradient(jacobian, centred, clip), expected, atol=1e-5)
    assert not clipped_gradient(jacobian, centred[:, :0], clip).any()


def test_no_more_steps_than_were_accounted_for() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    sgd = RecordSgd([weight], torch.optim.SGD([weight], 0.1), GradientSettings(0.5, 2, 1.0, 1.0, DELTA))
    for _ in range(2):
        sgd.step(torch.zeros(2), torch.zeros(2))
    assert bool(weight.detach().any())  # an empty batch is noised all the same
    with pytest.raises(RefusedError) as refused:
        sgd.step(torch.zeros(2), torch.zeros(2))
    assert refused.value.reason == "budget-spent"

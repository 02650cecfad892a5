"""Verdicts from weights: k-hat of known tails, and grades that never call good what is wrong."""

from __future__ import annotations

import math

import pytest
import torch

from epgfn.gflownet.measure.trust import (
    Verdict,
    error_of_product,
    pareto_khat,
    verdict_of,
    verdict_of_product,
)

POOR: Verdict = "not to be relied on"


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9, 1.5])
def test_khat_finds_the_shape_of_a_pareto_tail(shape: float) -> None:
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert pareto_khat(((u**-shape - 1) / shape).log()) == pytest.approx(shape, abs=0.15)


def test_equal_weights_have_no_tail_and_few_weights_tell_nothing() -> None:
    assert pareto_khat(torch.zeros(1000)) == -1.0
    assert pareto_khat(torch.tensor([0.0, 1.0]).repeat(500)) == -1.0
    assert pareto_khat(torch.zeros(20)) == math.inf


@pytest.mark.parametrize("objects", [3, 30, 300])
def test_a_few_objects_of_nearly_equal_weights_are_no_heavy_tail(objects: int) -> None:
    generator = torch.Generator().manual_seed(objects)
    for spread in (0.01, 0.2, 0.5):
        of_object = spread * torch.randn(objects, generator=generator, dtype=torch.float64)
        drawn = of_object[torch.randint(objects, (10_000,), generator=generator)]
        rounding = 1e-7 * torch.randn(10_000, generator=generator, dtype=torch.float64)
        assert pareto_khat(drawn + rounding) < 0.7


def test_a_constant_added_to_all_weights_changes_nothing() -> None:
    log_weight = torch.randn(4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert pareto_khat(log_weight - 1e4) == pytest.approx(pareto_khat(log_weight), abs=1e-6)


def test_own_samples_alone_never_make_a_verdict_good() -> None:
    """They cannot show what a model never visits."""
    assert verdict_of(effective_samples=4096, khat=-1.0, moved=0.0) == "usable after weighting"


@pytest.mark.parametrize("largest", [0.11, 0.5, 1.0])
def test_a_wrong_posterior_is_never_called_right(largest: float) -> None:
    assert (
        verdict_of(effective_samples=4096, khat=0.0, moved=0.0, largest_error=largest)
        == "not to be relied on"
    )


def test_weights_that_put_right_what_samples_have_wrong_make_a_model_usable() -> None:
    for after, verdict in ((0.02, "usable after weighting"), (0.2, "not to be relied on")):
        found = verdict_of(
            effective_samples=4096, khat=0.1, moved=0.28, largest_error=0.3, weighted_error=after
        )
        assert found == verdict


def test_objects_from_elsewhere_make_a_verdict_good_or_undo_it() -> None:
    for missing, verdict in ((0.0, "good"), (0.3, "not to be relied on")):
        assert verdict_of(effective_samples=4096, khat=0.1, moved=0.02, missing=missing) == verdict


@pytest.mark.parametrize(
    ("error", "after", "grade"),
    [(0.03, 0.3, "good"), (0.2, 0.03, "usable after weighting"), (0.2, 0.2, POOR)],
)
def test_chains_that_agree_judge_like_what_is_exact(error: float, after: float, grade: str) -> None:
    found = verdict_of(
        effective_samples=4096,
        khat=0.1,
        moved=0.02,
        missing=0.0,
        chains_error=error,
        chains_weighted_error=after,
    )
    assert found == grade
    lacking = verdict_of(effective_samples=4096, khat=0.1, moved=0.02, missing=0.3, chains_error=error)
    assert lacking == POOR


@pytest.mark.parametrize(("apart", "grade"), [(0.05, "good"), (0.08, "usable after weighting")])
def test_what_chains_may_be_off_themselves_is_added(apart: float, grade: str) -> None:
    """A good model is within .1 of the truth, and chains that differ by .08 may be off by as much."""
    figures = {"effective_samples": 4096, "khat": 0.1, "moved": 0.02, "missing": 0.0, "chains_error": 0.04}
    assert verdict_of(**figures, chains_weighted_error=0.01, chains_apart=apart) == grade


def test_where_chains_do_not_agree_nothing_is_to_be_relied_on() -> None:
    """However even the weights: of 28 variables such a model's published probabilities were off by .24, and chains .47 apart."""
    found = verdict_of(effective_samples=4096, khat=0.1, moved=0.0, missing=0.0, chains_silent=True)
    assert found == POOR


def test_heavy_weights_few_samples_or_a_large_move_are_not_to_be_relied_on() -> None:
    for samples, khat, moved in ((4096, 0.8, 0.0), (50, 0.1, 0.0), (4096, 0.1, 0.3)):
        assert verdict_of(effective_samples=samples, khat=khat, moved=moved) == "not to be relied on"


def test_what_models_may_be_off_by_lowers_the_grade_of_their_product() -> None:
    for spreads, grade in (([0.05] * 4, "good"), ([0.3], "usable after weighting"), ([0.4] * 2, POOR)):
        assert verdict_of_product("good", error_of_product(spreads), contradict=False) == grade
    assert verdict_of_product("good", 0.0, contradict=True) == "usable after weighting"
    assert verdict_of_product(POOR, 0.0, contradict=False) == POOR
    assert verdict_of_product("good", 0.0, contradict=False, strange=True) == POOR


def test_the_error_of_a_product_is_what_moves_between_two_halves() -> None:
    """Two halves of the mass, whose log-odds are off by s with independent errors of two models."""
    off = math.hypot(0.1, 0.1)
    assert error_of_product([0.1, 0.1]) == pytest.approx(1 / (1 + math.exp(-off)) - 0.5, rel=0.01)

"""A claim counts only if it is the study's, adds up from its parameters alone, and hides nothing."""

from __future__ import annotations

from typing import Any

import pytest

from epgfn.base.errors import RefusedError
from epgfn.privacy.of_study.agreement import require_claim
from epgfn.study import Study
from made_claims import honest, noise, stage
from small import PRIVATE_STUDY, SMALL_STUDY

STUDY = Study.from_bytes(PRIVATE_STUDY.encode())


def reason(stated: dict[str, Any], study: Study = STUDY) -> str:
    with pytest.raises(RefusedError) as refused:
        require_claim(study, stated)
    return refused.value.reason


def test_an_honest_claim_is_taken_and_says_its_epsilon() -> None:
    claim = require_claim(STUDY, honest())
    assert claim is not None and 3.99 < claim.epsilon <= 4.0
    less = require_claim(STUDY, honest(epsilon=1.0))
    assert less is not None and less.epsilon <= 1.0


def test_a_study_without_privacy_takes_the_plain_word_and_nothing_else() -> None:
    plain = Study.from_bytes(SMALL_STUDY.encode())
    assert require_claim(plain, {"mode": "none"}) is None
    assert reason(honest(), plain) == "wrong-privacy"
    assert reason({"mode": "none", "epsilon": 1.0}, plain) == "wrong-privacy"


def test_a_release_without_sums_is_refused_where_the_mean_is_unknown() -> None:
    without = honest(sums=False)
    assert reason(without) == "claim-wrong"
    said = STUDY.with_changes({"target": {"mean": "unknown"}})
    with pytest.raises(RefusedError, match="sums"):
        require_claim(said, without, may_be_of_before=True)
    known = STUDY.with_changes({"target": {"mean": "known"}})
    assert require_claim(known, without) is not None


def test_the_audit_takes_a_run_of_before_the_mean_was_unknown() -> None:
    assert require_claim(STUDY, honest(sums=False), may_be_of_before=True) is not None
    old = STUDY.with_changes({"target": {"alpha_mu": 1.0}})
    assert require_claim(old, honest(sums=False), may_be_of_before=True) is not None


def test_a_claim_of_another_mode_or_adjacency_is_not_the_studys() -> None:
    assert reason({"mode": "none"}) == "wrong-privacy"
    assert reason({"mode": "gradient"}) == "wrong-privacy"
    assert reason({**honest(), "adjacency": "replace-one"}) == "wrong-privacy"


def test_a_claim_above_the_limits_is_refused() -> None:
    assert reason(honest(epsilon=5.0)) == "claim-above-limit"
    assert reason(honest(delta=1e-4)) == "claim-above-limit"


def test_a_claim_weaker_than_it_says_is_refused() -> None:
    assert reason({**honest(), "epsilon": 1.0}) == "claim-too-weak"
    halved = honest()["stages"][1]["noise"][0]["scale"] / 2
    assert reason(noise(honest(), 1, 0, scale=halved)) == "claim-too-weak"
    assert reason(stage(honest(), 1, norm_bound=2 * honest()["stages"][1]["norm_bound"])) == "claim-too-weak"


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "statistic"},
        {**honest(), "extra": 1},
        {**honest(), "mu": 0.1},
        {**honest(), "stages": []},
        {**honest(), "unit": "site"},
        {**honest(), "stages": honest()["stages"][1:]},
        honest(variables=4),
        stage(honest(), 0, noise=honest()["stages"][0]["noise"][:2]),
        noise(honest(), 0, 0, scale=1e-300),
        noise(honest(), 0, 0, scale=1e300),
        noise(honest(), 0, 1, entries=2),
    ],
)
def test_a_claim_that_does_not_describe_this_release_is_refused(wrong: dict[str, Any]) -> None:
    assert reason(wrong) in ("claim-wrong", "claim-too-weak")

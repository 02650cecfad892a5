"""What a study with shared parameters says before anybody agrees to it, and what it cannot be."""

from __future__ import annotations

import pytest

from epgfn.base.errors import UsageError
from epgfn.sealing.binding import MODEL_PAYLOAD, STATISTIC_PAYLOAD
from epgfn.study import Study
from epgfn.study.exposure import exposure_of
from epgfn.study.parameters import is_shared, payload_of
from small import PRIVATE_STUDY, SMALL_STUDY

SHARED = '[target]\nkind = "bge"\nparameters = "shared"\n\n[policy]'


def study_of(text: str = SMALL_STUDY, target: str = SHARED) -> Study:
    return Study.from_bytes(text.replace("[policy]", target, 1).encode())


def test_own_is_the_default_and_what_it_seals_is_a_model() -> None:
    study = Study.from_bytes(SMALL_STUDY.encode())
    assert not is_shared(study) and payload_of(study) == MODEL_PAYLOAD
    assert is_shared(study_of()) and payload_of(study_of()) == STATISTIC_PAYLOAD


def test_what_leaves_is_said_before_anybody_agrees() -> None:
    plain = exposure_of(study_of())
    assert "how many records there are, the mean of each variable, and the covariance of each two" in plain
    assert "whoever reads the published model can compute the same of all nodes' records together" in plain
    private = exposure_of(study_of(PRIVATE_STUDY))
    assert "they cost no privacy beyond it" in private and "published model" not in private


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ('objective = "aggregating"\n', "leave aggregation.objective out"),
        ('objective = "aggregating-scores"\n', ""),
    ],
)
def test_it_is_trained_on_the_score_of_all_records(more: str, why: str) -> None:
    text = SMALL_STUDY.replace("[aggregation]\n", f"[aggregation]\n{more}")
    if not why:
        assert is_shared(study_of(text))
        return
    with pytest.raises(UsageError, match=why):
        study_of(text)


def test_models_without_a_table_of_scores_cannot_have_it() -> None:
    text = SMALL_STUDY.replace("[space]\n", '[space]\nkind = "dag-by-edges"\n').replace(
        "hidden = 16", "hidden = 16"
    )
    with pytest.raises(UsageError, match="take that space, or parameters = 'own'"):
        study_of(text)


def test_other_objects_have_no_such_setting() -> None:
    text = """
name = "items"
roster = ["north"]
variables = [{name = "seen", categories = ["a", "b", "c"]}]
space = {kind = "multiset", size = 3}
target = {kind = "items", parameters = "shared"}
"""
    with pytest.raises(UsageError, match="parameters"):
        Study.from_bytes(text.encode())

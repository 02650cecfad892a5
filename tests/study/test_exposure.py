"""What a study of mode none tells whoever is asked to agree to it."""

from __future__ import annotations

from epgfn.study import Study
from epgfn.study.exposure import exposure_of
from kinds import TEXTS
from small import PRIVATE_STUDY, SMALL_STUDY


def test_each_kind_of_study_says_what_its_models_tell() -> None:
    assert "covariance matrix" in exposure_of(Study.from_bytes(SMALL_STUDY.encode()))
    assert exposure_of(Study.from_bytes(PRIVATE_STUDY.encode())) == ""
    for text in TEXTS.values():
        study = Study.from_bytes(text.encode())
        said = exposure_of(study)
        assert bool(said) != study.privacy.is_private
        if said and not study.columns.numeric and study.kind.carries_scores:
            assert f"of values of up to {study.space.max_parents + 1} columns" in said

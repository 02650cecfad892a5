"""No new study of numbers without a public scale; what was begun with one that has none goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from epgfn.base.errors import UsageError
from epgfn.study import Study
from epgfn.study.records.tables import load_bounded_records, load_records, load_table, records_of
from epgfn.study.scales import require_scales, unscaled
from small import PRIVATE_STUDY, SMALL_STUDY


def without(text: str, *lines: str) -> Study:
    """The study with those lines left out wherever they are."""
    return Study.from_bytes("\n".join(line for line in text.splitlines() if line not in lines).encode())


def test_what_is_left_out_is_named_with_how_to_choose_it() -> None:
    study = without(SMALL_STUDY, "centre = 0.0")
    assert unscaled(study) == {name: ["centre"] for name in "abc"}
    with pytest.raises(UsageError, match="set centre of variables 'a', 'b', 'c'; ") as caught:
        require_scales(study)
    assert "centre = (L + U) / 2 and scale = (U - L) / 4" in str(caught.value)
    assert "never from anyone's records" in str(caught.value)
    with pytest.raises(UsageError, match="set centre and scale of"):
        require_scales(without(SMALL_STUDY, "centre = 0.0", "scale = 1.0"))
    require_scales(Study.from_bytes(SMALL_STUDY.encode()))


def test_records_are_not_read_for_a_study_without_scales(small_files: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="no public scale"):
        load_records(small_files["north"], without(SMALL_STUDY, "scale = 1.0"))
    with pytest.raises(UsageError, match="no public scale"):
        load_bounded_records(small_files["north"], without(PRIVATE_STUDY, "scale = 1.0"))


def test_an_old_study_still_means_what_it_meant(small_files: dict[str, Path]) -> None:
    """0 and 1: a node that had accepted it goes on with it, and its digest is that of its bytes, as ever."""
    old, new = without(SMALL_STUDY, "centre = 0.0", "scale = 1.0"), Study.from_bytes(SMALL_STUDY.encode())
    path = small_files["north"]
    assert (records_of(load_table(path, old), path, old) == load_records(path, new)).all()


@pytest.mark.parametrize(
    "text",
    [
        'variables = [{name = "x", lower = 0, upper = 9}]\n[space]\nkind = "hypergrid"\nside = 3\n[target]\nsigma = 1.0\n',
        'variables = [{name = "x", categories = ["a", "b"]}]\n[space]\nkind = "multiset"\nsize = 2\n',
    ],
)
def test_bounds_and_categories_need_none(text: str) -> None:
    assert unscaled(Study.from_bytes(b'name = "s"\nroster = ["one"]\n' + text.encode())) == {}

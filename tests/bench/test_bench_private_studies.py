"""Rows of `epgfn bench privacy` that go through whole studies: their own release, and models that their settings train."""

from __future__ import annotations

import pytest

from epgfn.bench.privacy import INSTANCES, Setting, privacy
from epgfn.bench.releases.measure import Ask
from epgfn.bench.releases.studies import STUDIES, release, study_of

pytestmark = pytest.mark.usefixtures("seeded_noise")
WHOLE = [name for name, known in INSTANCES.items() if known.whole]


@pytest.mark.parametrize("name", WHOLE)
def test_a_study_s_release_loses_less_where_privacy_is_looser(name: str) -> None:
    strict, loose = privacy([name], Setting(worlds=4, epsilons=(0.1, 40.0)))
    assert 0 < loose["l1_mean"] < strict["l1_mean"] < 2.001
    assert (loose["edge_error_mean"] is not None) == (name == "study-counts")
    assert loose["l1_release"] is None


def test_the_studies_are_about_as_many_objects_as_they_say() -> None:
    expected = {"multiset": 210, "sequence": 85, "grid": 144, "trees": 105}
    assert {*expected, "categories"} == set(STUDIES)
    for kind, number in expected.items():
        study = study_of(kind, Ask(2000, 4, 1.0))
        assert study.number_of_objects == number and len(study.roster) == 4


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_trained_row_has_the_model_and_the_release(nodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = "steps = 3\nbatch = 32\n"
    few = f"{STUDIES['sequence']}[training]\n{loop}[aggregation]\n{loop}"
    monkeypatch.setitem(STUDIES, "sequence", few)
    row = privacy(["study-sequence"], Setting(worlds=2, epsilons=(8.0,), nodes=nodes, trained=True))[0]
    assert row["trained"] and row["nodes"] == nodes
    assert 0 < row["l1_release"] < row["l1_mean"] < 2  # three steps are few


def test_a_world_is_the_same_for_the_same_number_but_for_the_noise() -> None:
    measure = release(Ask(2000, 1, 59.0), kind="trees")
    first, again, other = measure(3).l1, measure(3).l1, measure(4).l1
    assert first is not None and again is not None and other is not None
    assert abs(first - again) < 0.1 and first < 0.2

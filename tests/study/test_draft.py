"""A first study file from a table: kinds of columns, transforms, and no scale from the records unless somebody asks for it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epgfn.base.errors import UsageError
from epgfn.study import Study
from epgfn.study.check import check_study
from epgfn.study.draft import Public, draft_study, suggested
from epgfn.study.records.tables import load_records

N = 120


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "patient": np.arange(1001, 1001 + N),
            "born": [f"1960-01-{1 + i % 28:02d}" for i in range(N)],
            "age": rng.integers(20, 90, N),
            "LDL µ": rng.normal(130, 30, N).round(1),
            "triglycerides": np.exp(rng.normal(5, 0.7, N)).round(1),
            "net": np.sinh(rng.normal(0, 2, N)).round(3),
            "sex": rng.choice(["f", "m"], N),
            "stage": rng.integers(0, 3, N),
            "remark": [f"word {i}" for i in range(N)],
            "unit": ["mg"] * N,
        }
    )


@pytest.fixture
def path(table: pd.DataFrame, tmp_path: Path) -> Path:
    table.to_csv(tmp_path / "North Clinic.csv", index=False)
    return tmp_path / "North Clinic.csv"


def filled(text: str) -> str:
    return (
        text.replace('centre = "?"', "centre = 1.0")
        .replace('scale = "?"', "scale = 1.0")
        .replace('"?"', '["f", "m"]')
    )


def test_columns_of_numbers_are_variables_and_all_others_are_named_with_the_reason(path: Path) -> None:
    draft = draft_study([path], "first", about="numbers")
    assert draft.variables == draft.open == ["age", "LDL µ", "triglycerides", "net"]
    why = dict(draft.left_out)
    assert set(why) == {"patient", "born", "sex", "stage", "remark", "unit"}
    assert "identifier" in why["patient"] and "dates" in why["born"] and "categories" in why["stage"]
    assert "# Left out: born (dates or times)\n" in draft.text


def test_a_draft_is_refused_until_its_scales_are_filled_in_and_then_is_a_study(path: Path) -> None:
    draft = draft_study([path], "first", about="numbers")
    found = check_study(draft.text.encode())
    assert [str(m) for m in found.mistakes] == [
        f"variable '{name}', {key}: is still to be filled in"
        for name in draft.variables
        for key in ("centre", "scale")
    ]
    study = check_study(filled(draft.text).encode()).study
    assert study is not None and study.roster == ["north-clinic"] and study.space.max_parents == 3
    assert [v.transform for v in study.variables] == ["none", "none", "log", "arcsinh"]
    assert len(load_records(path, study)) == N


def test_nothing_of_the_records_is_in_a_draft(path: Path, table: pd.DataFrame) -> None:
    """The same text from other records of the same shape: names, sorts and transforms alone."""
    other = path.with_name("other") / path.name
    other.parent.mkdir()
    changed = table.assign(
        age=table.age + 1, net=table.net * 2, triglycerides=table.triglycerides * 1.5, stage=table.stage + 4
    )
    changed.to_csv(other, index=False)
    for about in ("numbers", "categories"):
        assert draft_study([path], "s", about=about).text == draft_study([other], "s", about=about).text


def test_files_that_write_decimals_in_two_ways_are_read_each_as_it_is(tmp_path: Path) -> None:
    """A study that names one mark would refuse the other file; under a privacy mode it has to, and the owner is told."""
    north, south = tmp_path / "north.csv", tmp_path / "south.csv"
    north.write_text("age;bmi;note\n" + "".join(f"{30 + i},5;{20 + i % 9},25;a,b\n" for i in range(30)))
    south.write_text("age,bmi,note\n" + "".join(f"{40 + i}.5,{21 + i % 9}.75,c\n" for i in range(30)))
    draft = draft_study([north, south], "mixed", Public({"age": (20, 90), "bmi": (18, 40)}), about="numbers")
    assert draft.variables == ["age", "bmi"] and "decimal" not in draft.text
    assert any("north.csv writes decimals with a comma" in note for note in draft.notes)
    study = Study.from_bytes(draft.text.encode())
    ages = [load_records(path, study)[0, 0] for path in (north, south)]
    assert ages == [(30.5 - 55) / 17.5, (40.5 - 55) / 17.5]
    alike = draft_study([north, north], "alike", Public({"age": (20, 90), "bmi": (18, 40)}), about="numbers")
    assert 'decimal = ","' in alike.text and not any("decimals" in note for note in alike.notes)


def test_a_public_range_gives_the_scale(path: Path) -> None:
    ranges = {"LDL \u03bc": (40.0, 250.0), "triglycerides": (30.0, 600.0), "age": (20, 90), "net": (-50, 50)}
    draft = draft_study([path], "first", Public(ranges), about="numbers")
    assert draft.open == []
    study = Study.from_bytes(draft.text.encode())
    age, ldl, triglycerides, net = study.variables
    assert (ldl.centre, ldl.scale, ldl.lower, ldl.upper) == (145.0, 52.5, 40.0, 250.0)
    assert triglycerides.transform == "log" and triglycerides.centre == pytest.approx(
        math.log(30 * 600) / 2, rel=1e-3
    )
    assert triglycerides.scale == pytest.approx(math.log(20) / 4, rel=1e-3)
    assert (age.transform, net.transform, net.centre, net.scale) == ("none", "none", 0.0, 25.0)


def test_scales_from_the_records_only_if_asked_for_and_the_file_says_so(
    path: Path, table: pd.DataFrame
) -> None:
    draft = draft_study([path], "first", from_my_data=True, about="numbers")
    assert (
        "FROM THE RECORDS: centre and scale are the mean and standard deviation" in draft.text
        and draft.open == []
    )
    study = Study.from_bytes(draft.text.encode())
    assert study.variables[0].centre == float(f"{table.age.mean():.2g}")
    assert study.variables[2].scale == float(f"{np.log(table.triglycerides).std(ddof=0):.2g}")
    assert abs(load_records(path, study).mean(0)).max() < 0.2


def test_codes_and_mistyped_values_have_no_say_in_scales(table: pd.DataFrame, tmp_path: Path) -> None:
    """And their owner is told of them, in whatever way scales are found."""
    path, clean = tmp_path / "odd.csv", tmp_path / "clean.csv"
    table.drop(index=[3, 4, 5, 9]).to_csv(clean, index=False)
    table.loc[[3, 4, 5], "LDL µ"] = -999
    table.loc[9, "LDL µ"] = 1300.0
    table.to_csv(path, index=False)
    for own in (True, False):
        draft = draft_study([path], "s", from_my_data=own)
        what = "left out of its centre and scale" if own else "look at it"
        assert [note for note in draft.notes if "LDL" in note] == [
            f"column 'LDL µ': 3 cells are -999, far from all others: does it stand for a missing value?; {what}",
            f"column 'LDL µ': 1 value is far from all others: mistyped, or in another unit?; {what}",
        ]
    odd, right = (
        Study.from_bytes(draft_study([file], "s", from_my_data=True).text.encode()).variables[1]
        for file in (path, clean)
    )
    assert (odd.transform, odd.centre, odd.scale) == (right.transform, right.centre, right.scale)


def test_what_a_person_says_and_the_file_does_not_is_told(path: Path) -> None:
    public = Public({"LDL µ": (1.0, 6.0), "age": (20.0, 90.0)}, {})
    assert draft_study([path], "s", public).notes == [
        "column 'LDL µ': 100 % of its values are outside the range 1 to 6: another unit, or a range that is too narrow?"
    ]
    public = Public({}, {"sex": ["f", "x"], "stage": ["0", "1", "2", "3"]})
    assert draft_study([path], "s", public, about="categories").notes == [
        "column 'sex' has 'm', which --categories does not list: training refuses a file with a category that is not listed"
    ]
    assert draft_study([path], "s", Public({}, {"sex": ["f", "m"]}), about="numbers").notes == [
        "what was said of column 'sex' is not used, as the study does not take it"
    ]
    for public, what in (
        (Public({}, {"sex": ["f", "f"]}), "lists 'f' twice"),
        (Public({"LDL µ": (1.0, 6.0), "LDL \u03bc": (1.0, 7.0)}), "are of one column"),
        (Public({"stage": (0.0, 3.0)}, {"stage": ["0", "1", "2"]}), "a range and categories"),
    ):
        with pytest.raises(UsageError, match=what):
            draft_study([path], "s", public)


def test_commas_that_may_be_between_thousands_are_left_to_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b,c\n"1,234",2.5,1.5\n999,5.5,3.5\n"12,001",2,4.5\n')
    draft = draft_study([path], "s")
    assert draft.variables == ["b", "c"] and "[data]" not in draft.text
    assert "its commas may stand before decimals or between thousands" in dict(draft.left_out)["a"]


def test_categories_are_listed_by_people(path: Path) -> None:
    draft = draft_study([path], "first", Public({}, {"sex": ["f", "m", "x"]}), about="categories")
    assert (draft.variables, draft.open) == (["sex", "stage"], ["stage"])
    assert "'stage', categories: is still to be filled in" in str(
        check_study(draft.text.encode()).mistakes[0]
    )
    study = Study.from_bytes(draft_study([path], "s", about="categories", from_my_data=True).text.encode())
    assert [v.categories for v in study.variables] == [["f", "m"], ["0", "1", "2"]]
    assert load_records(path, study).shape == (N, 2)


def test_a_table_of_numbers_and_categories_is_a_study_of_both_unless_one_is_asked_for(path: Path) -> None:
    draft = draft_study([path], "both", from_my_data=True)
    study = Study.from_bytes(draft.text.encode())
    assert study.variable_names == ["age", "LDL µ", "triglycerides", "net", "sex", "stage"]
    assert study.target.kind == "conditional-gaussian" and study.columns.mixed
    assert [v.name for v in study.variables if not v.is_number] == ["sex", "stage"]
    assert set(dict(draft.left_out)) == {"patient", "born", "remark", "unit"}
    records = load_records(path, study)
    assert records.shape == (N, 6) and set(records[:, 4]) == {0.0, 1.0}


def test_several_files_are_one_table_in_whatever_form(table: pd.DataFrame, tmp_path: Path) -> None:
    north, south = tmp_path / "north.csv", tmp_path / "south.csv"
    table.to_csv(north, index=False, sep=";", decimal=",")
    table.drop(columns="age")[table.columns[::-1].drop("age")].to_csv(
        south, index=False, sep=";", decimal=","
    )
    draft = draft_study([north, south], "two", about="numbers")
    assert (
        draft.variables == ["LDL µ", "triglycerides", "net"] and ("age", "not in all files") in draft.left_out
    )
    study = Study.from_bytes(filled(draft.text).encode())
    assert (study.roster, study.data.decimal) == (["north", "south"], ",")
    assert len(load_records(south, study)) == N
    table.to_parquet(tmp_path / "north.parquet")
    assert draft_study([tmp_path / "north.parquet"], "p", about="numbers").variables == [
        "age",
        "LDL µ",
        "triglycerides",
        "net",
    ]


@pytest.mark.parametrize(
    ("text", "options", "what"),
    [
        ("1,2\n3,4\n", {}, "has no header line"),
        ("a,b\n1,2\n3\n", {}, "not as many cells as the header"),
        ("a,day\n1.5,2020-01-01\n2.5,2020-01-02\n", {}, "leaves 1 column of numbers"),
        ("", {}, "is empty"),
        (
            "age,b\n1.5,2.5\n2.5,7.5\n",
            {"Age2": (1.0, 2.0)},
            r"no column 'Age2' in all files \(did you mean 'age'\?\)",
        ),
        ("age,b\n1.5,2.5\n2.5,7.5\n", {"age": (2.0, 1.0)}, "the lower first"),
        ("age,b\nx,2.5\ny,7.5\n", {"age": (1.0, 2.0)}, "does not hold numbers"),
    ],
)
def test_what_cannot_be_drafted_is_a_sentence(
    text: str, options: dict[str, tuple[float, float]], what: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=what):
        draft_study([path], "s", Public(options))


def test_a_logarithm_is_suggested_for_skewed_positive_values_alone() -> None:
    rng = np.random.default_rng(2)
    assert suggested(rng.normal(5, 1, 500), None) == "none"
    assert suggested(np.exp(rng.normal(0, 1, 500)), None) == "log"
    assert suggested(rng.normal(5, 1, 500), (1.0, 100.0)) == "log"
    assert suggested(np.exp(rng.normal(0, 1, 500)), (0.0, 100.0)) == "none"


def test_a_node_is_named_after_its_file_without_accents(tmp_path: Path) -> None:
    paths = [
        tmp_path / name for name in ("CHU Hôpital Nord.csv", "St-Mary_Hospital.csv", "Großklinikum Ü.csv")
    ]
    for path in paths:
        path.write_text("a,b\n1.5,2.5\n2.5,3.5\n3.5,1.5\n")
    drafted = draft_study(paths, "three", from_my_data=True)
    assert 'roster = ["chu-hopital-nord", "st-mary-hospital", "grossklinikum-u"]' in drafted.text

"""Studies of categories and numbers together: what they may say, what is refused with which reason, and what everybody is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epgfn.base.errors import UsageError
from epgfn.study import Study
from epgfn.study.check import check_study
from epgfn.study.exposure import exposure_of
from epgfn.study.knowledge import in_words, knowledge_of
from epgfn.study.missing import groups_of
from epgfn.study.parameters import why_no_effects
from epgfn.study.records.examine import examine
from epgfn.study.records.tables import load_records, load_table

TEXT = """name = "mixed"
roster = ["a", "b", "c"]
variables = [
  {name = "sex", categories = ["f", "m"]}, {name = "age", centre = 50, scale = 10},
  {name = "smokes", categories = ["no", "once", "yes"]}, {name = "bmi", centre = 27, scale = 4},
  {name = "stage", categories = ["I", "II", "IV"], numbers = [1, 2, 4], centre = 2, scale = 1},
]
target.kind = "conditional-gaussian"
"""


def study(more: str = "") -> Study:
    return Study.from_bytes(f"{TEXT}{more}\n".encode())


def table(n: int = 80) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "sex": rng.choice(["f", "m"], n),
            "age": rng.normal(50, 10, n).round(1),
            "smokes": rng.choice(["no", "once", "yes"], n),
            "bmi": rng.normal(27, 4, n).round(1),
            "stage": rng.choice(["I", "II", "IV"], n),
        }
    )


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_of_both_is_read_as_places_of_categories_numbers_on_the_scale_and_scores(
    ending: str, tmp_path: Path
) -> None:
    path, cells = tmp_path / f"t.{ending}", table()
    cells.to_csv(path, index=False) if ending == "csv" else cells.to_parquet(path)
    found = load_records(path, study())
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found[:, 2], cells.smokes.map({"no": 0, "once": 1, "yes": 2}))
    np.testing.assert_allclose(found[:, 3], (cells.bmi - 27) / 4)
    np.testing.assert_array_equal(found[:, 4], cells.stage.map({"I": -1, "II": 0, "IV": 2}))


def test_blanks_of_both_are_read_where_rows_may_be_incomplete_and_refused_elsewhere(tmp_path: Path) -> None:
    cells = table()
    cells.loc[3, "sex"], cells.loc[5, "bmi"], cells.loc[7, "stage"] = "", np.nan, "NA"
    cells.to_csv(tmp_path / "t.csv", index=False)
    found = load_records(tmp_path / "t.csv", study('data.missing = "complete-rows"'))
    assert np.argwhere(np.isnan(found)).tolist() == [[3, 0], [5, 3], [7, 4]]
    with pytest.raises(UsageError, match=r"sex.*bmi.*stage"):
        load_records(tmp_path / "t.csv", study())


def test_a_score_of_categories_takes_rows_whatever_numbers_are_blank() -> None:
    assert groups_of(study('data.missing = "complete-rows"')) == [
        ([0, 2], [0, 2]),
        ([1, 3, 4], [0, 1, 2, 3, 4]),
    ]


def test_scores_make_an_ordered_category_a_number_in_a_study_of_numbers_too(tmp_path: Path) -> None:
    text = TEXT.replace('"conditional-gaussian"', '"bge"')
    with pytest.raises(UsageError, match=r"'sex': .*'conditional-gaussian'"):
        Study.from_bytes(text.encode())
    numbers = Study.from_bytes(
        "\n".join(line.replace('{name = "sex", categories = ["f", "m"]}, ', "") for line in text.splitlines())
        .replace('{name = "smokes", categories = ["no", "once", "yes"]}, ', "")
        .replace("target.kind", "space.max_parents = 2\ntarget.kind")
        .encode()
    )
    table().to_csv(tmp_path / "t.csv", index=False)
    assert set(load_records(tmp_path / "t.csv", numbers)[:, 2]) == {-1.0, 0.0, 2.0}


def test_an_edge_from_a_number_to_a_category_is_ruled_out_and_that_is_said() -> None:
    known = knowledge_of(study())
    assert known is not None and set(known.barred) == {(i, j) for i in (1, 3, 4) for j in (0, 2)}
    assert "6 of 20 edges cannot be there" in in_words(study()) and "no number leads" in in_words(study())
    said = study().one_way
    assert "age, bmi and stage" in said and "sex and smokes" in said and "no finding" in said
    some = study('prior.tiers = [["sex", "smokes"], ["age", "bmi"]]')
    assert "a number (stage) to a category" in some.one_way
    known = study('prior.tiers = [["sex", "smokes"], ["age", "bmi", "stage"]]')
    assert known.one_way == "" and "no number leads" not in in_words(known)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ('privacy = { mode = "statistic", epsilon = 4.0, delta = 1e-5 }', "has no mechanism for target"),
        ('target.parameters = "shared"', "none is sent yet; take parameters = 'own'"),
        ('target.parameters = "shared"\naggregation.sums = "masked"', "none is sent yet"),
        ('data.missing = "impute"', "only numbers are filled in"),
        ('data.missing = "category"', "only where a variable lists one for it"),
        ('data.lacks = { a = ["sex"] }', "a lacks 'sex', which may have an effect on"),
        ('prior.required = [["age", "sex"]]', "ruled out by the score, in which no number leads"),
        ('prior.tiers = [["age"], ["smokes"]]', "no edge could join 'age' and 'smokes'"),
        ('prior.roots = ["bmi"]', "no edge could join 'bmi' and 'sex'"),
        (
            'target.covariance = "own"',
            "'stage': has numbers for its categories, and target.covariance = 'own'",
        ),
        ("target.mean = 'known'", "has no meaning|unknown|not permitted|no setting"),
    ],
)
def test_what_a_study_of_both_cannot_have_is_refused_with_the_reason(more: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        study(more)


@pytest.mark.parametrize(
    "more",
    [
        'prior.tiers = [["age"], ["smokes"]]\nprior.forbidden = [["age", "smokes"]]',
        'prior.tiers = [["sex", "smokes"], ["age", "bmi"], ["stage"]]',
        'data.lacks = { a = ["stage"] }\nprior.leaves = ["stage"]',
        'design = { column = "arm", sets = { usual = [], stopped = ["smokes"] } }',
        'space.kind = "dag-by-edges"',
        "aggregation.leave_one_out = true",
    ],
)
def test_what_it_can_have_is_taken(more: str) -> None:
    assert study(more).columns.mixed


def test_mistakes_of_its_variables_are_named() -> None:
    text = TEXT.replace('categories = ["f", "m"]', 'categories = ["f", "m"], centre = 1').replace(
        "numbers = [1, 2, 4]", "numbers = [1, 4, 2]"
    )
    said = [str(mistake) for mistake in check_study(text.encode()).mistakes]
    assert any("'stage'" in each and "numbers of ordered categories ascend" in each for each in said)
    assert any("'sex'" in each and "nothing else but the name" in each for each in said)
    unscaled = TEXT.replace(", centre = 2, scale = 1", "")
    said = [str(mistake) for mistake in check_study(unscaled.encode()).mistakes]
    assert said == ["variable 'stage': centre and scale are missing"]


def test_what_a_model_tells_is_both_that_of_categories_and_of_numbers() -> None:
    said = exposure_of(study())
    assert "combination of values of up to 2 columns of categories" in said and "covariance matrix" in said
    assert "can be this record" in said
    assert "categories too" in why_no_effects(study())


def test_what_is_odd_of_numbers_and_of_categories_is_looked_for_in_each(tmp_path: Path) -> None:
    cells = table().replace({"smokes": {"once": "no"}})
    cells.loc[4, "bmi"] = 999
    cells.to_csv(tmp_path / "t.csv", index=False)
    found = examine(load_table(tmp_path / "t.csv", study()), study())
    assert any("column bmi" in text and "999" in text for text in found.loud)
    assert any("smokes: 'once' does not occur" in warned.text for warned in found.warnings)
    assert [column.mean is None for column in found.columns] == [True, False, True, False, False]

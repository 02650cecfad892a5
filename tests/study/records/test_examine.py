"""What is odd in a file is said loudly and by the right name, and ordinary files raise nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epgfn.study import Study
from epgfn.study.kinds import KINDS
from epgfn.study.records.examine import Examined, examine
from epgfn.study.records.tables import load_table, split_table
from epgfn.testing import example_study, made_up_records, write_records

SACHS = Path(__file__).parents[3] / "examples" / "sachs"
SCALES = {
    "LDL": (130.0, 35.0), "marker": (0.0, 1.0), "glucose": (5.0, 1.0), "CRP": (100.0, 20.0), "temperature": (37.0, 0.6),
    "height": (170.0, 10.0), "weight": (80.0, 15.0), "creatinine": (1.0, 0.3),
}  # fmt: skip


@pytest.fixture(scope="module")
def study() -> Study:
    rows = "".join(
        f'[[variables]]\nname = "{n}"\ncentre = {c}\nscale = {s}\n' for n, (c, s) in SCALES.items()
    )
    return Study.from_bytes(f'name = "ward"\nroster = ["north", "south", "east"]\n{rows}'.encode())


def ordinary(n: int = 60, seed: int = 0) -> pd.DataFrame:
    """Records half a scale unit from the centre and a fifth more spread than was expected."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: rng.normal(c + 0.5 * s, 1.2 * s, n) for name, (c, s) in SCALES.items()})


@pytest.fixture
def look(study: Study, tmp_path: Path) -> Callable[[pd.DataFrame], Examined]:
    def examined(table: pd.DataFrame) -> Examined:
        table.to_csv(tmp_path / "t.csv", index=False)
        return examine(load_table(tmp_path / "t.csv", study), study)

    return examined


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [12, 60, 400])
def test_ordinary_records_raise_no_warning(
    look: Callable[[pd.DataFrame], Examined], n: int, seed: int
) -> None:
    assert look(ordinary(n, seed)).warnings == []


def test_what_is_said_of_a_column_is_right(look: Callable[[pd.DataFrame], Examined]) -> None:
    table = ordinary()
    ldl = look(table).columns[0]
    x = (table.LDL - 130) / 35
    assert (ldl.name, ldl.count, ldl.blanks, ldl.different, ldl.outside) == ("LDL", 60, 0, 60, None)
    assert np.allclose(
        [ldl.mean, ldl.sd, ldl.smallest, ldl.largest], [x.mean(), x.std(ddof=0), x.min(), x.max()]
    )  # type: ignore[arg-type]
    assert ldl.repeated == 1 / 60


UNITS = [
    ("LDL", lambda x: x * 38.67, "divided by 38.67 (cholesterol in mg/dL and mmol/L)"),
    ("LDL", lambda x: x / 38.67, "times 38.67 (cholesterol in mg/dL and mmol/L)"),
    ("marker", lambda x: x * 38.67, "divided by"),
    ("glucose", lambda x: x * 18.02, "divided by 18.02 (glucose in mg/dL and mmol/L)"),
    ("glucose", lambda x: x * 1000, "divided by 1000"),
    ("creatinine", lambda x: x * 88.4, "divided by 88.4 (creatinine in mg/dL and µmol/L)"),
    ("height", lambda x: x / 2.54, "times 2.54 (inches and centimetres)"),
    ("weight", lambda x: x / 0.4536, "divided by 2.2046 (pounds and kilograms (0.4536))"),
    ("temperature", lambda x: 32 + 1.8 * x, "as (x - 32) / 1.8 (degrees Fahrenheit and Celsius)"),
    ("weight", lambda x: x * 10, "divided by 10"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "change", "said"), UNITS, ids=[said for _, _, said in UNITS])
@pytest.mark.parametrize("n", [30, 200])
def test_another_unit_is_loud_and_named(
    look: Callable[[pd.DataFrame], Examined],
    column: str,
    change: Callable[[pd.Series], pd.Series],
    said: str,
    n: int,
) -> None:
    table = ordinary(n)
    table[column] = change(table[column])
    (text,) = look(table).loud
    assert text.startswith(f"column {column}: ") and "another unit?" in text and said in text


def test_far_off_columns_without_a_known_factor_are_loud_too(
    look: Callable[[pd.DataFrame], Examined],
) -> None:
    table = ordinary()
    table["CRP"] = 860 + (table.CRP - 100) / 50
    assert look(table).loud == [
        f"column CRP: mean {abs((table.CRP.mean() - 100) / 20):.3g} scale units from the centre: another unit?"
    ]


@pytest.mark.parametrize(
    ("code", "column"), [(-999, "glucose"), (999, "marker"), (9999, "LDL"), (0, "weight"), (-9, "marker")]
)
def test_codes_for_missing_values_are_named_with_their_lines(
    look: Callable[[pd.DataFrame], Examined], code: int, column: str
) -> None:
    table = ordinary()
    table.loc[[3, 9, 12], column] = code
    assert look(table).loud == [
        f"column {column}: 3 cells (lines 5, 11 and 14) are {code}, far from all others: does it stand for a missing value?"
    ]


def test_a_code_among_ordinary_values_is_none(look: Callable[[pd.DataFrame], Examined]) -> None:
    table = ordinary(200)
    table["CRP"] = table.CRP.round()
    table.loc[[3, 9], "CRP"] = 99
    table.loc[[5, 8], "marker"] = 0
    assert look(table).loud == []


@pytest.mark.parametrize("n", [60, 200, 600])
def test_one_mistyped_value_is_loud_and_named(look: Callable[[pd.DataFrame], Examined], n: int) -> None:
    table = ordinary(n)
    table["height"] = table.height.round(1)
    table.loc[3, "height"] = 17.3
    away = (table.height.median() - 17.3) / 10
    assert look(table).loud == [
        f"column height: 1 cell (line 5) is far from the others, {away:.3g} scale units from the middle: mistyped, or in another unit? It "
        "may decide the result: correct the file, or leave out what is wrong"
    ]
    table.loc[[7, 8], "LDL"] = [1300.0, 13000.0]
    (_, ldl) = sorted(look(table).loud, reverse=True)
    assert ldl.startswith("column LDL: 2 cells (lines 9 and 10) are far from the others, up to 36")


def test_one_record_that_makes_two_columns_look_related_is_loud(
    look: Callable[[pd.DataFrame], Examined],
) -> None:
    """Not far enough in either column, and far enough in both together."""
    table = ordinary(40, seed=6)
    for name, spreads in (("LDL", 7.4), ("CRP", -7.4)):
        middle = table[name].median()
        table.loc[20, name] = middle + spreads * 1.4826 * (table[name] - middle).abs().median()
    (text,) = look(table).loud
    r, rest = table.LDL.corr(table.CRP), table.drop(20).LDL.corr(table.drop(20).CRP)
    assert text == (
        f"columns LDL and CRP: line 22 alone makes their correlation {r:.2f}; without it it is {rest:.2f}. Mistyped, or in another unit? "
        "Correct the file, or leave out what is wrong"
    )
    table.loc[20, "LDL"] = 130 + 40 * 42  # a record that is named already is not named again
    (text,) = look(table).loud
    assert text.startswith("column LDL: 1 cell (line 22) is far from the others")


def test_numbers_that_are_0_and_1_raise_nothing_loud(tmp_path: Path) -> None:
    """Whatever the public scale, and however rare the 1 is; nor scores and counts."""
    rng = np.random.default_rng(12)
    columns = {
        "sex": (0.4, 0.49, rng.integers(0, 2, 200)),
        "rare": (0.4, 0.49, np.arange(200) < 2),
        "once": (0.01, 0.1, np.arange(200) == 5),
        "half": (0.5, 0.5, rng.integers(0, 2, 200)),
        "change": (0.0, 0.8, rng.integers(-1, 2, 200)),
        "nyha": (2.0, 1.0, rng.integers(1, 5, 200)),
        "falls": (0.5, 0.7, rng.poisson(0.5, 200)),
    }
    rows = "".join(
        f'[[variables]]\nname = "{n}"\ncentre = {c}\nscale = {s}\n' for n, (c, s, _) in columns.items()
    )
    study = Study.from_bytes(f'name = "ward"\nroster = ["north"]\n{rows}'.encode())
    table = pd.DataFrame({name: x.astype(float) for name, (_, _, x) in columns.items()})
    table.to_csv(tmp_path / "t.csv", index=False)
    assert examine(load_table(tmp_path / "t.csv", study), study).loud == []
    table.loc[[3, 8, 12], "sex"] = 9.0
    table.to_csv(tmp_path / "t.csv", index=False)
    assert examine(load_table(tmp_path / "t.csv", study), study).loud == [
        "column sex: 3 cells (lines 5, 10 and 14) are 9, far from all others: does it stand for a missing value?"
    ]


def test_many_cells_are_counted_right(look: Callable[[pd.DataFrame], Examined]) -> None:
    table = ordinary(200)
    table.loc[:39, "glucose"] = -999
    (text,) = look(table).loud
    assert "40 cells (lines 2, 3, 4, 5, 6, 7, 8, 9 and 32 more) are -999" in text


def test_too_few_records_and_constant_columns_are_said_as_what_they_are(
    look: Callable[[pd.DataFrame], Examined],
) -> None:
    """As training refuses them."""
    assert look(ordinary(3)).loud == [
        "3 records are fewer than the study has variables (8): training refuses the file; more records are needed"
    ]
    assert look(ordinary(1)).loud == [
        "1 record is fewer than the study has variables (8): training refuses the file; more records are needed"
    ]
    for value in (100.0, 1.0):
        table = ordinary()
        table["CRP"] = value
        assert look(table).loud == [
            "column CRP: is constant, and nothing can be learned of what does not vary: take it out of the study, or give records in "
            "which it varies"
        ]
    table.loc[3, "CRP"] = -999
    assert [text.split(",")[0] for text in look(table).loud] == [
        "column CRP: 1 cell (line 5) is -999",
        "column CRP: is constant but for these",
    ]


@pytest.mark.parametrize("some", [20, 100, 180])
@pytest.mark.parametrize(
    ("column", "factor", "said"),
    [
        ("glucose", 18.02, "divided by 18.02 (glucose in mg/dL and mmol/L)"),
        ("height", 0.01, "times 100"),
        ("weight", 1000.0, "divided by 1000"),
    ],
)
def test_two_units_in_one_column_are_told_as_two_groups(
    look: Callable[[pd.DataFrame], Examined], column: str, factor: float, said: str, some: int
) -> None:
    table = ordinary(200)
    table.loc[: some - 1, column] *= factor
    (text,) = look(table).loud
    low, which = (some, "low") if factor < 1 else (200 - some, "high")
    found = re.fullmatch(
        rf"column {column}: its values are of two groups, (\d+) of low and (\d+) of high ones: two units in one column\? The (low|high) "
        r"ones (.*) would fit\.",
        text,
    )
    assert found is not None
    assert (
        abs(int(found[1]) - low) <= 1 and int(found[1]) + int(found[2]) == 200
    )  # one value may be of either
    assert found[3] == which and found[4].startswith(said)


def test_a_pile_of_one_value_is_no_second_unit(look: Callable[[pd.DataFrame], Examined]) -> None:
    table = ordinary(200)
    table.loc[:29, "weight"] = 150.0
    assert look(table).loud == []


def test_nothing_has_no_logarithm(tmp_path: Path) -> None:
    """Where a release is made all the same, as nothing may hang on what records say."""
    text = (SACHS / "study-private.toml").read_text().replace("arcsinh", "log")
    study = Study.from_bytes(text.encode())
    table = pd.read_csv(SACHS / "sachs.csv")
    table.loc[[0, 7], "raf"] = [0.0, -1.0]
    table.to_csv(tmp_path / "t.csv", index=False)
    found = examine(load_table(tmp_path / "t.csv", study), study)
    assert found.columns[0].blanks == 2
    assert any(
        "column raf: 2 cells (lines 2 and 9) are 0 or below, and the study takes the logarithm" in text
        for text in found.loud
    )


def test_records_that_are_there_several_times_are_loud(look: Callable[[pd.DataFrame], Examined]) -> None:
    found = look(pd.concat([ordinary()] * 3).sample(frac=1, random_state=1))
    assert found.again == 120
    assert found.loud == ["every record is there 3 times, or a multiple of it: is the file a copy of copies?"]
    half = look(pd.concat([ordinary(), ordinary(seed=1), ordinary().head(40)]))
    assert half.loud == ["40 of 160 records equal an earlier one: are some there twice?"]
    few = look(pd.concat([ordinary(), ordinary().head(1)]))
    assert few.loud == [] and few.warnings[0].text == "1 of 61 records equal an earlier one"


def test_coarse_numbers_coincide_without_a_warning(look: Callable[[pd.DataFrame], Examined]) -> None:
    table = ordinary(4000)
    scaled = {name: (table[name] - c) / s for name, (c, s) in SCALES.items()}
    coarse = pd.DataFrame({name: SCALES[name][0] + SCALES[name][1] * (x > 0) for name, x in scaled.items()})
    found = look(coarse)
    assert found.again > 3000 and found.loud == []


def test_copies_of_a_column_are_loud_and_near_ones_are_not(look: Callable[[pd.DataFrame], Examined]) -> None:
    table = ordinary()
    table["CRP"] = 100 + 20 * (table.glucose - 5)
    assert look(table).loud == [
        "columns glucose and CRP: one is a copy of the other, perhaps in another unit"
    ]
    table["CRP"] += np.random.default_rng(3).normal(0, 2, 60)
    found = look(table)
    assert found.loud == [] and "columns glucose and CRP: correlation 0.99" in found.warnings[0].text


def test_values_outside_the_public_bounds_are_counted(study: Study, tmp_path: Path) -> None:
    rows = [
        {"name": n, "centre": c, "scale": s, "lower": c - 2 * s, "upper": c + 9 * s}
        for n, (c, s) in SCALES.items()
    ]
    bounded = study.with_changes({"variables": rows})
    table = ordinary(100)
    table["LDL"] -= 70
    table.to_csv(tmp_path / "t.csv", index=False)
    found = examine(load_table(tmp_path / "t.csv", bounded), bounded)
    share = float((table.LDL < 60).mean())
    assert found.columns[0].outside == share > 0.1
    assert [text for text in found.loud if "public bounds" in text] == [
        f"column LDL: {100 * share:.0f} % of the values are outside the public bounds: another unit, or bounds that are too narrow?"
    ]


@pytest.mark.parametrize("file", ["study.toml", "study-private.toml"])
@pytest.mark.parametrize("parts", [1, 4, 16])
def test_the_records_of_the_demo_raise_nothing_loud(parts: int, file: str, tmp_path: Path) -> None:
    study = Study.load(SACHS / file)
    for part in split_table(SACHS / "sachs.csv", parts, 1):
        part.to_csv(tmp_path / "t.csv", index=False)
        assert examine(load_table(tmp_path / "t.csv", study), study).loud == []


@pytest.mark.parametrize("name", KINDS)
def test_made_up_records_of_every_kind_raise_nothing_loud(name: str, tmp_path: Path) -> None:
    for number, text in enumerate(KINDS[name].example):
        study = example_study(KINDS[name], text)
        path = write_records(study, made_up_records(study, 1), tmp_path / str(number))
        found = examine(load_table(path, study), study)
        assert found.loud == [] and len(found.columns) == len(study.variables)


def test_categories_that_never_occur_are_told(tmp_path: Path) -> None:
    text = 'name = "s"\nroster = ["north"]\n[space]\nmax_parents = 1\n[target]\nkind = "bdeu"\n'
    text += '[[variables]]\nname = "a"\ncategories = ["x", "y", "z"]\n[[variables]]\nname = "b"\ncategories = ["0", "1"]\n'
    study, path = Study.from_bytes(text.encode()), tmp_path / "t.csv"
    path.write_text("a,b\nx,0\ny,1\nx,1\n")
    found = examine(load_table(path, study), study)
    assert [(w.text, w.loud) for w in found.warnings] == [("column a: 'z' does not occur", False)]
    assert (found.columns[0].mean, found.columns[0].different, found.columns[0].repeated) == (None, 2, 2 / 3)

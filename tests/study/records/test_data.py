"""Records are read as the study prescribes, and a file that does not fit is refused in one sentence without quoting it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epgfn.base.errors import UsageError
from epgfn.study import Study
from epgfn.study.records.tables import load_records, split_table

SECRET = "777.125"  # stands in every bad file; must never stand in an error
SACHS = Path(__file__).parents[3] / "examples" / "sachs"
HEADER = "a,b,c\n"
GOOD = [f"{SECRET},1.5,2", "1,2,3.25", "4,0.5,1", "2,2,2"]


def rows(*lines: str) -> str:
    return "\n".join(lines) + "\n"


BAD_CSV = {
    "missing column": ("a,b\n" + rows(f"{SECRET},1", "1,2", "2,3"), "column 'c' is missing"),
    "extra column": ("a,b,c,d\n" + rows(*(f"{row},{SECRET}" for row in GOOD)), "column number 4"),
    "no header": (rows(*GOOD), "column 'a' is missing"),
    "column twice": ("a,b,c,b\n" + rows(*(f"{row},{SECRET}" for row in GOOD)), "'b' is listed twice"),
    "text": (HEADER + rows(*GOOD, f"1,name-{SECRET},2"), "column 'b', row 5 is not a number"),
    "thousands": (HEADER + rows(*GOOD, "1,1_000,2"), "column 'b', row 5 is not a number"),
    "NaN": (HEADER + rows(*GOOD, "1,2,NaN"), "column 'c', row 5 is not finite"),
    "infinity": (HEADER + rows(*GOOD, "-inf,2,3"), "column 'a', row 5 is not finite"),
    "overflow": (HEADER + rows(*GOOD, "1e999,2,3"), "column 'a', row 5 is not finite"),
    "blank": (HEADER + rows(*GOOD, "1, ,3"), "column 'b', row 5 is blank"),
    "short row": (HEADER + rows(*GOOD, f"1,{SECRET}"), "row 5 has 2 cells"),
    "long row": (HEADER + rows(*GOOD, f"1,2,3,{SECRET}"), "row 5 has 4 cells"),
    "open quote": (HEADER + rows(*GOOD, f'1,2,"{SECRET}'), "neither CSV"),
    "empty file": ("", "is empty"),
    "header only": (HEADER, "no records"),
    "empty column": (HEADER + rows("1,,777.125", "2,,3", "3,,4"), "column 'b' is empty"),
    "constant column": (
        HEADER + rows(*(f"{i},{SECRET},{i * i}" for i in range(5))),
        "column 'b' is constant",
    ),
    "too few rows": (HEADER + rows(*GOOD[:2]), "fewer records than the study has variables (3)"),
    "semicolons": (HEADER.replace(",", ";") + rows(*(row.replace(",", ";") for row in GOOD)), "is missing"),
}


@pytest.fixture
def study(small_study: Study) -> Study:
    return small_study


def refusal(path: Path, study: Study) -> str:
    """The one sentence; also checks that not even the traceback quotes data."""
    with pytest.raises(UsageError) as caught:
        load_records(path, study)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message and caught.value.exit_code == 2
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return message


@pytest.mark.parametrize("name", BAD_CSV)
def test_a_bad_file_is_refused_in_one_sentence_that_says_where(
    name: str, study: Study, tmp_path: Path
) -> None:
    text, where = BAD_CSV[name]
    path = tmp_path / "clinic.csv"
    path.write_text(text)
    assert where in refusal(path, study)


def test_a_missing_file_or_a_folder_is_refused(study: Study, tmp_path: Path) -> None:
    assert "check the path" in refusal(tmp_path / "none.csv", study)
    assert "check the path" in refusal(tmp_path, study)


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00a", b"a,b,c\n1\0,2,3\n", b"PAR1" + bytes(40), b"\x89PNG\r\n"])
def test_bytes_that_are_no_table_are_refused(raw: bytes, study: Study, tmp_path: Path) -> None:
    path = tmp_path / "picture.csv"
    path.write_bytes(raw)
    assert "neither CSV" in refusal(path, study)


PARQUET: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "missing": (lambda t: t.drop(columns="b"), "column 'b' is missing"),
    "extra": (lambda t: t.assign(d=1.0), "column number 4"),
    "text": (lambda t: t.assign(b=[SECRET] * len(t)), "column 'b' does not hold numbers"),
    "truth values": (lambda t: t.assign(b=t.a > 1), "column 'b' does not hold numbers"),
    "null": (lambda t: t.assign(b=pd.array([1, None, 3, 4], dtype="Int64")), "column 'b', row 2 is blank"),
    "all null": (lambda t: t.assign(b=pd.array([None] * 4, dtype="Int64")), "column 'b' is empty"),
    "infinite": (lambda t: t.assign(c=[1.0, 2.0, np.inf, 4.0]), "column 'c', row 3 is not finite"),
    "no rows": (lambda t: t.iloc[:0], "no records"),
}


@pytest.mark.parametrize("name", PARQUET)
def test_a_bad_parquet_file_is_refused(name: str, study: Study, tmp_path: Path) -> None:
    change, where = PARQUET[name]
    table = pd.DataFrame({"a": [float(SECRET), 2, 3, 5], "b": [1, 2, 3, 7], "c": [0.5, 2, 1, 4]})
    change(table).to_parquet(tmp_path / "clinic.parquet", index=False)
    assert where in refusal(tmp_path / "clinic.parquet", study)


def test_the_logarithm_of_what_is_not_positive_is_refused(study: Study, tmp_path: Path) -> None:
    variables = [{"name": "a", "transform": "log"}, {"name": "b"}, {"name": "c"}]
    path = tmp_path / "clinic.csv"
    path.write_text(HEADER + rows(*GOOD, "0,2,3"))
    assert "column 'a', row 5 is not positive" in refusal(path, study.with_changes({"variables": variables}))


def test_public_constants_and_the_order_of_the_study_apply(study: Study, tmp_path: Path) -> None:
    scaled = study.with_changes({"variables": [
        {"name": "c", "transform": "arcsinh", "transform_scale": 5.0, "centre": 0.25, "scale": 2.0},
        {"name": "a", "transform": "log", "transform_scale": 2.0},
        {"name": "b", "centre": 1.0, "scale": 4.0},
    ]})  # fmt: skip
    path = tmp_path / "clinic.csv"
    path.write_text(
        "\ufeff" + '"a", b,"c"\r\n' + "2,9,5\r\n4,5,10\r\n\r\n8,1,0\r\n", encoding="utf-8", newline=""
    )
    expected = np.column_stack(
        [(np.arcsinh([1.0, 2.0, 0.0]) - 0.25) / 2, np.log([1.0, 2.0, 4.0]), [2.0, 1.0, 0.0]]
    )
    assert np.array_equal(load_records(path, scaled), expected)


def test_csv_and_parquet_of_the_same_table_give_the_same_records(study: Study, tmp_path: Path) -> None:
    table = pd.DataFrame(np.random.default_rng(1).normal(size=(20, 3)), columns=["b", "c", "a"])
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_parquet(tmp_path / "t.parquet", index=False)
    assert np.array_equal(
        load_records(tmp_path / "t.csv", study), load_records(tmp_path / "t.parquet", study)
    )
    assert np.array_equal(load_records(tmp_path / "t.csv", study), table[["a", "b", "c"]].to_numpy())


def test_the_example_is_centred_and_scaled_by_its_own_study() -> None:
    records = load_records(SACHS / "sachs.csv", Study.load(SACHS / "study.toml"))
    assert records.shape == (1755, 11)
    assert np.abs(records.mean(0)).max() < 0.01 and np.abs(records.std(0) - 1).max() < 0.01


@given(parts=st.integers(1, 40), seed=st.integers(0, 2**31 - 1), n=st.integers(40, 60))
def test_a_split_holds_every_row_once_and_repeats(
    tmp_path_factory: pytest.TempPathFactory, parts: int, seed: int, n: int
) -> None:
    path = tmp_path_factory.mktemp("split") / "table.csv"
    path.write_text("a,b\n" + rows(*(f"{i},{i / 3!r}" for i in range(n))))
    tables = split_table(path, parts, seed)
    joined = pd.concat(tables)
    assert len(tables) == parts and max(map(len, tables)) - min(map(len, tables)) <= 1
    assert sorted(zip(joined["a"], joined["b"], strict=True)) == sorted(
        (str(i), repr(i / 3)) for i in range(n)
    )
    assert all(x.equals(y) for x, y in zip(tables, split_table(path, parts, seed), strict=True))


@pytest.mark.parametrize(
    ("raw", "parts"), [(b"a,b\n1,2\n", 2), (b"a,b\n1,2\n", 0), (b"", 1), (b"a\n\xff\n", 1)]
)
def test_a_table_that_cannot_be_split_is_refused(raw: bytes, parts: int, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(raw)
    with pytest.raises(UsageError):
        split_table(path, parts, 0)

"""Records are read as the study prescribes, and a file that does not fit is refused in one sentence without quoting it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epgfn.base.errors import UsageError
from epgfn.study import Study
from epgfn.study.records.examine import examine
from epgfn.study.records.tables import load_bounded_records, load_records, load_table, split_table
from small import PRIVATE_STUDY, SMALL_STUDY

SECRET = "777.125"  # stands in every bad file; must never stand in an error
SACHS = Path(__file__).parents[3] / "examples" / "sachs"
HEADER = "a,b,c\n"
GOOD = [f"{SECRET},1.5,2", "1,2,3.25", "4,0.5,1", "2,2,2"]


def variable(name: str) -> dict[str, Any]:
    """On its own scale."""
    return {"name": name, "centre": 0.0, "scale": 1.0}


def rows(*lines: str) -> str:
    return "\n".join(lines) + "\n"


BAD_CSV = {
    "missing column": ("a,b\n" + rows(f"{SECRET},1", "1,2", "2,3"), "column 'c' is missing"),
    "no header": (rows(*GOOD), "has no header line: its first line holds numbers"),
    "header of others": ("x,y,z\n" + rows(*GOOD), "names none of the study's variables ('a' 'b' 'c')"),
    "upper case": ("a,B,c\n" + rows(*GOOD), "column number 2 differs from 'b' in upper and lower case only"),
    "two missing": ("x,b,y\n" + rows(*GOOD), "columns 'a' and 'c' are missing"),
    "spaces": ("a b c\n" + rows(*(row.replace(",", " ") for row in GOOD)), "separated by spaces"),
    "only comments": ("# a\n# b\n", "nothing but comments"),
    "row names of R": (
        HEADER + rows(*(f"{i},{row}" for i, row in enumerate(GOOD))),
        "4 cells where the header has 3",
    ),
    "unquoted decimal commas": (HEADER + rows(*("1,5,2,5,3,5" for _ in GOOD)), "needs another separator"),
    "commas of either kind": (
        "a;b;c\n" + rows("1,234;2,500;3,125", "4,777;5,125;6,500", "1;2;4"),
        "before decimals or between thousands",
    ),
    "a comma and a point": (
        "a;b;c\n" + rows("1,5;2.5;3", "1;2;3", "2;3;4"),
        "column 'a', line 2 is not a number",
    ),
    "thousands and decimals": (
        "a;b;c\n" + rows("1.234,5;2;3", "1;2;3", "2;3;4"),
        "column 'a', line 2 is not a number",
    ),
    "column twice": ("a,b,c,b\n" + rows(*(f"{row},{SECRET}" for row in GOOD)), "'b' is listed twice"),
    "text": (HEADER + rows(*GOOD, f"1,name-{SECRET},2"), "column 'b', line 6 is not a number"),
    "thousands": (HEADER + rows(*GOOD, "1,1_000,2"), "column 'b', line 6 is not a number"),
    "NaN": (HEADER + rows(*GOOD, "1,2,NaN"), "column 'c', line 6 is marked as missing"),
    "infinity": (HEADER + rows(*GOOD, "-inf,2,3"), "column 'a', line 6 is not finite"),
    "overflow": (HEADER + rows(*GOOD, "1e999,2,3"), "column 'a', line 6 is not finite"),
    "blank": (HEADER + rows(*GOOD, "1, ,3"), "column 'b', line 6 is blank"),
    "short row": (HEADER + rows(*GOOD, f"1,{SECRET}"), "line 6 has 2 cells"),
    "long row": (HEADER + rows(*GOOD, f"1,2,3,{SECRET}"), "line 6 has 4 cells"),
    "open quote": (HEADER + rows(*GOOD, f'1,2,"{SECRET}'), "line 6 a quotation mark"),
    "empty file": ("", "is empty"),
    "header only": (HEADER, "no records"),
    "empty column": (HEADER + rows("1,,777.125", "2,,3", "3,,4"), "column 'b' is empty"),
    "constant column": (
        HEADER + rows(*(f"{i},{SECRET},{i * i}" for i in range(5))),
        "column 'b' is constant",
    ),
    "too few rows": (HEADER + rows(*GOOD[:2]), "fewer records than the study has variables (3)"),
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


def test_what_is_no_text_is_called_by_what_it_is(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "clinic.csv"
    path.write_bytes("a,b,c\n1,2,3\ncaf\u00e9,1,2\n".encode("latin-1"))
    assert "line 3 has a character in another encoding" in refusal(path, study)
    path.write_bytes(b"PK\x03\x04" + bytes(40))
    assert "a workbook" in refusal(path, study)


def test_a_missing_file_or_a_folder_is_refused(study: Study, tmp_path: Path) -> None:
    assert "check the path" in refusal(tmp_path / "none.csv", study)
    assert "check the path" in refusal(tmp_path, study)


def test_bad_cells_are_all_in_one_report(study: Study, tmp_path: Path) -> None:
    """With the lines an editor shows: blank ones, comments, the header and cells of several lines count."""
    path = tmp_path / "clinic.csv"
    path.write_text(
        f'# notes\n\na,b,c,remark\n1,2,3,"two\nlines"\n{SECRET},x{SECRET},,\n\n4,NA,5,\n6,,7,\n8,9,1e999,\n1,2\n3,1,2,\n'
    )
    said = refusal(path, study)
    for part in (
        "column 'b', line 6 is not a number",
        "column 'b', line 8 is marked as missing",
        "column 'b', line 9 is blank",
        "column 'c', line 6 is blank",
        "column 'c', line 10 is not finite",
        "line 11 has 2 cells where the header has 4",
    ):
        assert part in said


def test_a_report_of_thousands_of_bad_cells_is_short_and_counts_them(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "clinic.csv"
    path.write_text(HEADER + rows(*(f"{i},,x{SECRET}" if i % 2 else f"{i},1,2" for i in range(5000))))
    said = refusal(path, study)
    assert "column 'b', lines 3, 5, 7, 9," in said and "and 4980 more such places" in said and len(said) < 600


def test_numbers_that_have_no_logarithm_are_all_named(study: Study, tmp_path: Path) -> None:
    variables = [{**v, "transform": "log"} if v["name"] != "c" else v for v in map(variable, "abc")]
    path = tmp_path / "clinic.csv"
    path.write_text(HEADER + rows(*GOOD, "0,2,3", "1,-3,3", "-2,3,4"))
    said = refusal(path, study.with_changes({"variables": variables}))
    assert (
        "column 'a', lines 6 and 8 are not positive" in said and "column 'b', line 7 is not positive" in said
    )


WRITTEN = {
    "semicolons": "a;b;c\n1.5;2;3\n-4;5e1;6\n7;8;10\n",
    "tabs": "a\tb\tc\n1.5\t2\t3\n-4\t5e1\t6\n7\t8\t10\n",
    "bars": "a|b|c\n1.5|2|3\n-4|5e1|6\n7|8|10\n",
    "decimal commas": "a;b;c\n1,5;2;3\n-4,0;5e1;6,000\n7;8;10\n",
    "quoted decimal commas": 'a,b,c\n"1,5",2,3\n-4,"50,0",6\n7,8,10\n',
    "a line for a spreadsheet": "sep=;\na;b;c\n1.5;2;3\n-4;50;6\n7;8;10\n",
    "comments": "# made by a program\n\n#\na,b,c\n1.5,2,3\n-4,50,6\n7,8,10\n",
    "a header behind a number sign": "# a,b,c\n1.5,2,3\n-4,50,6\n7,8,10\n",
    "all quoted": '"a","b","c"\n"1.5","2","3"\n"-4","50","6"\n"7","8","10"\n',
    "spaces in names": " a,b ,c\u00a0\n1.5, 2,3 \n-4,50,6\n7,8,10\n",
    "carriage returns": "a,b,c\r1.5,2,3\r-4,50,6\r7,8,10\r",
    "more columns": "id,c,site,b,a\nx1,3,north,2,1.5\nx2,6,north,50,-4\nx3,10,,8,7\n",
    "a separator behind every line": "a,b,c,\n1.5,2,3,\n-4,50,6,\n7,8,10,\n",
}


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_one_table_however_it_is_written(text: str, study: Study, tmp_path: Path) -> None:
    path = tmp_path / "clinic.csv"
    path.write_text(text, encoding="utf-8", newline="")
    assert np.array_equal(load_records(path, study), [[1.5, 2, 3], [-4, 50, 6], [7, 8, 10]])


def test_columns_that_are_not_in_the_study_are_told_by_their_positions(study: Study, tmp_path: Path) -> None:
    """Never by their names, which may be somebody's data."""
    path = tmp_path / "clinic.csv"
    path.write_text(WRITTEN["more columns"])
    (note,) = load_table(path, study).notes
    assert note == "columns number 1 and 3 are no variables of the study and are not read"
    with pytest.raises(UsageError, match="columns number 1 and 3 are no variables") as caught:
        load_records(path, study.with_changes({"data": {"extra_columns": "refuse"}}))
    assert "site" not in str(caught.value)


def test_what_the_study_says_of_its_files_is_what_is_read(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "clinic.csv"
    path.write_text("a;b;c\n1,234;2;3\n4,777;5;6\n1;2;4\n")
    said = study.with_changes({"data": {"separator": ";", "decimal": ","}})
    assert load_records(path, said)[0, 0] == 1.234
    path.write_text(HEADER + rows(*GOOD))
    assert "separator = ';'" in refusal(path, said)
    path.write_text("a;b;c\n1.5;2;3\n4;5;6\n1;2;4\n")
    assert "a point is no decimal mark" in refusal(path, said)


def test_commas_between_thousands_are_never_read_as_decimal_ones_in_silence(
    study: Study, tmp_path: Path
) -> None:
    path = tmp_path / "clinic.csv"
    path.write_text('a,b,c\n"1,234",2.5,3\n999,5,6\n1,2,4\n')
    assert "where commas stand between thousands, write the numbers without them" in refusal(path, study)
    path.write_text('a,b,c\n"1,2",2.5,3\n999,5,6\n1,2,4\n')
    assert "between thousands" not in refusal(path, study)
    said = study.with_changes({"data": {"decimal": ","}})
    path.write_text('a,b,c\n"1,234","2,5",3\n999,5,6\n1,2,"4,250"\n')
    doubts = load_table(path, said).doubts
    assert [text.split(":")[0] for text in doubts] == ["column a", "column c"]
    warned = [w for w in examine(load_table(path, said), said).warnings if w.text == doubts[0]]
    assert warned[0].loud and "are these commas between thousands?" in warned[0].text
    for fine in ("1,234;2;3\n5,678;4;5\n9,101;2;2\n", "1,234;2;3\n5;4;5\n9,1;2;2\n"):
        path.write_text(f"a;b;c\n{fine}")
        assert load_table(path, said).doubts == []


def test_under_privacy_no_record_decides_how_numbers_are_read(tmp_path: Path) -> None:
    """A decimal comma is then for the study to say; the separator is the header line's, which holds no record."""
    private = Study.from_bytes(PRIVATE_STUDY.encode())
    path = tmp_path / "clinic.csv"
    path.write_text("a;b;c\n1,5;2;3\n4;5;6\n1;2;4\n")
    assert load_bounded_records(path, private).raw[:, 0].tolist() == [0, 4, 1]
    (doubt,) = load_table(path, private).doubts
    assert "line 2 is not a number" in doubt and "decimal = ','" in doubt and "1,5" not in doubt
    path.write_text("a;b;c\n1,5;2;3\n4;5;6\n1,5;2;4\n")
    with pytest.raises(UsageError, match=r"half of column 'a' or more cannot be read; .*decimal = ','"):
        load_bounded_records(path, private)
    said = private.with_changes({"data": {"decimal": ","}})
    assert load_bounded_records(path, said).raw[0].tolist() == [1.5, 2, 3]


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "nan", "1e400", "", "n/a", "x", "1;2"])
def test_under_privacy_no_record_stops_a_node(cell: str, tmp_path: Path) -> None:
    """Whether it trains would tell that somebody with such a value is among them."""
    text = PRIVATE_STUDY.replace("lower = -6.0", "lower = -2.0")
    private, path = Study.from_bytes(text.encode()), tmp_path / "clinic.csv"
    path.write_text(f"a;b;c\n1;2;3\n4;{cell};6\n1;2;4\n")
    records = load_bounded_records(path, private)
    assert np.isfinite(records.raw).all() and np.isfinite(records.scaled).all()
    expected = (
        [0, 2, 0] if cell == "1;2" else [4, 2, 6]
    )  # bounds -2 and 6; of a row of another length all is public
    assert records.raw[1].tolist() == expected and len(records.raw) == 3
    (doubt,) = load_table(path, private).doubts
    assert "line 3" in doubt and "b: 2, the middle of its bounds" in doubt
    blanks = [column.blanks for column in examine(load_table(path, private), private).columns]
    assert blanks == ([1, 1, 1] if cell == "1;2" else [0, 1, 0])
    with pytest.raises(UsageError, match="line 3"):
        load_records(path, Study.from_bytes(SMALL_STUDY.encode()))


def test_under_privacy_an_unlisted_category_is_the_first(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    changes = {
        "variables": [{"name": name, "categories": ["no", "yes"]} for name in names],
        "target": {"kind": "bdeu"},
        "privacy": {"mode": "statistic", "epsilon": 1.0, "delta": 1e-5},
    }
    private = Study.from_bytes(SMALL_STUDY.encode()).with_changes(changes)
    for number, write in enumerate((pd.DataFrame.to_csv, pd.DataFrame.to_parquet)):
        path = tmp_path / f"t{number}"
        write(
            pd.DataFrame([["yes"] * 3, ["yes", "perhaps", None], ["yes"] * 3], columns=names),
            path,
            index=False,
        )
        scaled = load_bounded_records(path, private).scaled
        assert scaled.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 1]]
        (doubt,) = load_table(path, private).doubts
        assert "b: no, its first category" in doubt and "perhaps" not in doubt


def test_under_privacy_a_null_in_a_parquet_file_counts_as_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = {"a": [1.0, None, 3.0], "b": [1.0, np.inf, 2.0], "c": [1, 2, 3]}
    pd.DataFrame(table).to_parquet(path, index=False)
    records = load_bounded_records(path, Study.from_bytes(PRIVATE_STUDY.encode()))
    assert records.raw.tolist() == [[1, 1, 1], [0, 0, 2], [3, 2, 3]]


def test_a_name_is_the_same_however_unicode_writes_it(study: Study, tmp_path: Path) -> None:
    names = ["dose µg", "area m²", "caf\u00e9"]
    said = study.with_changes({"variables": [variable(name) for name in names]})
    path = tmp_path / "clinic.csv"
    path.write_text("cafe\u0301 ,area  m2,dose \u03bcg\n1,2,3\n4,5,7\n7,9,8\n", encoding="utf-8")
    assert load_records(path, said)[0].tolist() == [3, 2, 1]
    two = study.with_changes({"variables": [variable("x2"), variable("x²"), variable("y")]})
    path.write_text("x²,x2,y\n1,2,3\n4,5,7\n7,9,8\n", encoding="utf-8")
    assert load_records(path, two)[0].tolist() == [2, 1, 3]


def test_a_category_is_the_same_however_unicode_writes_it(tmp_path: Path) -> None:
    text = 'name = "s"\nroster = ["north"]\n[space]\nmax_parents = 1\n[target]\nkind = "bdeu"\n'
    text += '[[variables]]\nname = "place"\ncategories = ["Malm\u00f6", "Lund"]\n[[variables]]\nname = "b"\ncategories = ["0", "1"]\n'
    path = tmp_path / "clinic.csv"
    path.write_text('place,b\n"Malmo\u0308 ",0\nLund,1\n', encoding="utf-8")
    assert load_records(path, Study.from_bytes(text.encode())).tolist() == [[0, 0], [1, 1]]


@given(
    st.lists(
        st.lists(
            st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers()), min_size=3, max_size=3
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([",", ";", "\t", "|"]),
    st.booleans(),
)
def test_the_quick_reader_and_the_careful_one_agree(
    tmp_path_factory: pytest.TempPathFactory, table: list[list[float]], separator: str, quoted: bool
) -> None:
    """And both with Python, to the last digit."""
    private = Study.from_bytes(PRIVATE_STUDY.encode())
    path = tmp_path_factory.mktemp("agree") / "t.csv"
    lines = [separator.join(f'"{x!r}"' if quoted else repr(x) for x in row) for row in table]
    path.write_text(separator.join("abc") + "\n" + rows(*lines))
    expected = np.array([[float(x) for x in row] for row in table])
    assert np.array_equal(load_bounded_records(path, private).raw, expected)


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00a", b"a,b,c\n1\0,2,3\n", b"PAR1" + bytes(40), b"\x89PNG\r\n"])
def test_bytes_that_are_no_table_are_refused(raw: bytes, study: Study, tmp_path: Path) -> None:
    path = tmp_path / "picture.csv"
    path.write_bytes(raw)
    assert "neither CSV" in refusal(path, study)


PARQUET: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "missing": (lambda t: t.drop(columns="b"), "column 'b' is missing"),
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
    variables = [{**variable("a"), "transform": "log"}, variable("b"), variable("c")]
    path = tmp_path / "clinic.csv"
    path.write_text(HEADER + rows(*GOOD, "0,2,3"))
    assert "column 'a', line 6 is not positive" in refusal(path, study.with_changes({"variables": variables}))


def test_public_constants_and_the_order_of_the_study_apply(study: Study, tmp_path: Path) -> None:
    scaled = study.with_changes({"variables": [
        {"name": "c", "transform": "arcsinh", "transform_scale": 5.0, "centre": 0.25, "scale": 2.0},
        {"name": "a", "transform": "log", "transform_scale": 2.0, "centre": 0.0, "scale": 1.0},
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

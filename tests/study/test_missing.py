"""[data] missing: every mistake in one plain sentence, what a blank is read as, and what a file's owner is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epgfn.base.errors import UsageError
from epgfn.study import Study
from epgfn.study.missing import groups_of, in_words
from epgfn.study.records.examine import examine
from epgfn.study.records.tables import load_records, load_table

NUMBERS = ", ".join(f'{{name = "{name}", centre = 0, scale = 1, lower = -9, upper = 9}}' for name in "xyz")


def study(missing: str, more: str = "", variables: str = NUMBERS) -> Study:
    most = min(2, variables.count("name") - 1)
    text = f'name = "t"\nroster = ["a", "b"]\nvariables = [{variables}]\n{more}\n'
    text += f'[space]\nmax_parents = {most}\n[data]\nmissing = "{missing}"\n'
    return Study.from_bytes(text.encode())


def file(folder: Path, blank: str = "", n: int = 40) -> Path:
    rng = np.random.default_rng(0)
    rows = [[f"{v:.4f}" for v in rng.normal(size=3)] for _ in range(n)]
    for at in (3, 7, 20):
        rows[at][1] = blank
    path = folder / "a.csv"
    path.write_text("\n".join(["x,y,z", *map(",".join, rows)]) + "\n")
    return path


CATEGORIES = '{name = "x", categories = ["a", "b"]}, {name = "y", categories = ["a", "b"]}'


@pytest.mark.parametrize(
    ("missing", "more", "variables", "said"),
    [
        ("impute", "", CATEGORIES, "only numbers are filled in"),
        ("category", "", NUMBERS, "only where a variable lists one for it"),
        ("impute", 'target.kind = "max-likelihood"', NUMBERS, "takes target.kind = 'bge' or 'bic'"),
        ("impute", 'target.parameters = "shared"', NUMBERS, "records with blanks have none"),
        ("impute", 'design = { column = "arm", sets = { a = [], b = ["x"] } }', NUMBERS, r"in a study with a \[design\]"),
        ("complete-rows", 'privacy = { mode = "statistic", epsilon = 4.0, delta = 1e-5 }', NUMBERS, "no proven bound"),
        ("impute", "", ", ".join(f'{{name = "v{j}", centre = 0, scale = 1}}' for j in range(13)), "up to 12 variables"),
    ],
)  # fmt: skip
def test_blanks_that_cannot_be_dealt_with_are_refused_in_a_sentence(
    missing: str, more: str, variables: str, said: str
) -> None:
    if variables is CATEGORIES:
        more += '\ntarget.kind = "bdeu"'
    with pytest.raises(UsageError, match=said):
        study(missing, more, variables)


@pytest.mark.parametrize("blank", ["", "NA", " . "])
def test_blanks_are_kept_where_the_study_allows_them_and_counted_for_the_owner_alone(
    tmp_path: Path, blank: str
) -> None:
    path = file(tmp_path, blank)
    with pytest.raises(UsageError, match=r"column 'y', lines 5, 9 and 22.*missing = 'complete-rows' under"):
        load_records(path, study("refuse"))
    table = load_table(path, study("complete-rows"))
    assert np.isnan(load_records(path, study("impute"))).sum() == 3
    assert any("of 40 records, blank in y (3)" in note for note in table.notes)
    assert "37 of 40 records are complete for the scores of every variable" in table.notes
    facts = examine(table, study("complete-rows"))
    assert not facts.loud


def test_nulls_of_parquet_are_blanks(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    columns = {name: rng.normal(size=30).tolist() for name in "xyz"}
    columns["z"][4] = None
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = load_records(tmp_path / "a.parquet", study("complete-rows"))
    assert np.argwhere(np.isnan(found)).tolist() == [[4, 2]]


def test_a_blank_is_the_category_that_the_study_lists_for_it(tmp_path: Path) -> None:
    told = '{name = "x", categories = ["a", "b", "Missing"]}, {name = "y", categories = ["a", "b"]}'
    made = study("category", 'target.kind = "bdeu"', told)
    path = tmp_path / "a.csv"
    path.write_text("x,y\na,b\n,a\nNA,b\nb,a\nmissing,b\n")
    assert load_records(path, made)[:, 0].tolist() == [0, 2, 2, 1, 2]
    path.write_text("x,y\na,\nb,a\n")
    with pytest.raises(UsageError, match="column 'y', line 2 is blank"):
        load_records(path, made)


def test_variables_whose_scores_are_compared_take_the_same_rows() -> None:
    tiers = 'prior.tiers = [["x"], ["y", "z"]]'
    assert groups_of(study("complete-rows", tiers)) == [([0], [0]), ([1, 2], [0, 1, 2])]
    assert groups_of(study("complete-rows")) == [([0, 1, 2], [0, 1, 2])]
    assert "missing at random" in in_words(study("impute")) and in_words(study("refuse")) == ""

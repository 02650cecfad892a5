"""A CSV does nothing in a spreadsheet, its numbers are numbers, and what is read of it is what was written."""

from __future__ import annotations

import csv
import io
import math
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from epgfn.base.spreadsheets import csv_bytes, from_cell, to_cell

BEGINNINGS = ["=", "+", "-", "@", "\t=", "\r=", "\n=", "＝", "＋", "－", "＠", "﹦", "﹢", "﹣", "﹫", "−"]
AWKWARD = st.text(
    st.sampled_from([*"=+-@\t\r\n;,'\"` .1aé", "＝", "\u3164", "\u00a0", "\u202e", "\ufe0f", "’"]),
    max_size=12,
)


@pytest.mark.parametrize(
    "before", ["", " ", '"', "'", "''", "\u00a0", "\u200b", "\u3164", "\ufeff", ' "\u2019 ']
)
@pytest.mark.parametrize("begin", BEGINNINGS)
def test_a_text_that_a_spreadsheet_would_calculate_is_kept_from_it(begin: str, before: str) -> None:
    text = f"{before}{begin}1+cmd|' /C calc'!A0"
    assert to_cell(text).startswith("'") or "'" in to_cell(text)[: len(before) + 2]
    assert from_cell(to_cell(text)) == text != to_cell(text)


@pytest.mark.parametrize("text", ["\tage", "\rage", "\nage", "-", "=", "@SUM(1)", "+49 30", "-1 mg", "-1"])
def test_so_is_what_begins_as_one(text: str) -> None:
    assert to_cell(text) != text and from_cell(to_cell(text)) == text


@pytest.mark.parametrize("cut", [";", "\t", "\n", "\r\n"])
def test_so_is_what_begins_after_a_place_where_a_cell_may_be_cut(cut: str) -> None:
    """Excel where lists are separated by semicolons cuts there, whatever the quotation marks of a file with commas."""
    assert to_cell(f"a->b{cut}=cmd->c") == f"a->b{cut}'=cmd->c"
    assert from_cell(f"a->b{cut}'=cmd->c") == f"a->b{cut}=cmd->c"


@pytest.mark.parametrize(
    "text",
    [
        "", "age", "LDL (mg/dl)", "hba1c, %", "a->b;c->d", "x=y", "1-2", "'quoted'", "d'Urville", "α", "数", "é", "(a,b);",
        "1", "1.5e-7", ".5", "apple 2, pear 1", "a; b", "_", "/", "don't",
    ],
)  # fmt: skip
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert to_cell(text) == text == from_cell(text)


@settings(max_examples=400, deadline=None)
@given(st.one_of(AWKWARD, st.text(max_size=12)))
@example("'=a")
@example("''")
@example("'\t")
def test_what_is_read_is_what_was_written(text: str) -> None:
    assert from_cell(to_cell(text)) == text
    ((cell,),) = csv.reader(io.StringIO(csv_bytes([text], []).decode(), newline=""))
    assert from_cell(cell) == text


@settings(max_examples=400, deadline=None)
@given(st.lists(AWKWARD, min_size=1, max_size=4))
def test_nothing_that_is_written_begins_as_a_formula_wherever_it_is_cut(row: list[str]) -> None:
    written = csv_bytes(["name"] * len(row), [row]).decode()
    for separator in ",;\t":
        for cells in csv.reader(io.StringIO(written, newline=""), delimiter=separator):
            for cell in cells:
                bare = cell.lstrip(' \u00a0"`’')
                assert unicodedata.normalize("NFKC", bare[:1]) not in ("=", "+", "-", "@")


def test_numbers_are_written_with_every_digit_and_nothing_before_them() -> None:
    row = [
        -1,
        -0.1,
        np.float64(-1 / 3),
        np.int64(-7),
        1e-300,
        None,
        math.nan,
        np.float64("nan"),
        -math.inf,
        True,
    ]
    assert csv_bytes(["x"] * len(row), [row]).decode() == (
        "x," * 9 + "x\n-1,-0.1,-0.3333333333333333,-7,1e-300,,,,-inf,True\n"
    )

"""What [design] says was set in which rows: every mistake in one plain sentence, and what a file's owner is told of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epgfn.base.errors import UsageError
from epgfn.study import Study
from epgfn.study.check import check_study
from epgfn.study.design import always_set, in_words, regimes_of
from epgfn.study.records.examine import examine
from epgfn.study.records.tables import load_records, load_table

_VARIABLES = ", ".join(
    f'{{name = "{name}", centre = 0, scale = 1, lower = -9, upper = 9}}' for name in ("x", "y", "z")
)
ARMS = '[design.sets]\nusual = []\n"x off" = ["x"]\nboth = ["y", "z"]\n'


def text(design: str, more: str = "") -> bytes:
    return f'name = "t"\nroster = ["a", "b"]\nvariables = [{_VARIABLES}]\n{more}\n[space]\nmax_parents = 2\n[design]\n{design}\n'.encode()


def study(design: str = f'column = "arm"\n{ARMS}', more: str = "") -> Study:
    return Study.from_bytes(text(design, more))


def file(folder: Path, arms: list[str], x: float | None = None, n: int = 30) -> Path:
    rng = np.random.default_rng(0)
    lines = ["arm,y,z,x,other"]
    for at in range(n):
        arm = arms[at % len(arms)]
        values = [f"{v:.4f}" for v in rng.normal(size=3)]
        if arm == "x off" and x is not None:
            values[2] = f"{x}"
        lines.append(f"{arm},{','.join(values)},7")
    path = folder / "a.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("design", "said"),
    [
        ('kind = "perfect"', r"design\.column: is missing"),
        (f'column = "x"\n{ARMS}', "'x' is a variable of the study too"),
        ('column = "arm"\n[design.sets]\nusual = []\n', "needs at least two arms"),
        ('column = "arm"\n[design.sets]\na = []\nb = []\n', "no arm sets a variable"),
        ('column = "arm"\n[design.sets]\na = []\nb = ["xx"]\n', r"arm 'b': 'xx' is no variable of the study \(did you mean 'x'\?\)"),
        ('column = "arm"\n[design.sets]\na = []\nb = ["x", "x"]\n', "arm 'b': 'x' is listed twice"),
        (f'column = "arm"\nkind = "hard"\n{ARMS}', "must be 'perfect' or 'imperfect'"),
    ],
)  # fmt: skip
def test_a_design_that_makes_no_sense_is_refused_in_a_sentence(design: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        study(design)
    assert len(check_study(text(design)).mistakes) == 1


def test_all_mistakes_are_found_at_once() -> None:
    found = check_study(text('column = "x"\n[design.sets]\na = ["q"]\nb = ["x", "x"]\n')).mistakes
    assert len(found) == 3


def test_a_design_is_refused_under_privacy_with_the_reason() -> None:
    with pytest.raises(UsageError, match="one noisy statistic of all rows together"):
        study(more='privacy = { mode = "statistic", epsilon = 4.0, delta = 1e-5 }')


def test_a_design_is_of_graphs() -> None:
    words = 'name = "t"\nroster = ["a"]\n[space]\nkind = "multiset"\nsize = 3\n[target]\nkind = "items"\nsignal = 0.5\n'
    words += '[[variables]]\nname = "v"\ncategories = ["a", "b"]\n[design]\ncolumn = "arm"\nsets = { u = [], w = ["v"] }\n'
    with pytest.raises(UsageError, match="objects of space 'multiset' have no edges"):
        Study.from_bytes(words.encode())


def test_regimes_are_rows_with_parameters_of_their_own() -> None:
    assert {(r.arms, r.variables) for r in regimes_of(study())} == {((0, 2), (0,)), ((0, 1), (1, 2))}
    own = study(f'column = "arm"\nkind = "imperfect"\n{ARMS}')
    assert {(r.arms, r.variables) for r in regimes_of(own)} == {
        ((0, 2), (0,)), ((1,), (0,)), ((0, 1), (1, 2)), ((2,), (1, 2))
    }  # fmt: skip


def test_a_variable_that_every_arm_sets_is_said_to_have_no_say() -> None:
    always = study('column = "arm"\n[design.sets]\na = ["x"]\nb = ["x", "y"]\n')
    assert always_set(always) == ["x"] and "no record says anything about edges into it" in in_words(always)
    assert all(0 not in regime.variables for regime in regimes_of(always))


def test_the_arm_of_each_record_is_its_last_column_and_the_owner_is_told(tmp_path: Path) -> None:
    path = file(tmp_path, ["usual", "x off", "both"])
    records, notes = load_records(path, study()), load_table(path, study()).notes
    assert records.shape == (30, 4) and records[:3, 3].tolist() == [0.0, 1.0, 2.0]
    assert "x was set in 10 of 30 records, which its score leaves out" in notes
    assert any("column number 5" in note for note in notes), "what is in neither is not read"
    table = pa.table(
        {
            name: [str(v) for v in (np.arange(6) % 3 if name == "arm" else [])] or np.arange(6.0)
            for name in "xyz"
        }
    )
    table = table.append_column("arm", pa.array(["usual", "both", "x off"] * 2))
    pq.write_table(table, tmp_path / "a.parquet")
    assert load_records(tmp_path / "a.parquet", study())[:3, 3].tolist() == [0.0, 2.0, 1.0]


def test_a_node_may_have_one_arm_only_and_then_a_constant_column(tmp_path: Path) -> None:
    table = load_table(file(tmp_path, ["x off"], x=3.5), study())
    assert "x was set in all records, so they say nothing about edges into it" in table.notes
    assert (load_records(tmp_path / "a.csv", study())[:, 0] == 3.5).all()
    with pytest.raises(UsageError, match="'x' is constant"):
        load_records(tmp_path / "a.csv", study(f'column = "arm"\nkind = "imperfect"\n{ARMS}'))


def test_an_arm_that_the_study_does_not_know_is_named_by_its_line_alone(tmp_path: Path) -> None:
    path = file(tmp_path, ["usual", "secret arm"], n=4)
    with pytest.raises(UsageError, match=r"column 'arm', lines 3 and 5 are none of the arms") as error:
        load_records(path, study())
    assert "secret" not in str(error.value)
    path.write_text(path.read_text().replace("arm,y", "group,y"))
    with pytest.raises(UsageError, match="column 'arm' is missing"):
        load_records(path, study())


def test_values_that_were_set_are_not_odd(tmp_path: Path) -> None:
    table = load_table(file(tmp_path, ["usual", "usual", "x off"], x=-999, n=90), study())
    assert examine(table, study()).loud == []
    one = table.columns[0].copy()
    one[0] = -999  # observed
    found = examine(
        type(table)([one, *table.columns[1:]], [], "line", table.places, arms=table.arms), study()
    ).loud
    assert len(found) == 1 and "line 2" in found[0]

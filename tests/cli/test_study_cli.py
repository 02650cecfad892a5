"""`epgfn study`, as people type it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epgfn.base.console import run_app
from epgfn.cli.main import app
from small import SMALL_STUDY


def study(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and error of `epgfn study`."""
    with pytest.raises(SystemExit) as ended:
        run_app(app, "epgfn", ["study", *map(str, arguments)])
    told = capsys.readouterr()
    return int(str(ended.value.code)), told.out, told.err


def test_a_study_without_mistakes_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.toml"
    path.write_text(SMALL_STUDY)
    code, out, _ = study(capsys, "check", path)
    assert code == 0 and "small: no mistakes" in out and "a, b, c" in out


def test_mistakes_are_listed_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.toml"
    path.write_text(SMALL_STUDY.replace("scale = 1.0", "").replace("seed", "sead"))
    code, out, err = study(capsys, "check", path)
    assert code == 1 and "has 4 mistakes" in err
    assert "- sead: there is no such setting (did you mean 'seed'?)\n" in out
    assert "- variable 'b': scale is missing\n" in out and "never from anyone's records" in out
    _, out, _ = study(capsys, "check", path, "--json")
    facts = json.loads(out)
    assert (facts["ok"], facts["digest"], len(facts["mistakes"])) == (False, None, 4)


def test_what_nobody_could_train_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.toml"
    path.write_text(SMALL_STUDY + "\n[transport]\nmax_upload_bytes = 1024\n")
    code, out, _ = study(capsys, "check", path)
    assert code == 1 and "transport.max_upload_bytes" in out


def test_what_a_model_weighs_is_told_and_what_would_make_it_smaller(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """64 variables with up to three parents: 43,745 sets for each, a float64 each."""
    variables = ", ".join(f'{{name = "x{i}", centre = 0.0, scale = 1.0}}' for i in range(64))
    path = tmp_path / "study.toml"
    text = (
        f'name = "wide"\nroster = ["north", "south"]\nvariables = [{variables}]\n[space]\nmax_parents = 3\n'
    )
    path.write_text(text)
    code, out, _ = study(capsys, "check", path)
    weight = 64 * 43_745 * 8 / 1e6
    assert code == 0
    told = float(out.split("Model      ")[1].split(" MB")[0])
    assert weight < told < 1.1 * weight
    assert "most of it scores of 43,745 sets of parents for each variable" in out
    path.write_text(text + "[transport]\nmax_upload_bytes = 10000000\n")
    code, out, _ = study(capsys, "check", path)
    assert code == 1 and "a smaller space.max_parents" in out and "10.0 MB" in out


def test_no_larger_limit_is_advised_where_there_are_too_many_scores_anyway(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variables = ", ".join(f'{{name = "x{i}", centre = 0.0, scale = 1.0}}' for i in range(128))
    path = tmp_path / "study.toml"
    path.write_text(
        f'name = "wide"\nroster = ["north"]\nvariables = [{variables}]\n[space]\nmax_parents = 3\n'
    )
    code, out, _ = study(capsys, "check", path)
    assert code == 1 and "need too many scores; lower space.max_parents" in out
    assert "max_upload_bytes" not in out


def test_a_draft_says_what_is_left_to_do_and_is_never_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "north.csv", tmp_path / "study.toml"
    data.write_text("LDL,age\n130.5,41\n99.5,43\n121.0,\n")
    code, said, _ = study(capsys, "draft", data, "--out", out, "--range", "LDL=40:250")
    assert code == 0 and 'where it says "?": age' in said and f"next: epgfn study check {out}" in said
    assert "column 'age' has 1 cell without a value\n" in said and "cells" not in out.read_text()
    assert said.count('missing = "complete-rows"') == 1
    assert study(capsys, "check", out)[0] == 1
    assert "choose another file with --out" in study(capsys, "draft", data, "--out", out)[2]
    code, said, _ = study(capsys, "draft", data, "--out", tmp_path / "own.toml", "--from-my-data")
    assert code == 0 and "FROM YOUR DATA: centre and scale are the mean" in said
    assert study(capsys, "check", tmp_path / "own.toml")[0] == 0
    assert (
        "write NAME=LOW:HIGH" in study(capsys, "draft", data, "--out", tmp_path / "x", "--range", "LDL=4")[2]
    )
    twice = ("--range", "LDL=40:250", "--range", "LDL=1:6")
    assert "given twice for 'LDL'" in study(capsys, "draft", data, "--out", tmp_path / "x", *twice)[2]

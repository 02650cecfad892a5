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

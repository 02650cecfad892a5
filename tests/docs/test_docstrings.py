"""Examples in the docstrings of public names do what they show."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path

import pytest

import epgfn
from epgfn.study import Study
from report_run import make_run

PUBLIC = [name for name in epgfn.__all__ if callable(getattr(epgfn, name))]
WITH_EXAMPLES = {"Model", "RunResult", "Samples", "load_run", "load_study"}


def examples_of(name: str) -> list[doctest.DocTest]:
    """Of a public name and all that is its own."""
    found = doctest.DocTestFinder().find(getattr(epgfn, name), f"epgfn.{name}", globs={"epgfn": epgfn})
    return [test for test in found if test.examples]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, small_study: Study) -> Path:
    """A working directory with what examples name: a run, and a study."""
    root = tmp_path_factory.mktemp("place")
    make_run(root / "runs" / "first", small_study)
    (root / "study.toml").write_bytes(small_study.raw)
    return root


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_do_what_they_show(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inspect.getdoc(getattr(epgfn, name))
    monkeypatch.chdir(place)
    tests = examples_of(name)
    assert bool(tests) == (name in WITH_EXAMPLES)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    for test in tests:
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)

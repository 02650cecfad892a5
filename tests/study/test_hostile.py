"""Study files that somebody wrote to break their reader: a sentence, wherever they are read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from epgfn.base.errors import UsageError
from epgfn.study import Study
from epgfn.study.check import check_study

DOTS = ".".join(["a"] * 30_000) + " = 1\n"
HOSTILE = {
    "dots": (DOTS, "a key in it has more than 8 dots; a study holds settings, not data"),
    "deep": ("x = " + "[" * 30_000 + "]" * 30_000, "nested more than 16 deep"),
    "keys": ("".join(f"k{i} = 1\n" for i in range(6000)), "more than 4096 keys"),
    "size": ("# " + "x" * (64 << 10), "larger than 64 KiB"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_in_a_sentence(small_study: Study, name: str) -> None:
    text, word = HOSTILE[name]
    raw = text.encode() + b"\n" + small_study.raw
    started = time.process_time()
    with pytest.raises(UsageError, match=r"^here\.toml: ") as refused:
        Study.from_bytes(raw, "here.toml")
    assert word in str(refused.value)
    (mistake,) = check_study(raw).mistakes
    assert word in str(mistake)
    assert time.process_time() - started < 2


def test_many_mistakes_within_the_bounds_cost_no_more_than_their_number(small_study: Study) -> None:
    raw = "".join(f"k{i} = 1\n" for i in range(4000)).encode() + small_study.raw
    started = time.process_time()
    assert len(check_study(raw).mistakes) == 4000
    with pytest.raises(UsageError, match="3999 more"):
        Study.from_bytes(raw)
    assert time.process_time() - started < 10


def test_the_examples_are_far_within(small_study: Study) -> None:
    for path in (Path(__file__).parents[2] / "examples").rglob("study*.toml"):
        assert len(path.read_bytes()) < 8 << 10

"""Promise: a round has one result. A coordinator that does not like its first one makes another, and enters that, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from attacks import closing, refusals
from epgfn.base.files import sha256_hex
from epgfn.ledger.entries import GlobalEntry, StateEntry
from run_directory import ROUND_ID, RunDirectory


def second(run: RunDirectory, where: str) -> None:
    """Sign and enter another model of the same uploads."""
    run.made = run.model("global", 0.5)
    run.aggregate(where)
    run.made = b""


@pytest.mark.parametrize("where", ["global", "aggregates/2"])
def test_a_second_result_before_the_round_is_published_is_refused(tmp_path: Path, where: str) -> None:
    run = closing(tmp_path / "run")
    run.log(StateEntry(round_id=ROUND_ID, state="aggregating"))
    run.aggregate("global")
    second(run, where)
    run.end()
    found = refusals(run.finish())
    assert "publishes a second result" in found["ledger-entries"], found


@pytest.mark.parametrize("where", ["global", "aggregates/2"])
def test_a_second_result_after_it_is_refused(tmp_path: Path, where: str) -> None:
    run = closing(tmp_path / "run")
    run.close()
    second(run, where)
    found = refusals(run.finish())
    assert "publishes a second result" in found["ledger-entries"], found


def test_one_that_lies_nowhere_is_refused_by_its_entry_alone(tmp_path: Path) -> None:
    run = closing(tmp_path / "run")
    run.close()
    run.log(GlobalEntry(round_id=ROUND_ID, bundle_sha256=sha256_hex(b"a"), model_sha256=sha256_hex(b"b")))
    assert "publishes a second result" in refusals(run.finish())["ledger-entries"]

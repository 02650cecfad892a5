"""Promise: the round key is destroyed once, after the uploads were aggregated and before anyone sees the result.

A coordinator that says so earlier did not need the key, or still has it; one that says so later has kept it as long as it liked.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from attacks import closing, refusals
from epgfn.ledger.entries import KeyDestroyedEntry, StateEntry
from run_directory import ROUND_ID


@pytest.mark.parametrize(
    ("story", "why"),
    [
        ("open: destroyed aggregating global published", "before the uploads were aggregated"),
        ("open: aggregating destroyed global published", "before the uploads were aggregated"),
        ("open: aggregating global destroyed destroyed published", "as an entry before it does"),
        ("open: aggregating global published destroyed", "only after the result was published"),
        ("open: aggregating global destroyed published", ""),
    ],
)
def test_a_round_key_is_destroyed_once_and_in_its_time(tmp_path: Path, story: str, why: str) -> None:
    run = closing(tmp_path / "run")
    for word in story.split()[1:]:
        if word == "global":
            run.aggregate("global")
        elif word == "destroyed":
            run.log(KeyDestroyedEntry(round_id=ROUND_ID, round_key_id=run.round_key.key_id))
        else:
            run.log(StateEntry(round_id=ROUND_ID, state=word))
    found = refusals(run.finish())
    assert ("ledger-entries" in found) == bool(why)
    assert why in found.get("ledger-entries", "")

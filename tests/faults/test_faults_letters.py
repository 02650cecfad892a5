"""A coordinator that is killed while it receives a letter: received again, the model counts once, and its node has its receipt."""

from __future__ import annotations

from pathlib import Path

from epgfn.study import Study
from faulty_letters import FaultyLetters


def test_a_letter_that_is_received_again_after_a_kill_counts_once(
    small_study: Study, small_files: dict[str, Path], tmp_path: Path
) -> None:
    """At some of the steps; `make soak` goes through all of them, again and again."""
    letters = FaultyLetters(tmp_path / "letters", small_study, small_files["north"])
    steps = list(letters.steps())
    assert "commit intake.Intake._accept" in steps and "committed letters._require_newest" in steps
    letters.kill_at(["committed letters._require_newest", "committed intake.Intake._accept", steps[-1]])

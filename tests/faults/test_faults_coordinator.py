"""A coordinator that is killed, or finds no room, at the steps at which it changes something on disk: no promise to a client is broken.

One kill at each step here; every step many times, in any order, in `make soak`.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from coordinator_client import tiny_study
from epgfn_coordinator.status import status
from faulty_round import FaultyRound, Sweep, steps_of_a_round


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Of a whole round, from `init` to the destroyed key."""
    return steps_of_a_round(tmp_path_factory.mktemp("steps"), tiny_study())


def test_everything_that_matters_is_a_step(steps: dict[str, int]) -> None:
    wanted = [
        "renamed keys/round.key", "committed initialise._open_round", "committed enrollment.Enrollment._enroll", "appended uploads/*.part",
        "renamed artifacts/*", "commit intake.Intake._accept", "committed intake.Intake._accept", "renamed ledger/checkpoint",
        "committed published_ledger.PublishedLog.fill_receipts", "committed publication.Publication._sign",
        "overwritten keys/round.key", "removed keys/round.key", "committed round.Round.advance",
    ]  # fmt: skip
    assert set(wanted) <= set(steps) and len(steps) > 80


def test_a_kill_at_each_step_breaks_no_promise(tmp_path: Path, steps: dict[str, int]) -> None:
    # Before a step is as after the one before; `init` begins afresh, and is killed at every fifth.
    chosen = [step for step in steps if not step.startswith(("write ", "remove "))]
    begun = chosen.index("committed initialise._open_round")
    sweep = Sweep(tmp_path, tiny_study())
    sweep.over(dict.fromkeys([*chosen[:begun:5], *chosen[begun:]], 1))
    assert len(sweep.results) == 1, "the same models, the same global model"


def test_no_room_at_a_step_breaks_no_promise(tmp_path: Path, steps: dict[str, int]) -> None:
    study = tiny_study()
    kinds = ("write ", "commit ", "append ")
    refusable = [step for step in steps if step.startswith(kinds)]
    begun = refusable.index("commit initialise._open_round")
    current = FaultyRound(tmp_path, study)
    made = current.init(f"full:1:{refusable[3]}")
    assert made.code == 1 and "No space left" in made.said
    assert current.init().code == 0
    for step in refusable[begun + 1 :: 3]:
        ended = current.serve(f"full:1:{step}")
        assert ended.code in (0, 1)
        if ended.code == 1:
            assert "free some space" in ended.said.splitlines()[-1], (step, ended.said)
    while not current.is_over:
        assert current.serve().code == 0
    current.require()


def test_a_clock_that_jumps_ends_no_round(tmp_path: Path) -> None:
    """Over the deadline, and then a year back: held each time, models taken, and gone on with when the clock is right."""
    study = tiny_study(deadline='deadline = "2100-01-01T00:00:00Z"', quorum=1)
    current = FaultyRound(tmp_path, study)
    assert current.init().code == 0
    assert current.serve("kill:1:committed intake.Intake._open").died
    for ahead in (timedelta(days=365 * 100), timedelta(days=-365)):
        server = current.serve(ahead=ahead, nodes=1)
        assert server.code == 0 and "WARNING held" in server.said
        assert status(current.home)["state"] == "open"
    assert current.serve().code == 0
    current.require()

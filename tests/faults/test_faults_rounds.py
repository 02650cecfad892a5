"""`add` that is killed, or finds no room, at any step at which it changes something on disk: the round is whole, or there is none."""

from __future__ import annotations

from pathlib import Path

from coordinator_client import FakeNode, InProcess, ledger_kinds, make_home, tiny_study
from epgfn_coordinator.home import Home
from epgfn_coordinator.rounds import further
from epgfn_coordinator.status import status
from forks import COORDINATOR, Fork


def added(home: Home, study: Path, name: str, failpoint: str = "", log: Path | None = None) -> Fork:
    arguments = ["add", "--home", str(home.root), "--study", str(study), "--name", name]
    done = Fork(COORDINATOR, arguments, home.root.parent / "add", failpoint, log)
    done.end()
    return done


def test_a_round_is_added_whole_or_not_at_all(tmp_path: Path) -> None:
    home, file, log = make_home(tmp_path / "home", tiny_study()), tmp_path / "study.toml", tmp_path / "steps"
    file.write_bytes(tiny_study().raw)
    with InProcess(home):
        FakeNode.enrolled(home, "a")
    assert added(home, file, "first-one", log=log).code == 0
    steps = [step for step in dict.fromkeys(log.read_text().splitlines()) if not step.startswith("remove")]
    assert {"rename rounds/first-one", "renamed rounds/first-one", "committed people._enrol"} <= set(steps)
    for number, step in enumerate(steps):
        before = len(further(home))
        name = f"round-{chr(103 + number // 20)}{chr(103 + number % 20)}"  # digits are left out of the names of steps
        step = step.replace("first-one", name)
        killed = added(home, file, name, f"kill:1:{step}")
        assert killed.died, (step, killed.said)
        assert len(further(home)) - before in (0, 1)
        full = (
            added(home, file, name, f"full:1:{step}")
            if step.startswith(("write", "commit ", "rename "))
            else None
        )
        assert full is None or full.code == 0 or "free some space" in full.said, (step, full and full.said)
        assert added(home, file, name).code == 0, step
        assert len(further(home)) == before + 1
        made = home.further(name)
        assert ledger_kinds(made) == ["study", "round", "state", "enrolled"], step
        assert status(made)["enrolled"] == ["a"] and status(made)["round_key"] == "kept"
    assert not list(home.rounds.glob(".*"))
    with InProcess(home) as server:
        assert not [event for event in server.events.seen if event["phase"] == "round-unavailable"]

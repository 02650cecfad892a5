"""A letter that is received by a coordinator which is killed at a step, and received again: from copies of one enrolled node and its
coordinator, so that nothing is trained twice."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from coordinator_client import ledger_kinds
from epgfn.study import Study
from epgfn_coordinator.home import Home
from forks import COORDINATOR, Fork
from parties import CoordinatorProcess, Node, require_receipt


class FaultyLetters:
    """The node "north" has a model that may leave, and has written the letter that sends it; its coordinator needs nobody else."""

    def __init__(self, folder: Path, study: Study, data: Path) -> None:
        self._folder = folder
        alone = study.with_changes({"aggregation": {"quorum": 1, "close_when": "quorum"}})
        folder.mkdir(parents=True)
        (folder / "study.toml").write_bytes(alone.raw)
        coordinator = CoordinatorProcess(folder / "whole/coordinator", folder / "study.toml")
        settings = coordinator.home / "coordinator.toml"
        ports = settings.read_text().replace("127.0.0.1:0", "127.0.0.1:50201", 1)
        settings.write_text(ports.replace("127.0.0.1:0", "127.0.0.1:50202"))
        node = Node(folder / "whole/north")
        node.ok("init")
        invitation = coordinator.invite("north", folder / "north.json")
        node.ok("enroll", "--invite", str(invitation), "--to-file", str(folder / "enrol"))
        coordinator.command("receive", str(folder / "enrol"), "--out", str(folder / "enrolled"))
        node.ok("receive", str(folder / "enrolled"))
        node.train(data, alone).ok("approve")
        node.ok("submit", "--to-file", str(folder / "whole/letter"))

    def steps(self) -> dict[str, int]:
        """Every step at which the coordinator changes something on disk when it receives the letter, and how often each comes."""
        log = self._folder / "steps.log"
        place = self._copy("steps")
        assert self._receive(place, log=log).code == 0
        self._require(place)
        return dict(Counter(log.read_text().splitlines()))

    def kill_at(self, steps: Iterable[str]) -> None:
        """Kill it once at each step, have the letter received again, and check what comes of it."""
        for number, step in enumerate(steps):
            place = self._copy(str(number))
            assert self._receive(place, f"kill:1:{step}").died, step
            assert self._receive(place).code == 0, step
            self._require(place)
            shutil.rmtree(place)

    def _copy(self, name: str) -> Path:
        return Path(shutil.copytree(self._folder / "whole", self._folder / name))

    def _receive(self, place: Path, failpoint: str = "", log: Path | None = None) -> Fork:
        options = ["--home", str(place / "coordinator"), "--out", str(place / "out" / "reply")]
        running = Fork(
            COORDINATOR, ["receive", str(place / "letter"), *options], place / "run", failpoint, log
        )
        running.end()
        return running

    def _require(self, place: Path) -> None:
        """It was accepted once, and the node has the receipt; a third time the same letter gets the same."""
        node, home = Node(place / "north"), Home(place / "coordinator")
        assert self._receive(place).code == 0
        node.ok("receive", str(place / "out" / "reply"))
        require_receipt(node)
        kinds = ledger_kinds(home)
        assert (kinds.count("accepted"), kinds.count("refused")) == (1, 0), kinds

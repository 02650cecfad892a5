"""A round between hosts of one machine, each in a network namespace of its own, that lose each other while models are under way."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from coordinator_client import FakeNode, tiny_study
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.initialise import initialise
from epgfn_coordinator.status import status
from namespaces import Network
from promises import History

COORDINATOR: Final = "coordinator"
PATIENCE: Final = 300.0  # seconds for whatever is waited for: the machine may be busy
STUDY: Final = tiny_study(hidden=100, limit=16 << 20)


class PartedRound:
    """A coordinator and the nodes of STUDY. Use as a context manager; `part` hosts as you like, then `require`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.network = folder, Network([COORDINATOR, *STUDY.roster])
        self.home = Home(folder / "home")

    def __enter__(self) -> Self:
        address = self.network.address[COORDINATOR]
        initialise(self.home, STUDY, Config(f"{address}:50051", f"{address}:50052"))
        self.network.__enter__()
        try:
            self._start()
        except BaseException:
            self.network.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.network.__exit__(kind, error, trace)

    def _start(self) -> None:
        self.serving = self.network.start(
            COORDINATOR,
            [sys.executable, "-m", "epgfn_coordinator", "serve", "--home", str(self.home.root), "--events"],
            self._out(COORDINATOR),
        )
        self._wait(COORDINATOR, lambda each: each["phase"] == "serving")
        study = self.folder / "study.toml"
        study.write_bytes(STUDY.raw)
        here = str(Path(__file__).parent)
        for name in STUDY.roster:
            invitation = self.folder / f"{name}.json"
            invitation.write_text(json.dumps(FakeNode.invited(self.home, name).invitation))
            program = str(Path(here) / "parted_node.py")
            arguments = [name, str(invitation), str(study), str(self.folder / f"node-{name}")]
            self.network.start(
                name, [sys.executable, program, *arguments], self._out(name), PYTHONPATH=":".join(sys.path)
            )

    def sent(self, name: str, share: float) -> None:
        """Wait until this node has sent so much of its model."""
        self._wait(name, lambda each: each["phase"] == "uploading" and each["step"] >= share * each["steps"])

    def part(self, host: str, seconds: float) -> bool:
        """Cut it off for so long; meanwhile nothing comes in if it is the coordinator. Whether models were under way."""
        self.network.cut(host)
        time.sleep(0.5)  # what was on its way has arrived or is lost
        before, until = self._kept(), time.monotonic() + seconds
        while time.monotonic() < until:
            assert host != COORDINATOR or self._kept() == before, "the partition has a hole"
            time.sleep(0.1)
        self.network.heal(host)
        return bool(before)

    def _kept(self) -> list[tuple[str, int]]:
        return sorted((path.name, path.stat().st_size) for path in self.home.uploads.glob("*.part"))

    def require(self) -> None:
        """Both get their receipt, the result is published, and nothing that anybody was told is wrong."""
        history = History()
        for name in STUDY.roster:
            said = self._wait(name, lambda each: each["phase"] == "accepted")
            told = {
                key: bytes.fromhex(said[key]) for key in ("certificate", "sealed", "receipt", "entry", "seen")
            }
            history.enrolled(name, told["certificate"])
            history.accepted(name, told["sealed"], told["receipt"], told["entry"])
            history.saw(told["seen"])
        self._wait(COORDINATOR, lambda each: each["phase"] == "published")
        until = time.monotonic() + PATIENCE
        while status(self.home)["round_key"] != "destroyed" and time.monotonic() < until:
            time.sleep(0.05)
        self.serving.terminate()
        self.serving.wait(PATIENCE)
        history.require(self.home, self.folder / "run", list(STUDY.roster))

    def _out(self, host: str) -> Path:
        return self.folder / f"{host}.out"

    def _wait(self, host: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first event of a host that is wanted, now or later."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            text = self._out(host).read_text()
            for line in text.split("\n")[:-1]:
                if line.startswith("{") and wanted(event := json.loads(line)):
                    return dict(event)
            assert "Traceback" not in text, text
            time.sleep(0.05)
        raise AssertionError(f"{host} does not get on: {text}")

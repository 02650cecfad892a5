"""A round of small nodes at a coordinator that dies, or finds no room, wherever it is told to, and is started again."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from coordinator_client import FakeNode, Upload
from epgfn.base.errors import EpgfnError
from epgfn.study import Study
from epgfn_coordinator.home import Home
from epgfn_coordinator.status import status
from forks import COORDINATOR, Fork
from promises import History

PIECE = 1 << 15
NO_ROOM = ("no-space", "internal")
"""Reasons that a client is told while the disk is full."""


class FaultyRound:
    """One round in `folder`. `init` and `serve` until `is_over`, then `require`."""

    def __init__(self, folder: Path, study: Study) -> None:
        self.folder, self.study = folder, study
        self.home, self.history = Home(folder / "home"), History()
        self._nodes: dict[str, FakeNode] = {}
        self._uploads: dict[str, Upload] = {}
        (folder / "study.toml").parent.mkdir(parents=True, exist_ok=True)
        (folder / "study.toml").write_bytes(study.raw)

    @property
    def is_over(self) -> bool:
        """Whether there is a global model."""
        return status(self.home)["state"] == "published"

    def init(self, failpoint: str = "", log: Path | None = None) -> Fork:
        """Make the coordinator, or die at it."""
        loopback = ["--address", "127.0.0.1:0", "--enroll-address", "127.0.0.1:0"]
        arguments = [
            "init",
            "--study",
            str(self.folder / "study.toml"),
            "--home",
            str(self.home.root),
            *loopback,
        ]
        fork = Fork(COORDINATOR, arguments, self.folder / "init", failpoint, log)
        fork.end()
        return fork

    def serve(
        self,
        failpoint: str = "",
        log: Path | None = None,
        ahead: timedelta = timedelta(0),
        options: Sequence[str] = (),
        nodes: int | None = None,
    ) -> Fork:
        """Start serving, have every node (or the first `nodes`) go on with what it has to do, and see how that ends: with the death of
        the process, with the end of the round, or where it is held or there is no room any more."""
        arguments = ["serve", "--home", str(self.home.root), "--events", *options]
        server = Fork(COORDINATOR, arguments, self.folder / "serve", failpoint, log, ahead)
        serving = server.wait_for("serving")
        if serving is not None:
            try:
                for number, node_id in enumerate(self.study.roster[:nodes]):
                    self._go_on(node_id, number, serving["address"], serving["enroll_address"])
                if self.is_over or server.wait_for("published", "held", "no-room") is not None:
                    server.stop()
                    return server
            except EpgfnError as error:
                # It is dying, or says that there is no room; anything else is a promise broken.
                if getattr(error, "reason", "") in NO_ROOM:
                    server.stop()
                    return server
                until = time.monotonic() + 30
                while server.code is None and time.monotonic() < until:
                    time.sleep(0.02)
                assert server.code is not None, error
        server.end()
        return server

    def _go_on(self, node_id: str, number: int, address: str, enroll_address: str) -> None:
        """What is left to do for one node, told to the history as it happens."""
        if node_id not in self._nodes:
            self._nodes[node_id] = FakeNode.invited(self.home, node_id)
        node = self._nodes[node_id]
        node.invitation.update(address=address, enroll_address=enroll_address)
        self.history.enrolled(node_id, node.enroll())
        if node_id not in self._uploads:
            self._uploads[node_id] = node.make_upload(self.study, seed=number)
        upload = self._uploads[node_id]
        self.history.saw(bytes(node.checkpoint().checkpoint))
        begun = node.begin(upload.bundle)
        if not begun.accepted:
            self.history.has_kept(node_id, begun.offset)
            for start in range(begun.offset, len(upload.sealed), PIECE):
                piece = upload.sealed[start : start + PIECE]
                kept = node.upload(begun.upload_id, piece, start, size=PIECE)
                self.history.has_kept(node_id, kept.offset)
        answer = node.committed(begun.upload_id)
        self.history.accepted(node_id, upload.sealed, bytes(answer.receipt), bytes(answer.entry))
        self.history.saw(bytes(node.checkpoint().checkpoint))

    def require(self) -> bytes:
        """What every client was told is true; the digest of the global model."""
        server = self.serve()  # and whoever asks again is told the same
        assert server.code == 0
        return self.history.require(self.home, self.folder / "run", self.study.roster)


def steps_of_a_round(folder: Path, study: Study) -> dict[str, int]:
    """Every step at which the coordinator changes something on disk, in the order in which they come first, and how often each comes."""
    current, log = FaultyRound(folder, study), folder / "steps"
    assert current.init(log=log).code == 0 and current.serve(log=log).code == 0
    current.require()
    return dict(Counter(log.read_text().splitlines()))


class Sweep:
    """Rounds in `folder`, one after the other, whose coordinator is killed at every step. `kills` counts them by step; `results` holds
    the digests of the global models."""

    def __init__(self, folder: Path, study: Study) -> None:
        self._folder, self._study, self._rounds = folder, study, 0
        self._current: FaultyRound | None = None
        self._initialised = False
        self.kills: dict[str, int] = {}
        self.results: set[bytes] = set()

    def over(self, steps: dict[str, int], chance: random.Random | None = None) -> None:
        """Kill it once at each of `steps`; with `chance`, at the first or second time that it comes there, if it does more than once."""
        for step, often in steps.items():
            times = chance.randint(1, min(often, 2)) if chance else 1
            assert self._killed(f"kill:{times}:{step}") or self._killed(f"kill:1:{step}"), step
            self.kills[step] = self.kills.get(step, 0) + 1
        self.finish()

    def _killed(self, failpoint: str) -> bool:
        """Kill it there, in this round or in the next."""
        return any(self._dies(failpoint) for _ in range(2))

    def _dies(self, failpoint: str) -> bool:
        for server in self._go_on(failpoint):
            if server.died:
                return True
            assert server.code == 0, server.said
        self.finish()
        return False

    def _go_on(self, failpoint: str) -> Iterator[Fork]:
        if self._current is None:
            self._rounds += 1
            self._current, self._initialised = (
                FaultyRound(self._folder / str(self._rounds), self._study),
                False,
            )
        if not self._initialised:
            yield (made := self._current.init(failpoint))
            self._initialised = made.code == 0
        yield self._current.serve(failpoint)

    def finish(self) -> None:
        """Let the round that is under way come to its end, and check it."""
        if self._current is None:
            return
        if not self._initialised:
            assert self._current.init().code == 0
        if not self._current.is_over:
            assert self._current.serve().code == 0
        self.results.add(self._current.require())
        self._current = None

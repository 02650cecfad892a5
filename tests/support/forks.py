"""Commands as real processes that can be killed, each forked from one that has loaded everything: that saves the seconds of loading."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from epgfn.base import failpoints

COORDINATOR, NODE = "epgfn_coordinator.cli", "epgfn_node.cli"
_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(
    ["epgfn_coordinator.cli", "epgfn_coordinator.main_loop", "epgfn_coordinator.publication", "epgfn_node.cli", "epgfn_node.pipeline",
     "epgfn.learn.local", "epgfn.learn.trust", "epgfn.learn.model", "epgfn.study.records.tables", "pyarrow.parquet"]
)  # fmt: skip


class Fork:
    """One command, running. `failpoint`, as in `epgfn.base.failpoints`, says where it dies or finds no room; `log` is a file for the
    names of the steps it comes to; its coordinator's clock is `ahead` of ours."""

    def __init__(
        self,
        program: str,
        arguments: Sequence[str],
        folder: Path,
        failpoint: str = "",
        log: Path | None = None,
        ahead: timedelta = timedelta(0),
        **others: str,
    ) -> None:
        """`others`: of the environment."""
        folder.mkdir(parents=True, exist_ok=True)
        self.command = arguments[0]
        self._out, self._err = folder / "stdout", folder / "stderr"
        self._read = 0
        for path in (self._out, self._err):
            path.write_bytes(b"")
        environment = {
            failpoints.WANTED: failpoint,
            failpoints.LOG: "" if log is None else str(log),
            **others,
        }
        self._process = _FORKING.Process(
            target=_run, args=(program, list(arguments), str(self._out), str(self._err), environment, ahead)
        )
        self._process.start()

    @property
    def code(self) -> int | None:
        """Its exit code, -9 if it was killed; None while it runs."""
        return self._process.exitcode

    @property
    def died(self) -> bool:
        """Whether it came to its failpoint and was killed there."""
        return self.code == -signal.SIGKILL

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        return self._err.read_text()

    def end(self, timeout: float = 120.0) -> int:
        """Its exit code, once it has ended by itself."""
        self._process.join(timeout)
        assert self.code is not None, f"{self.command} does not end"
        assert "Traceback" not in self.said, self.said
        return self.code

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        self._process.terminate()
        return self.end()

    def kill(self) -> None:
        """As by a power cut, wherever it is."""
        self._process.kill()
        self._process.join()

    def wait_for(self, *phases: str, timeout: float = 120.0) -> dict[str, Any] | None:
        """The next event of one of these phases; None if it ended first."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            ended = self.code is not None
            lines = self._out.read_bytes().split(b"\n")[:-1]
            while self._read < len(lines):
                event: dict[str, Any] = json.loads(lines[self._read])
                self._read += 1
                if event["phase"] in phases:
                    return event
            if ended:
                return None
            time.sleep(0.02)
        raise AssertionError(f"{self.command} does not get to {phases}: {self.said}")


def _run(
    program: str, arguments: list[str], out: str, err: str, environment: dict[str, str], ahead: timedelta
) -> None:
    os.environ.update(environment)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    sys.argv = [program, *arguments]
    failpoints.arm()
    if ahead:
        from epgfn_coordinator import clock

        right = clock.now
        clock.now = lambda: right() + ahead  # type: ignore[assignment]
    importlib.import_module(program).main()

"""`epgfn bench speed`: trajectories per CPU-second of training, ours and other libraries', each in a process of its own.

All libraries do the same task with the same batch, network, loss and learning rates, one thread each. They take turns in
short blocks, so that whatever else the machine does meets all of them alike, and never two at once.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from epgfn.base.errors import EpgfnError, UsageError

OURS, OURS_PLAIN = "epgfn", "epgfn-tb"
"""This library with its default objective, and with the plain trajectory balance that the peers have."""
PEERS = {"torchgfn": "torchgfn_hypergrid.py", "gfnx": "gfnx_hypergrid.py"}
PEERS_BY_EDGES = {"torchgfn": "torchgfn_dag.py"}
WARM_UP = 10
"""Steps before the clock starts; they count as training."""
BLOCKS = 8


class SpeedInstance(NamedTuple):
    """`steps` after which models are compared; `shape` is what peers are told, where they can do it too: (dimensions, side) of a grid, or
    (variables,) of graphs built edge by edge."""

    steps: int
    batch: int
    shape: tuple[int, ...] | None

    @property
    def scripts(self) -> Mapping[str, str]:
        """Of the peers that can do it."""
        return {} if self.shape is None else PEERS if len(self.shape) == 2 else PEERS_BY_EDGES


INSTANCES = {
    "grid-2x12": SpeedInstance(400, 128, (2, 12)),
    "grid-4x8": SpeedInstance(400, 128, (4, 8)),
    "grid-6x8": SpeedInstance(400, 128, (6, 8)),
    "grid-8x16": SpeedInstance(400, 128, (8, 16)),
    "dag-10-edges": SpeedInstance(400, 128, (10,)),
    "dag-5-bge": SpeedInstance(800, 256, None),
}


def speed(
    only: Sequence[str] = (),
    *,
    seeds: int = 3,
    budget: float = 20.0,
    peers: Mapping[str, str] | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """One row an instance and library, ours first.

    Args:
        only: names from `INSTANCES`; none for all. seeds: runs of each, with seeds 1 to `seeds`.
        budget: CPU-seconds that one run of one library may train; fewer steps are taken where they would not do.
        peers: Python interpreters by name of the library they can import: `torchgfn`, `gfnx`.
        on_row: called with each row as soon as it is there.

    Returns:
        rows with `instance, library, seeds, steps, batch`; `trajectories_per_cpu_s` (median over blocks of all seeds) and `slowest` and
        `fastest` of the blocks; `ratio` (ours over that library's) with `least_ratio` and `largest_ratio` over the turns in which each
        did a block; beside peers `ratio_tb`, the same of ours with the peers' loss; `peak_rss_mb` (the largest); after the same number of
        steps (medians over seeds) `l1`, None where objects are too many to be listed, and beside peers `loss`, plain trajectory balance
        of fresh trajectories (nats squared); and `cpu_s` (of all timed blocks). Ours also `share_matmul` and `shares` of CPU time, and
        for DAGs `exact_s`, medians over seeds. Graphs are trained anew in each block, so their `steps` and `l1` are of one block.

    Raises:
        UsageError: an instance or a library that is not there, no seeds, no budget. EpgfnError: a library's process failed.
    """
    peers = dict(peers or {})
    for name in only:
        if name not in INSTANCES:
            raise UsageError(f"there is no instance {name!r}; choose one of {', '.join(INSTANCES)}")
    for library in peers:
        if library not in PEERS:
            raise UsageError(f"there is no peer {library!r}; choose one of {', '.join(PEERS)}")
    if seeds < 1 or not (budget > 0 and math.isfinite(budget)):
        raise UsageError("a benchmark needs at least one seed and a budget above zero")
    rows = []
    for name in only or INSTANCES:
        for row in _rows(name, INSTANCES[name], seeds, budget, peers):
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


def peers_of(options: Sequence[str]) -> dict[str, str]:
    """`LIBRARY=PYTHON` options as a mapping.

    Raises:
        UsageError: an option is something else, or a library is named twice.
    """
    peers: dict[str, str] = {}
    for option in options:
        library, _, python = option.partition("=")
        if not library or not python:
            raise UsageError(f"--peer {option} is not LIBRARY=PYTHON; write torchgfn=/path/to/python")
        if library in peers:
            raise UsageError(f"--peer names {library} twice; give one Python for each library")
        peers[library] = python
    return peers


class _Run(NamedTuple):
    """One library, one seed: CPU-seconds a step in each block, steps of a block, and the last words of the process."""

    cost: list[float]
    block: int
    cpu_s: float
    said: dict[str, Any]


def _rows(
    name: str, instance: SpeedInstance, seeds: int, budget: float, peers: Mapping[str, str]
) -> list[dict[str, Any]]:
    able = [library for library in peers if library in instance.scripts]
    libraries = [OURS, *((OURS_PLAIN, *able) if instance.shape else ())]
    runs: dict[str, list[_Run]] = {library: [] for library in libraries}
    for seed in range(1, seeds + 1):
        commands = {library: _command(name, instance, library, seed, peers) for library in libraries}
        for library, run in _together(commands, instance.steps, budget).items():
            runs[library].append(run)
    return [_row(name, instance, library, runs) for library in libraries]


def _command(
    name: str, instance: SpeedInstance, library: str, seed: int, peers: Mapping[str, str]
) -> list[str]:
    if library in (OURS, OURS_PLAIN) or instance.shape is None:
        return [sys.executable, "-m", "epgfn.bench.speed_worker", name, str(seed), library]
    script = Path(__file__).parent / "peers" / instance.scripts[library]
    return [peers[library], str(script), *map(str, instance.shape), str(instance.batch), str(seed)]


def _together(commands: Mapping[str, list[str]], most_steps: int, budget: float) -> dict[str, _Run]:
    """One run of each library, block by block in turn."""
    workers: dict[str, _Worker] = {}
    try:
        warm = {}
        for library, command in reversed(list(commands.items())):  # a peer that fails should fail at once
            workers[library] = _Worker(library, command)
            warm[library] = workers[library].train(WARM_UP)
        affordable = int(budget / (max(warm.values()) / WARM_UP))
        block = max(1, min(most_steps, affordable) // BLOCKS)
        spent: dict[str, list[float]] = {library: [] for library in workers}
        for _ in range(BLOCKS):
            for library, worker in workers.items():
                spent[library].append(worker.train(block))
        return {
            library: _Run(
                [seconds / block for seconds in spent[library]],
                block,
                sum(spent[library]),
                worker.end(),
            )
            for library, worker in workers.items()
        }
    finally:
        for worker in workers.values():
            worker.close()


class _Worker:
    """A process that trains on command; see `epgfn.bench.peers.blocks`."""

    def __init__(self, library: str, command: list[str]) -> None:
        self.library = library
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env={**os.environ, **one_thread},
            )
        except OSError as error:
            self._errors.close()
            message = (
                f"the Python for {library}, {command[0]}, cannot be started ({error.strerror}); "
                f"give the path of one that can import {library}"
            )
            raise EpgfnError(message) from None
        self._heard()

    def train(self, steps: int) -> float:
        """CPU-seconds of that many steps."""
        self._tell(str(steps))
        return float(self._heard()["cpu_s"])

    def end(self) -> dict[str, Any]:
        """Its last words."""
        self._tell("end")
        return {**self._heard(), **self._heard()}

    def close(self) -> None:
        """The process is gone afterwards."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed() from None

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # a library may print words of its own
                said: dict[str, Any] = json.loads(line)
                return said
        raise self._failed()

    def _failed(self) -> EpgfnError:
        self._process.wait()
        self._errors.seek(0)
        last = (self._errors.read().strip().splitlines() or ["it said nothing"])[-1][:300]
        return EpgfnError(
            f"{self.library} failed in its process: {last}; see docs/speed.md for the versions that were tried"
        )


def _throughputs(runs: list[_Run], batch: int) -> list[float]:
    """Of each block, in the order of turns."""
    return [batch / cost for run in runs for cost in run.cost]


def _row(name: str, instance: SpeedInstance, library: str, runs: Mapping[str, list[_Run]]) -> dict[str, Any]:
    speeds = {key: _throughputs(of, instance.batch) for key, of in runs.items()}
    theirs, turns = statistics.median(speeds[library]), zip(speeds[OURS], speeds[library], strict=True)
    ratios = [our / their for our, their in turns]
    said, block = [run.said for run in runs[library]], min(run.block for run in runs[library])
    row = {
        "instance": name,
        "library": library,
        "seeds": len(runs[library]),
        "steps": block if instance.shape is None else WARM_UP + BLOCKS * block,  # graphs begin anew
        "batch": instance.batch,
        "trajectories_per_cpu_s": theirs,
        "slowest": min(speeds[library]),
        "fastest": max(speeds[library]),
        "ratio": statistics.median(speeds[OURS]) / theirs,
        "least_ratio": min(ratios),
        "largest_ratio": max(ratios),
        "peak_rss_mb": max(words["peak_rss_mb"] for words in said),
        "l1": None if said[0]["l1"] is None else statistics.median(words["l1"] for words in said),
        "cpu_s": sum(run.cpu_s for run in runs[library]),
    }
    if instance.shape is not None:
        row["ratio_tb"] = statistics.median(speeds[OURS_PLAIN]) / theirs
        row["loss"] = statistics.median(words["loss"] for words in said)
    if library in (OURS, OURS_PLAIN):
        row["share_matmul"] = statistics.median(words["share_matmul"] for words in said)
        row["shares"] = {
            kind: statistics.median(words["shares"][kind] for words in said) for kind in said[0]["shares"]
        }
        if "exact_s" in said[0]:
            row["exact_s"] = statistics.median(words["exact_s"] for words in said)
    return row

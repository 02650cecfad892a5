"""A whole study on one machine: the real coordinator and the real nodes as processes of their own, over real mTLS.

The one module of the library that starts processes. It does what the parties would do by hand, with the same commands, and
each party keeps to its own folder; only because all of them happen to be on this machine can the result be compared
with the exact posterior at the end.

    result = simulate(study, {"clinic-a": Path("a.csv"), ...}, Path("runs/mine"), view)

`out` becomes the run directory; the parties' private folders lie beside it in `<out>.parties/`.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from epgfn.base.console import STOPPING
from epgfn.base.errors import EpgfnError, UsageError
from epgfn.base.files import write_atomic
from epgfn.base.passphrase import key_passphrase
from epgfn.demo.view import View
from epgfn.run.cosigning import add_cosignatures
from epgfn.sealing.keys import SigningKey
from epgfn.study import Study
from epgfn.study.study import STUDY_NAME

COORDINATOR = "coordinator"
START_TIMEOUT = 120.0  # seconds for the coordinator to say that it serves
STOP_TIMEOUT = 20.0


@dataclass(frozen=True)
class Simulation:
    """Where everything is after a run. `homes` maps each node to its private folder, `pids` each party to its process."""

    run_dir: Path
    coordinator_home: Path
    homes: dict[str, Path]
    pids: dict[str, int]
    duration: float  # seconds


class _Party:
    """One process: its JSON events go to a queue, its log to a file that errors point to."""

    def __init__(
        self, name: str, command: list[str], log: Path, events: queue.Queue[tuple[str, Any]]
    ) -> None:
        self.name, self.log, self._events = name, log, events
        self._sink: IO[bytes] = log.open("wb")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._sink, env=environment
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                self._events.put((self.name, json.loads(line)))
            except ValueError:
                continue
        self._events.put((self.name, self.process.wait()))

    def why(self) -> str:
        """The last line of its log, for the error that names it."""
        self._sink.flush()
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no message"

    def ask_to_stop(self) -> None:
        """Without waiting for it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        self.ask_to_stop()
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._sink.close()


def simulate(
    study: Study, data: Mapping[str, Path], out: Path, view: View, accept_warnings: bool = False
) -> Simulation:
    """Run `study` with one data file a node and export the run directory to `out`.

    Raises:
        UsageError: files and roster do not match, or `out` is not empty.
        EpgfnError: a party failed; the sentence is that party's own and names its log.
    """
    if not set(study.named) <= set(data) <= set(study.roster):
        raise UsageError(
            f"the study's roster names {len(study.roster)} nodes but {len(data)} data files were given; give one per node"
        )
    parties_dir = out.with_name(out.name + ".parties")
    for folder in (out, parties_dir):
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty; choose another folder with --out")
    started = time.monotonic()
    parties_dir.mkdir(parents=True, exist_ok=True)
    study_file = parties_dir / STUDY_NAME
    write_atomic(study_file, study.raw)
    home = parties_dir / COORDINATOR
    # Places of an open roster first: the round waits for them only once they are invited.
    nodes = sorted(data, key=lambda node: (node not in study.added, study.roster.index(node)))
    homes = {node: parties_dir / node for node in nodes}
    events: queue.Queue[tuple[str, Any]] = queue.Queue()
    parties: dict[str, _Party] = {}
    loopback = ["--address", "127.0.0.1:0", "--enroll-address", "127.0.0.1:0"]
    try:
        _call("epgfn_coordinator", "init", "--home", str(home), "--study", str(study_file), *loopback)
        parties[COORDINATOR] = _Party(
            COORDINATOR, ["epgfn_coordinator", "serve", "--home", str(home), "--events"], parties_dir / "coordinator.log", events
        )  # fmt: skip
        view.event(COORDINATOR, {"phase": "starting", "pid": parties[COORDINATOR].process.pid})
        _wait_until_serving(parties[COORDINATOR], events, view)
        for node in nodes:
            invitation = parties_dir / f"{node}.invitation.json"
            _call("epgfn_coordinator", "token", node, "--home", str(home), "--out", str(invitation))
            command = [
                "epgfn_node",
                "run",
                "--home",
                str(homes[node]),
                "--invite",
                str(invitation),
                "--data",
                str(data[node].resolve()),
            ]
            command += ["--accept-study", study.digest, "--approve-automatically", "--events"]
            # Nothing leaves this machine here.
            command += ["--accept-small-counts", "--accept-statistic"]
            if accept_warnings:
                command.append("--accept-warnings")
            if (
                study.privacy.epsilon is not None
            ):  # each node of a simulation spends what this one study asks for
                command += ["--privacy-budget", str(study.privacy.epsilon)]
                # Its people are none of this account's, and not those of the other nodes.
                homes[node].mkdir(mode=0o700)
                (homes[node] / "node.toml").write_text('privacy_ledger = "privacy"\n')
            parties[node] = _Party(node, command, parties_dir / f"{node}.log", events)
            view.event(node, {"phase": "starting", "pid": parties[node].process.pid})
        _follow(parties, events, view)
        pids = {name: party.process.pid for name, party in parties.items()}
        parties[COORDINATOR].stop()
    finally:
        with _nothing_interrupts():  # who asks twice that this ends must not leave processes behind
            for party in parties.values():
                party.ask_to_stop()
            for party in parties.values():
                party.stop()
    _call("epgfn_coordinator", "export", "--home", str(home), "--out", str(out))
    if study.ledger.witnesses:
        signed = {node: parties_dir / f"{node}.cosignature.json" for node in homes}
        for node, file in signed.items():
            _call("epgfn_node", "cosign", str(out), "--home", str(homes[node]), "--out", str(file))
        add_cosignatures(out, list(signed.values()))
    return Simulation(out, home, homes, pids, time.monotonic() - started)


@contextmanager
def _nothing_interrupts() -> Iterator[None]:
    """Within, the signals that end a command are passed over; outside the main thread none come."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def coordinator_key(simulation: Simulation) -> SigningKey:
    """The simulated coordinator's signing key: what a simulation adds to the run directory is signed, too.

    Raises:
        EpgfnError: it is not there, or its passphrase is another.
    """
    path = simulation.coordinator_home / "keys" / "signing.key"
    return SigningKey.load(path, key_passphrase(path))


def _call(*command: str) -> None:
    """Run one short command of a party to its end."""
    done = subprocess.run(
        [sys.executable, "-m", *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise EpgfnError(f"{command[0]} {command[1]} failed: {lines[-1]}")


def _wait_until_serving(coordinator: _Party, events: queue.Queue[tuple[str, Any]], view: View) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        try:
            name, event = events.get(timeout=1.0)
        except queue.Empty:
            continue
        if isinstance(event, int):
            raise EpgfnError(f"the coordinator stopped: {coordinator.why()} (log: {coordinator.log})")
        view.event(name, event)
        if event["phase"] == "serving":
            return
    raise EpgfnError(
        f"the coordinator did not start within {START_TIMEOUT:.0f} s; its log is {coordinator.log}"
    )


def _follow(parties: dict[str, _Party], events: queue.Queue[tuple[str, Any]], view: View) -> None:
    """Show events until every node has ended well; the first party that fails ends the run."""
    running = set(parties) - {COORDINATOR}
    while running:
        name, event = events.get()
        if isinstance(event, int):
            if event != 0 or name == COORDINATOR:
                raise EpgfnError(f"{name} stopped: {parties[name].why()} (log: {parties[name].log})")
            running.discard(name)
        else:
            view.event(name, event)
            stuck = event["phase"] == "waiting" and name == COORDINATOR  # for its operator, who is not here
            if event["phase"] == "failed" or stuck:
                raise EpgfnError(f"{name}: {event.get('message', 'failed')} (log: {parties[name].log})")

"""A simulation that is asked to end leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from small import SMALL_STUDY

LONG = SMALL_STUDY.replace("steps = 12", "steps = 1000000").replace('["north", "south"]', '["north"]')
ENDS_WITHIN = 60.0
"""Generous: what is measured on an idle machine is about two seconds."""


def children(pid: int) -> list[int]:
    """Processes whose parent it is."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(word) for word in found.split()]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _hears_hangups() -> None:
    """Whatever started the tests: under `nohup` the signal is ignored by all its children."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="ps --ppid is Linux's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_all_parties_end_with_the_simulation(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "study.toml").write_text(LONG)
    rows = [f"{i % 7 - 3},{i * 2 % 5 - 2},{i * i % 11 - 5}" for i in range(40)]
    records = tmp_path / "records.csv"
    records.write_text("\n".join(["a,b,c", *rows, ""]))
    command = ["-m", "epgfn.cli.main", "simulate", str(tmp_path / "study.toml"), "--data", str(records)]
    with subprocess.Popen(
        [sys.executable, *command, "--out", str(tmp_path / "run"), "--accept-warnings"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_hears_hangups,
    ) as simulation:
        assert simulation.stderr is not None
        said = []
        for line in simulation.stderr:
            said.append(line)
            if "training on its own records" in line:
                break
        parties = children(simulation.pid)
        assert len(parties) == 2, said
        simulation.send_signal(number)
        rest = simulation.stderr.read()
        simulation.wait(ENDS_WITHIN)
    assert simulation.returncode == 130 and "interrupted" in rest and "Traceback" not in rest
    end = time.monotonic() + ENDS_WITHIN
    while any(map(is_alive, parties)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [pid for pid in parties if is_alive(pid)]

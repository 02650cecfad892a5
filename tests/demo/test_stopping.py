"""A simulation that is asked to end leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ready
from small import SMALL_STUDY

LONG = SMALL_STUDY.replace("steps = 12", "steps = 1000000").replace('["north", "south"]', '["north"]')
ENDS_WITHIN = 60.0
"""Generous: what is measured on an idle machine is about two seconds."""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc").is_dir(), reason="asks the system for a process's children as Linux has it"
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_all_parties_end_with_the_simulation(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "study.toml").write_text(LONG)
    rows = [f"{i % 7 - 3},{i * 2 % 5 - 2},{i * i % 11 - 5}" for i in range(40)]
    records = tmp_path / "records.csv"
    records.write_text("\n".join(["a,b,c", *rows, ""]))
    command = ["-m", "epgfn.cli.main", "simulate", str(tmp_path / "study.toml"), "--data", str(records)]
    with ready.Popen(
        [sys.executable, *command, "--out", str(tmp_path / "run"), "--accept-warnings"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as simulation:
        assert simulation.stderr is not None
        said = []
        for line in simulation.stderr:
            said.append(line)
            if "training on its own records" in line:
                break
        parties = ready.children(simulation.pid)
        assert len(parties) == 2, said
        simulation.send_signal(number)
        rest = simulation.stderr.read()
        simulation.wait(ENDS_WITHIN)
    assert simulation.returncode == 130 and "interrupted" in rest and "Traceback" not in rest
    end = time.monotonic() + ENDS_WITHIN
    while any(map(is_alive, parties)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [pid for pid in parties if is_alive(pid)]

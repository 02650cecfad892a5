"""What the demo's containers do: programs one after the other, of which a stop ends the one that runs, and never looks like success."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ready
from epgfn.base.errors import EpgfnError
from epgfn.demo.containers import NODES, SEED, coordinator
from epgfn.demo.demo import demo_study

STEPS = """
import os, pathlib, signal, sys
from epgfn.demo.containers import Steps
steps = Steps()
{before}
steps.run(sys.executable, "-c", {child!r})
pathlib.Path({after!r}).touch()
steps.run("false")
"""
WAITS = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
print("ready", flush=True)
signal.pause()
"""


def start(tmp_path: Path, child: str, before: str = "") -> subprocess.Popen[str]:
    program = STEPS.format(child=child, after=str(tmp_path / "after"), before=before)
    return ready.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("code", [0, 130], ids=["child ends well", "child is interrupted"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_stop_reaches_the_program_that_runs_and_no_other_begins(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with start(tmp_path, WAITS.format(code=code)) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(number)
        process.communicate()
    assert process.returncode == 130 and not (tmp_path / "after").exists()


def test_a_stop_before_the_first_program_starts_none(tmp_path: Path) -> None:
    with start(tmp_path, "print('started')", "os.kill(os.getpid(), signal.SIGTERM)") as process:
        out, _ = process.communicate()
    assert (process.returncode, out) == (130, "") and not (tmp_path / "after").exists()


def test_a_stop_while_a_program_is_being_started_reaches_it(tmp_path: Path) -> None:
    before = """
import subprocess
popen = subprocess.Popen
def late(*args):
    child = popen(*args)
    os.kill(os.getpid(), signal.SIGTERM)
    return child
subprocess.Popen = late
"""
    with start(tmp_path, "import signal; signal.pause()", before) as process:
        process.communicate()
    assert process.returncode == 130 and not (tmp_path / "after").exists()


def test_a_program_that_fails_ends_it_with_its_own_exit_code(tmp_path: Path) -> None:
    with start(tmp_path, "import sys; sys.exit(3)") as process:
        process.communicate()
    assert process.returncode == 3 and not (tmp_path / "after").exists()
    with start(tmp_path, "") as process:
        process.communicate()
    assert process.returncode == 1 and (tmp_path / "after").exists()


def test_where_the_result_cannot_go_is_said_before_anything_is_made(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    with pytest.raises(EpgfnError, match="chmod 777 deploy/out"):
        coordinator(demo_study(NODES, SEED), own, tmp_path, tmp_path / "no such folder")
    assert list(own.iterdir()) == []

"""`epgfn-coordinator serve` under torchrun: the same round on two processes, that end together and can be started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import ready
from coordinator_client import FakeNode, OwnProcess, make_home, tiny_study
from epgfn.run.audit.audit import audit_run
from epgfn_coordinator.export import export
from epgfn_coordinator.home import Home
from epgfn_coordinator.status import status

STEPS = 300  # so many that they last until one is seen and the stop has arrived
SERVE = ["-m", "epgfn_coordinator", "serve", "--home"]


class UnderTorchrun(OwnProcess):
    """Two processes of `serve`; `process` is torchrun's."""

    def __enter__(self) -> UnderTorchrun:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        self.process = subprocess.Popen(
            [sys.executable, *launcher, *SERVE, str(self.home.root), "--events"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.first = self.wait_for("serving")["pid"]
        return self

    def workers(self) -> list[int]:
        """Process ids of those that serve or train along."""
        return ready.children(self.process.pid)


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_two_processes_finish_a_round_that_was_stopped_and_started_again(tmp_path: Path) -> None:
    study = tiny_study(steps=STEPS, leave_one_out="true")
    home = make_home(tmp_path / "home", study)
    with UnderTorchrun(home) as server:
        nodes = [FakeNode.enrolled(home, name) for name in study.roster]
        for seed, node in enumerate(nodes):
            assert node.send(node.make_upload(study, seed=seed)).receipt
        step: dict[str, Any] = {}
        while not step.get("step"):
            step = server.wait_for("aggregating")
        workers = server.workers()
        assert len(workers) == 2
        server.process.send_signal(signal.SIGTERM)  # while both train
        server.process.communicate(timeout=300)
        assert not any(map(is_there, workers))
    assert status(home)["state"] == "aggregating"

    with UnderTorchrun(home) as server:
        server.wait_for("published")
        workers = server.workers()
    assert not any(map(is_there, workers)), "nobody waits for a coordinator that has ended"
    assert export(home, tmp_path / "run") == "published"
    assert audit_run(tmp_path / "run").ok
    summary = json.loads((tmp_path / "run" / "global" / "summary.json").read_text())
    assert summary["aggregated"] == ["a", "b"]
    assert len(summary["history"]) == STEPS


@pytest.mark.slow
def test_when_a_process_is_lost_the_round_is_kept_and_nothing_hangs(tmp_path: Path) -> None:
    study = tiny_study(steps=5000)
    home = make_home(tmp_path / "home", study)
    with UnderTorchrun(home) as server:
        for seed, name in enumerate(study.roster):
            node = FakeNode.enrolled(home, name)
            assert node.send(node.make_upload(study, seed=seed)).receipt
        step: dict[str, Any] = {}
        while not step.get("step"):
            step = server.wait_for("aggregating")
        workers = server.workers()
        (other,) = set(workers) - {server.first}
        os.kill(other, signal.SIGKILL)
        _, said = server.process.communicate(timeout=300)
        assert server.process.returncode != 0
        assert "unexpected" not in said
        assert not any(map(is_there, workers))
    assert status(home)["state"] == "aggregating"


def test_when_the_first_process_fails_the_other_ends_too(tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, *SERVE, str(tmp_path / "nowhere")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0
    complaints = [line for line in done.stderr.splitlines() if line.startswith("epgfn-coordinator:")]
    assert len(complaints) == 1
    assert "epgfn-coordinator init" in complaints[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where there is no GPU")
def test_a_gpu_that_is_not_there_is_said_before_anything_is_served(tmp_path: Path) -> None:
    home: Home = make_home(tmp_path / "home", tiny_study())
    command = [sys.executable, *SERVE, str(home.root), "--device", "cuda"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("epgfn-coordinator: device cuda needs an NVIDIA GPU")
    assert len(done.stderr.splitlines()) == 1

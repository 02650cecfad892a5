"""`epgfn-node train`, killed in the middle and started again, goes on and ends with the model it would have ended with."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ready
from epgfn.base.errors import EpgfnError
from epgfn.learn.local import train_local
from epgfn.sealing.model_file import read_model
from epgfn.study import Study
from epgfn.study.records.tables import load_records
from epgfn_node.home import NodeHome
from epgfn_node.training import default_seed
from parties import CoordinatorProcess, Node

DYING = """
import os, signal
from epgfn.gflownet.training.state import Keeper

def is_due(keeper):
    if keeper.state.step == 25:
        os.kill(os.getpid(), signal.SIGKILL)
    return keeper.state.step == 20

Keeper.is_due = is_due
from epgfn_node.cli import main
main()
"""


@pytest.fixture(scope="module")
def study(small_study: Study) -> Study:
    return small_study.with_changes({"training": {"steps": 60}})


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Iterator[CoordinatorProcess]:
    folder = tmp_path_factory.mktemp("coordinator")
    (folder / "study.toml").write_bytes(study.raw)
    with CoordinatorProcess(folder / "home", folder / "study.toml") as process:
        yield process


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "records.csv"
    rows = np.random.default_rng(0).normal(size=(40, 3))
    np.savetxt(path, rows, delimiter=",", header="a,b,c", comments="", fmt="%.9f")
    return path


def killed_while_training(node: Node, records: Path, study: Study) -> list[dict[str, Any]]:
    """Ends by SIGKILL at step 25, five steps after something was kept; its events."""
    options = ["--home", str(node.home), "--data", str(records), "--accept-study", study.digest, "--events"]
    done = ready.run(
        [sys.executable, "-c", DYING, "train", *options], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = NodeHome(node.home).training_state
    assert kept.stat().st_mode & 0o777 == 0o600
    assert not NodeHome(node.home).model.exists()
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_killed_training_goes_on(
    coordinator: CoordinatorProcess, study: Study, records: Path, tmp_path: Path
) -> None:
    node = Node(tmp_path / "north").join(coordinator, "north")
    killed_while_training(node, records, study)
    said = node.ok("train", "--data", str(records), "--events")
    assert "going on with the training" in said
    home = NodeHome(node.home)
    tensors, _ = read_model(home.model.read_bytes())
    whole = train_local(study, load_records(records, study), seed=default_seed(study, "north")).tensors
    assert all(torch.equal(tensor, whole[name]) for name, tensor in tensors.items())
    assert not home.training_state.exists()


def test_other_records_are_trained_anew(
    coordinator: CoordinatorProcess, study: Study, records: Path, tmp_path: Path
) -> None:
    node = Node(tmp_path / "south").join(coordinator, "south")
    killed_while_training(node, records, study)
    lines = records.read_text().splitlines()
    records.write_text("\n".join(lines[:-10]) + "\n")
    events = killed_while_training(node, records, study)
    assert any("training anew" in event["message"] for event in events)
    with pytest.raises(EpgfnError, match="stopped"):  # what is kept now is of these records
        _one_more_step(study, load_records(records, study), NodeHome(node.home).training_state)


def _one_more_step(study: Study, records: np.ndarray, kept: Path) -> None:
    stop = threading.Event()
    stop.set()
    train_local(study, records, seed=default_seed(study, "south"), checkpoint=kept, stop=stop)

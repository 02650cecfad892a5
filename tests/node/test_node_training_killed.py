"""`epgfn-node train`, killed in the middle and started again, goes on and ends with the model it would have ended with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parties import CoordinatorProcess, Node

from epgfn.data import load_records
from epgfn.errors import EpgfnError
from epgfn.sealing.model_file import read_model
from epgfn.study import Study
from epgfn.training import train_local
from epgfn_node.home import NodeHome
from epgfn_node.training import default_seed

STEPS = 800


@pytest.fixture(scope="module")
def study(small_study: Study) -> Study:
    return small_study.with_changes({"training": {"steps": STEPS}})


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
    """Ends by SIGKILL some steps after something is kept; its events."""
    options = ["--home", str(node.home), "--data", str(records), "--accept-study", study.digest, "--events"]
    process = subprocess.Popen(
        [sys.executable, "-m", "epgfn_node", "train", *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    kept, events = NodeHome(node.home).training_state, []
    for line in process.stdout:
        events.append(json.loads(line))
        if kept.exists() and "step" in events[-1]:
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert kept.stat().st_mode & 0o777 == 0o600
    assert not NodeHome(node.home).model.exists()
    return events


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
    assert events[-1]["step"] < STEPS / 2
    with pytest.raises(EpgfnError, match="stopped"):  # what is kept now is of these records
        _one_more_step(study, load_records(records, study), NodeHome(node.home).training_state)


def _one_more_step(study: Study, records: np.ndarray, kept: Path) -> None:
    stop = threading.Event()
    stop.set()
    train_local(study, records, seed=default_seed(study, "south"), checkpoint=kept, stop=stop)

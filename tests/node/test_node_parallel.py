"""`epgfn-node train` under torchrun: one model, trained by two processes, and an end that does not hang."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.spaces.parent_index import modular_score
from epgfn.learn.scores import score_table
from epgfn.sealing.model_file import read_model
from epgfn.study import Study
from epgfn.study.objects import space_of
from epgfn.study.records.tables import load_records
from epgfn_node.home import NodeHome
from parties import WRONG_USE, CoordinatorProcess, Node


@pytest.fixture(scope="module")
def study(small_study: Study) -> Study:
    return small_study.with_changes({"training": {"steps": 100, "batch": 64, "learning_rate": 1e-2}})


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory, study: Study) -> Iterator[CoordinatorProcess]:
    folder = tmp_path_factory.mktemp("coordinator")
    (folder / "study.toml").write_bytes(study.raw)
    with CoordinatorProcess(folder / "home", folder / "study.toml") as process:
        yield process


def under_torchrun(node: Node, *options: str) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, "-m", "epgfn_node", "train", "--home", str(node.home), *options]
    environment = {**os.environ, **node.account}
    return subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)


def test_two_processes_train_the_posterior_of_one_node(
    coordinator: CoordinatorProcess, study: Study, tmp_path: Path
) -> None:
    records = tmp_path / "records.csv"
    rows = np.random.default_rng(0).normal(size=(40, 3))
    np.savetxt(records, rows, delimiter=",", header="a,b,c", comments="", fmt="%.9f")
    node = Node(tmp_path / "north").join(coordinator, "north")

    refused = under_torchrun(node, "--data", str(records))
    assert refused.returncode != 0
    assert "accept" in refused.stderr

    done = under_torchrun(node, "--data", str(records), "--accept-study", study.digest)
    assert done.returncode == 0, done.stderr[-2000:]
    space = space_of(study)
    tensors, _ = read_model(NodeHome(node.home).model.read_bytes(), None)
    state, mass = terminating_mass(space, make_policy(space, [tensors]))
    table = score_table(study, load_records(records, study), n_parties=len(study.roster))
    exact = torch.softmax(modular_score(table, state.adjacency, space.max_parents), 0)
    assert float((mass - exact).abs().sum()) < 0.03


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where there is no GPU")
def test_a_gpu_that_is_not_there_is_one_sentence_and_nothing_is_made(tmp_path: Path) -> None:
    node = Node(tmp_path / "home")
    for verb in ("train", "run"):
        assert "device cuda needs an NVIDIA GPU" in node.fails(WRONG_USE, verb, "--device", "cuda")
    assert "choose cpu, cuda" in node.fails(WRONG_USE, "run", "--device", "gpu")
    assert not node.home.exists()

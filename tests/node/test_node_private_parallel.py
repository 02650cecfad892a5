"""`epgfn-node train` under torchrun in a private study: the second process learns the release from the first, and no record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_node_parallel import under_torchrun

from epgfn.base.canonical import canonical_json
from epgfn.base.console import make_reporter
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.spaces.parent_index import modular_score
from epgfn.sealing.model_file import read_model
from epgfn.study import Study
from epgfn.study.objects import space_of
from epgfn_node.home import NodeHome
from epgfn_node.privacy import Operator, release
from parties import CoordinatorProcess, Node
from small import PRIVATE_STUDY

STUDY = Study.from_bytes(PRIVATE_STUDY.encode()).with_changes(
    {"training": {"steps": 100, "batch": 64, "learning_rate": 1e-2}}
)


@pytest.mark.usefixtures("seeded_noise")
def test_two_processes_train_on_one_release(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_bytes(STUDY.raw)
    records = tmp_path / "records.csv"
    rows = np.random.default_rng(0).normal(size=(400, 3))
    np.savetxt(records, rows, delimiter=",", header="a,b,c", comments="", fmt="%.9f")
    with CoordinatorProcess(tmp_path / "coordinator", tmp_path / "study.toml") as coordinator:
        node = Node(tmp_path / "north").join(coordinator, "north")
    options = ["--data", str(records), "--accept-study", STUDY.digest, "--privacy-budget", "4"]
    home = NodeHome(node.home)
    # Made here, so that its noise has a seed; the two processes find it in the account's ledger.
    kept = release(STUDY, "north", records, Operator(4.0, 1e-5, node.spending), make_reporter("north", False))
    done = under_torchrun(node, *options)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "used again" in done.stderr
    space = space_of(STUDY)
    tensors, _ = read_model(home.model.read_bytes(), None)
    state, mass = terminating_mass(space, make_policy(space, [tensors]))
    table = kept.done.target.table
    wanted = torch.softmax(modular_score(table, state.adjacency, space.max_parents), 0)
    assert float((mass - wanted).abs().sum()) < 0.03
    assert canonical_json(kept.claim.to_json()) in home.privacy_claim.read_bytes()

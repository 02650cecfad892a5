"""`epgfn-node train` under torchrun on two hosts with addresses of their own: the posterior that one process gives."""

from __future__ import annotations

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
from hosts import HOSTS, on_both
from namespaces import Network, why_not
from parties import CoordinatorProcess, Node


def test_two_hosts_train_the_posterior_of_one_node(tmp_path: Path, small_study: Study) -> None:
    if reason := why_not():
        pytest.skip(reason)
    study = small_study.with_changes({"training": {"steps": 100, "batch": 64, "learning_rate": 1e-2}})
    (tmp_path / "study.toml").write_bytes(study.raw)
    records = tmp_path / "records.csv"
    rows = np.random.default_rng(0).normal(size=(40, 3))
    np.savetxt(records, rows, delimiter=",", header="a,b,c", comments="", fmt="%.9f")
    with CoordinatorProcess(tmp_path / "coordinator", tmp_path / "study.toml") as coordinator:
        node = Node(tmp_path / "north").join(coordinator, "north")
    second = tmp_path / "second"  # on the other host, of the home the study alone
    second.mkdir()
    (second / "study.toml").write_bytes((node.home / "study.toml").read_bytes())

    options = ["--data", str(records), "--accept-study", study.digest]
    with Network(HOSTS) as network:
        commands = [["epgfn_node", "train", "--home", str(home), *options] for home in (node.home, second)]
        processes = on_both(network, commands, tmp_path)
        ends = [process.wait(280) for process in processes]
    assert ends == [0, 0], [(tmp_path / f"{rank}.txt").read_text()[-1000:] for rank in (0, 1)]

    space = space_of(study)
    tensors, _ = read_model(NodeHome(node.home).model.read_bytes(), None)
    state, mass = terminating_mass(space, make_policy(space, [tensors]))
    table = score_table(study, load_records(records, study), n_parties=len(study.roster))
    exact = torch.softmax(modular_score(table, state.adjacency, space.max_parents), 0)
    assert float((mass - exact).abs().sum()) < 0.03
    assert sorted(path.name for path in second.iterdir()) == ["study.toml"]

"""Studies of other objects with privacy, from files to the audit: real parties over real mTLS, each mechanism once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.gflownet.spaces.parent_index import modular_score
from epgfn.learn.model import terminating_distribution
from epgfn.privacy.mechanisms.release import unpack
from epgfn.privacy.of_study.releases import Released, maker_of
from epgfn.run.audit.audit import audit_run
from epgfn.run.model import load_model
from epgfn.study import Study
from kinds import private_study, write_records
from parties import CoordinatorProcess, Node

GRADIENT = "rate = 0.2\nclip = 0.05\n"
CASES = {
    "counts": private_study("categories"),
    "answers": private_study("multiset"),
    "sites": private_study("phylogeny"),
    "gradient": private_study("multiset", "gradient", GRADIENT),
}


def released(study: Study, node: Node, name: str) -> Released:
    """What the node's privacy ledger keeps."""
    (path,) = node.spending.glob("release-*.bin")
    raw = path.read_bytes()
    assert study.privacy.mode == "gradient" or unpack(raw)
    return maker_of(study, name).finish(raw)


@pytest.mark.usefixtures("seeded_noise")
@pytest.mark.parametrize("case", CASES)
def test_a_private_study_from_files_to_the_audit(case: str, tmp_path: Path) -> None:
    """The global model is the product of what was released, nothing was trained on anything else, and every claim is checked."""
    study = CASES[case]
    kind = "categories" if case == "counts" else "phylogeny" if case == "sites" else "multiset"
    (tmp_path / "study.toml").write_bytes(study.raw)
    nodes: dict[str, Node] = {}
    with CoordinatorProcess(tmp_path / "coordinator", tmp_path / "study.toml") as coordinator:
        for seed, name in enumerate(study.roster):
            data = write_records(kind, tmp_path / f"{name}-records", 300, seed)
            node = nodes[name] = Node(tmp_path / name).join(coordinator, name)
            options = ("--data", str(data), "--accept-study", study.digest, "--privacy-budget", "8")
            node.ok("train", *options)
            trained = (node.home / "local" / "model.safetensors").read_bytes()
            assert "used again and costs nothing" in node.ok("train", *options)
            assert (node.home / "local" / "model.safetensors").read_bytes() == trained
            shown = node.ok("inspect")
            assert re.search(r"epsilon (8|7\.9)", shown) and study.privacy.mode in shown
            node.ok("approve")
            node.ok("submit")
        for node in nodes.values():
            node.ok("fetch", "--wait", "300")
        coordinator.command("export", "--out", str(tmp_path / "run"))
    result = audit_run(tmp_path / "run")
    assert result.ok, [finding.message for finding in result.findings if not finding.ok]
    model = load_model(tmp_path / "run")
    assert study.kind.noun in ("graphs", "multisets", "trees") and model.sample(5, seed=1).objects
    assert (
        json.loads((tmp_path / "run" / "global" / "summary.json").read_bytes())["aggregated"] == study.roster
    )
    state, mass = terminating_distribution(model)
    found = [released(study, node, name) for name, node in nodes.items()]
    if case == "gradient":
        return
    total = torch.zeros(len(mass), dtype=torch.float64)
    for one in found:
        assert one.target is not None
        if one.target.table is None:
            total = total + one.target.log_reward(state)
        else:
            total = total + modular_score(one.target.table, state.adjacency, study.space.max_parents)
    assert l1(mass, exact_distribution(total)) < 0.2

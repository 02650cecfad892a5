"""`epgfn-coordinator serve` under torchrun on two hosts with addresses of their own: they finish a round, and its audit passes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from coordinator_client import FakeNode, OwnProcess, make_home, tiny_study
from epgfn.run.audit.audit import audit_run
from epgfn_coordinator.export import export
from epgfn_coordinator.status import status
from hosts import HOSTS, on_both
from namespaces import Network, why_not


def test_two_hosts_finish_a_round(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    study = tiny_study(steps=300)
    home = make_home(tmp_path / "home", study)
    with OwnProcess(home) as server:
        for seed, name in enumerate(study.roster):
            node = FakeNode.enrolled(home, name)
            assert node.send(node.make_upload(study, seed=seed)).receipt
        server.wait_for("aggregating")
    assert status(home)["state"] == "aggregating"

    second = tmp_path / "second"  # on the other host, of the home the study alone
    second.mkdir()
    (second / "study.toml").write_bytes((home.root / "study.toml").read_bytes())
    with Network(HOSTS) as network:
        commands = [["epgfn_coordinator", "serve", "--home", str(folder)] for folder in (home.root, second)]
        first, other = on_both(network, commands, tmp_path)
        while status(home)["state"] != "published":
            assert first.poll() is None, (tmp_path / "0.txt").read_text()[-1000:]
            time.sleep(0.5)
        first.terminate()
        first.wait(120)
        other.wait(120)  # it does not stay when the first has gone
    assert export(home, tmp_path / "run") == "published"
    assert audit_run(tmp_path / "run").ok
    summary = json.loads((tmp_path / "run" / "global" / "summary.json").read_text())
    assert summary["aggregated"] == ["a", "b"]
    assert sorted(path.name for path in second.iterdir()) == ["study.toml"]

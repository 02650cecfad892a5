"""The demo's promise: real data, real processes, and a global posterior next to the exact one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from epgfn.demo.demo import example_dir
from epgfn.study import Study

KEYS = {
    "run_dir", "nodes", "duration_s", "variables", "global_edge_mae", "global_edge_max_error", "null_edge_mae", "local_edge_mae",
    "auroc_exact", "auroc_global", "report",
}  # fmt: skip


@pytest.mark.slow
def test_the_demo_ends_near_the_exact_posterior(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "epgfn.cli.main", "demo", "--out", str(tmp_path / "run"), "--json"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert set(figures) >= KEYS
    assert len({*figures["pids"].values()}) == 5
    assert figures["variables"] == Study.load(example_dir() / "study.toml").variable_names
    assert figures["global_edge_mae"] <= 0.01 and figures["global_edge_max_error"] <= 0.10
    assert all(error <= 0.01 for error in figures["local_edge_mae"].values())
    assert figures["null_edge_mae"] > 5 * figures["global_edge_mae"]
    assert figures["audit_ok"] and Path(figures["report"]).is_file()
    assert "training on its own records" in done.stderr, "plain lines where there is no terminal"
    # Each node has read its own file and no other: the parts are disjoint and each home knows one path.
    rows = [
        set((tmp_path / "run.data" / f"{node}.csv").read_text().splitlines()[1:])
        for node in figures["local_edge_mae"]
    ]
    assert sum(map(len, rows)) >= 1700 and len(set.union(*rows)) >= 1700

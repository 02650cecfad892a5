"""A simulation is on one machine: it needs no network, and no proxy of the environment may be in its way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from epgfn.rpc.proxies import VARIABLES
from networks import ConnectProxy


def test_a_simulation_goes_through_no_proxy(small_files: dict[str, Path], tmp_path: Path) -> None:
    study, *records = map(str, small_files.values())
    with ConnectProxy(answers_with="403 Forbidden") as proxy:
        done = subprocess.run(
            [sys.executable, "-m", "epgfn", "simulate", study, "--data", *records, "--out", str(tmp_path / "run"), "--json"],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, **dict.fromkeys(VARIABLES, f"http://{proxy.address}")},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["audit_ok"]
        assert proxy.connections == 0

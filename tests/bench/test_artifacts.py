"""`epgfn bench artifacts`: small, and its rows hold what docs/transport.md speaks of."""

from __future__ import annotations

import json
import subprocess
import sys

from epgfn.bench.artifacts import Setting, artifacts, shown


def test_every_part_says_what_it_cost() -> None:
    told: list[str] = []
    seal, stream, ledger = artifacts(Setting(1, 1, 1, 300), lambda row: told.append(shown(row)))
    assert [line.split()[0] for line in told] == ["seal", "stream", "ledger"]
    assert seal["bytes"] == stream["bytes"] == 1 << 20 and seal["seal_ratio"] > 0 and seal["open_ratio"] > 0
    assert stream["open_over_mib"] < 64  # MiB
    assert stream["empty_mib"] > 0 and ledger["entries"] == 300
    assert 0 < ledger["proof_s"] <= ledger["proof_s_max"] and ledger["checkpoint_s"] > 0


def test_what_is_left_out_is_not_measured_and_json_is_one_object() -> None:
    command = [
        "-m",
        "epgfn.cli.main",
        "bench",
        "artifacts",
        "--seal",
        "0",
        "--stream",
        "0",
        "--entries",
        "40",
        "--json",
    ]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    assert [row["part"] for row in json.loads(done.stdout)["rows"]] == ["ledger"]

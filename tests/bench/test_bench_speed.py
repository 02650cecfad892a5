"""Rows of `epgfn bench speed` hold what they promise; a peer that is missing, broken or unknown is a clear error."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ready
from epgfn.base.errors import EpgfnError, UsageError
from epgfn.bench import speed as bench
from epgfn.bench.peers import exact_grid
from epgfn.bench.speed import peers_of, speed
from epgfn.cli.main import app
from epgfn.gflownet.measure.distances import exact_distribution
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.rewards.grid import HypergridReward
from epgfn.gflownet.spaces import Hypergrid
from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from made_up import random_policy
from parties import in_process

FIELDS = {"instance", "library", "trajectories_per_cpu_s", "ratio", "peak_rss_mb", "l1", "steps", "seeds"}

FAKE_PEER = """#!{python}
import json, sys
assert sys.argv[1].endswith("torchgfn_hypergrid.py") and sys.argv[2:] == ["2", "12", "128", "1"]
print("a library's own words")
print(json.dumps(dict(ready=True)), flush=True)
for line in sys.stdin:
    if line.strip() == "end":
        break
    print(json.dumps(dict(cpu_s=int(line) * 0.5)), flush=True)
print(json.dumps(dict(peak_rss_mb=1.5)), flush=True)
print(json.dumps(dict(l1=0.25, loss=0.5)), flush=True)
"""


BRIEFLY = """
import sys
from epgfn.bench import speed_worker
speed_worker.PROFILED_STEPS = 2
speed_worker.main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
"""


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own processes begin with PyTorch loaded, and profile two steps in place of forty."""
    full = bench._command

    def command(*arguments: Any) -> list[str]:
        words = full(*arguments)
        return [sys.executable, "-c", BRIEFLY, *words[3:]] if words[0] == sys.executable else words

    monkeypatch.setattr(bench, "_command", command)
    monkeypatch.setattr(subprocess, "Popen", ready.Popen)


def python_that(tmp_path: Path, text: str) -> str:
    """An interpreter of our own making."""
    script = tmp_path / "python"
    script.write_text(text.replace("{python}", sys.executable))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


@pytest.mark.usefixtures("briefly")
def test_ours_comes_first_and_ratios_are_ours_over_theirs(tmp_path: Path) -> None:
    """A peer that takes half a CPU-second a step does 256 trajectories a CPU-second."""
    seen: list[dict[str, object]] = []
    peer = python_that(tmp_path, FAKE_PEER)
    ours, plain, theirs = speed(
        ["grid-2x12"], seeds=1, budget=20.0, peers={"torchgfn": peer}, on_row=seen.append
    )
    assert seen == [ours, plain, theirs]
    assert set(ours) >= FIELDS | {"share_matmul", "shares"}
    assert set(theirs) >= FIELDS
    assert (ours["library"], ours["ratio"]) == ("epgfn", 1.0)
    assert (plain["library"], plain["ratio_tb"]) == ("epgfn-tb", 1.0)
    assert theirs["trajectories_per_cpu_s"] == pytest.approx(256)
    assert theirs["ratio"] == pytest.approx(ours["trajectories_per_cpu_s"] / 256)
    assert theirs["ratio_tb"] == pytest.approx(plain["trajectories_per_cpu_s"] / 256)
    assert theirs["least_ratio"] <= theirs["ratio"] <= theirs["largest_ratio"]
    assert ours["slowest"] <= ours["trajectories_per_cpu_s"] <= ours["fastest"]
    assert (theirs["l1"], theirs["loss"], theirs["peak_rss_mb"]) == (0.25, 0.5, 1.5)
    assert ours["steps"] == theirs["steps"] == bench.WARM_UP + 40  # 20 CPU-seconds at half a second a step
    assert 0 < ours["l1"] < 2
    assert 0 < ours["share_matmul"] < 1
    assert sum(ours["shares"].values()) == pytest.approx(1)


@pytest.mark.usefixtures("briefly")
def test_graphs_are_measured_without_peers() -> None:
    (row,) = speed(["dag-5-bge"], seeds=1, budget=0.2, peers={"torchgfn": "never-started"})
    assert set(row) >= FIELDS | {"exact_s", "share_matmul"}
    assert row["exact_s"] > 0


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\necho boom >&2; exit 1\n",
        "#!/bin/sh\necho '{\"ready\": true}'; read x; echo boom >&2; exit 3\n",
    ],
    ids=["at-once", "midway"],
)
def test_a_peer_that_fails_says_what_it_said(tmp_path: Path, text: str) -> None:
    with pytest.raises(EpgfnError, match=r"gfnx failed.*boom"):
        speed(["grid-2x12"], seeds=1, budget=1.0, peers={"gfnx": python_that(tmp_path, text)})


def test_this_python_without_the_library_is_a_clear_error() -> None:
    with pytest.raises(EpgfnError, match=r"torchgfn failed.*No module named 'gfn'"):
        speed(["grid-2x12"], seeds=1, budget=1.0, peers={"torchgfn": sys.executable})


def test_a_python_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EpgfnError, match="cannot be started"):
        speed(["grid-2x12"], seeds=1, budget=1.0, peers={"torchgfn": str(tmp_path / "nothing")})


@pytest.mark.parametrize(
    "wrong", [{"only": ["grid-3x3"]}, {"seeds": 0}, {"budget": float("nan")}, {"peers": {"numpy": "python"}}]
)
def test_a_wrong_question_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        speed(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [["torchgfn"], ["=python"], ["torchgfn="], ["gfnx=a", "gfnx=b"]])
def test_a_wrong_peer_option_is_refused(wrong: list[str]) -> None:
    with pytest.raises(UsageError):
        peers_of(wrong)


def test_the_peers_are_judged_by_the_same_exact_answer() -> None:
    space = Hypergrid(3, 5)
    policy, levels = random_policy(space), explore(space)
    state = terminating_states(space, levels)
    ours = exact_distribution(HypergridReward(space)(state))
    positions = torch.as_tensor(exact_grid.positions(3, 5))
    order = torch.argsort((state.position * torch.tensor([25, 5, 1])).sum(1))
    assert np.allclose(exact_grid.target(3, 5), ours[order])
    probabilities = policy.choices(
        space.initial(1)._replace(position=positions, stopped=torch.zeros(125).bool())
    )
    theirs = exact_grid.l1(probabilities.log_prob[0].double().exp().numpy(), 3, 5)
    mass = terminating_mass(space, policy, levels).mass
    assert theirs == pytest.approx(float((mass - ours).abs().sum()), abs=1e-5)


@pytest.mark.usefixtures("briefly")
def test_the_command_prints_one_object() -> None:
    command = ["bench", "speed", "--only", "grid-2x12", "--seeds", "1", "--budget", "0.2", "--json"]
    done = in_process(app, "epgfn", command, {})
    assert done.returncode == 0, done.stderr
    assert [row["library"] for row in json.loads(done.stdout)["rows"]] == ["epgfn", "epgfn-tb"]
    refused = in_process(app, "epgfn", [*command, "--peer", "torchgfn"], {})
    assert refused.returncode == 2
    assert "LIBRARY=PYTHON" in refused.stderr

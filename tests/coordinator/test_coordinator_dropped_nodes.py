"""A masked sum with a coordinator that really serves: one node of four is gone from any step on, and the total is that of the others, or of
all where its numbers were there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coordinator_client import InProcess, make_home
from epgfn.learn.local import train_local
from epgfn.learn.masked import numbers_in
from epgfn.run.audit.audit import audit_run
from epgfn.sealing.model_file import read_model
from epgfn.study import Study
from masked_peers import Peer
from parties import on_coordinator
from small import SMALL_STUDY

NODES = ("east", "north", "south", "west")
STUDY = Study.from_bytes(
    SMALL_STUDY.replace('["north", "south"]', '["east", "north", "south", "west"]')
    .replace("[policy]", '[target]\nkind = "bge"\nparameters = "shared"\n\n[policy]', 1)
    .replace("[aggregation]", '[aggregation]\nsums = "masked"\nquorum = 3', 1)
    .encode()
)
STEPS = ("begin", "deal", "upload", "sign", "unmask")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("gone", ["east"])
def test_one_that_is_gone_from_any_step_on_is_survived(tmp_path: Path, step: str, gone: str) -> None:
    rng = np.random.default_rng(1)
    numbers = {
        node: numbers_in(train_local(STUDY, rng.normal(size=(40 + i, 3)).cumsum(1), seed=1).tensors)
        for i, node in enumerate(NODES)
    }
    with InProcess(make_home(tmp_path / "home", STUDY)) as served:
        peers = {node: Peer(served.home, STUDY, node) for node in NODES}
        there = list(NODES)
        for now in STEPS:
            if now == step:
                there.remove(gone)
            for node in there:
                getattr(peers[node], now)(*([numbers[node]] if now == "upload" else []))
            if now in ("begin", "deal", "upload") and now == step:  # the operator goes on without it
                done = on_coordinator("close", "--home", str(served.home.root))
                assert done.returncode == 0, done.stderr
        served.events.wait_for("published", "failed", "ended")
        done = on_coordinator("export", "--home", str(served.home.root), "--out", str(tmp_path / "run"))
        assert done.returncode == 0, done.stderr
    in_it = [node for node in NODES if step in ("sign", "unmask") or node != gone]
    tensors, _ = read_model((tmp_path / "run" / "global" / "total.safetensors").read_bytes())
    wanted = sum((numbers[node] for node in in_it), np.zeros(len(numbers[gone]), np.uint64))
    assert np.array_equal(numbers_in(tensors), wanted)
    assert audit_run(tmp_path / "run").ok

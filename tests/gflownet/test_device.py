"""`--device`: a GPU that is not there is one clear sentence; and on an accelerator that only pretends to be one, whose tensors
cannot be mixed with others, training gives the very model that it gives without."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

import ready
from epgfn.base.errors import UsageError
from epgfn.gflownet.device import chosen, computing_on, on_cpu, seeded

SCRIPT = """
import sys
import threading
from pathlib import Path

import numpy as np
import torch
from pretend_accelerator import DEVICE, accelerator, counts
from epgfn.learn import trust
from epgfn.learn.aggregate import train_global
from epgfn.gflownet.device import computing_on
from epgfn.base.errors import EpgfnError
from epgfn.gflownet.measure import diagnostics
from epgfn.gflownet import policies
from epgfn.gflownet.measure import structure_chains
from epgfn.gflownet.policies.canonical import learning
from epgfn.study import Study
from epgfn.study.objects import space_of
from epgfn.learn.local import train_local, train_on_moments
from epgfn.targets.gaussian import Moments

torch.set_num_threads(1)
diagnostics.OBJECTS, diagnostics.TRAJECTORIES = 8, 2
trust.SAMPLES, trust.LOCAL_SAMPLES = 64, 64
learning.ROUNDS, learning.OWN, learning.STEPS = 1, 8, 2
structure_chains.CHAINS, structure_chains.ROUNDS = 4, 1
policies.FEW_VARIABLES, policies.MAX_VARIABLES = 2, 3  # so that few variables stand for many
EDGE_WISE = {"training": {"objective": "modified-detailed"}, "aggregation": {"objective": "aggregating-edges"}}

def study(size, parents, kind="dag-by-sinks", policy="order-potential", training={}, aggregation={}):
    steps = {"steps": 2, "batch": 8}
    return Study.model_validate({
        "name": "small",
        "roster": ["north", "south", "west"],
        "variables": [{"name": f"x{i}"} for i in range(size)],
        "space": {"kind": kind, "max_parents": parents},
        "policy": {"hidden": 16, "kind": policy},
        "training": {**steps, **training},
        "aggregation": {**steps, **aggregation},
    })

def stopped_and_resumed(study, records, path):
    stop = threading.Event()
    stop.set()
    try:
        train_local(study, records, seed=1, stop=stop, checkpoint=path)
    except EpgfnError:
        pass
    assert path.exists()
    return train_local(study, records, seed=1, checkpoint=path)

def whole(study, path):
    first, second = np.random.default_rng(0).normal(size=(2, 20, len(study.variables)))
    north = stopped_and_resumed(study, first, path)
    path.unlink()
    west = train_on_moments(study, Moments.of_records(torch.tensor(second, device="cpu")), seed=2)
    made = train_global(study, {"north": north.tensors, "west": west.tensors}, seed=3)
    return [north.tensors, west.tensors, made.tensors], made.diagnostics

path = Path(sys.argv[1]) / "checkpoint"
for name, case in {
    "OrderPotential": study(2, 1),
    "VariableFirst": study(3, 2),
    "Canonical": study(4, 2),
    "EdgeNet": study(3, 2, "dag-by-edges", "edge-net", **EDGE_WISE),
    "EdgeAttention": study(3, 2, "dag-by-edges", "edge-attention"),
}.items():
    print(name)
    before = counts["operations"]
    with accelerator(), computing_on(DEVICE):
        there, said_there = whole(case, path)
    far = counts["operations"]
    here, said_here = whole(case, path)
    assert counts["operations"] == far > before + 1000, "all of it ran there"
    for a, b in zip(there, here, strict=True):
        assert a.keys() == b.keys()
        for tensor in a.values():
            assert type(tensor) is torch.Tensor and tensor.device.type == "cpu"
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert said_there == said_here
    assert type(policies.make_policy(space_of(case), here[:1])).__name__ == name
"""
OTHERS = """
import sys
from pathlib import Path
import torch
from kinds import TEXTS, study, write_records
from pretend_accelerator import DEVICE, accelerator, counts
from epgfn.gflownet.measure import diagnostics
from epgfn.learn import trust
from epgfn.learn.aggregate import train_global
from epgfn.study.records.tables import load_records
from epgfn.gflownet.device import computing_on
from epgfn.learn.local import train_local

torch.set_num_threads(1)
diagnostics.OBJECTS, diagnostics.TRAJECTORIES = 8, 2
trust.SAMPLES, trust.LOCAL_SAMPLES = 64, 64
for kind in TEXTS:
    print(kind)
    few = {"steps": 3, "batch": 8}
    case = study(kind).with_changes({"training": few, "aggregation": few})
    records = [load_records(write_records(kind, Path(sys.argv[1]) / str(i), 20, i), case) for i in range(2)]
    def whole():
        models = {node: train_local(case, found, seed=1).tensors for node, found in zip(case.roster, records)}
        return train_global(case, models, seed=2).tensors
    before = counts["operations"]
    with accelerator(), computing_on(DEVICE):
        there = whole()
    assert counts["operations"] > before + 500, "all but the rewards ran there"
    for name, tensor in whole().items():
        assert there[name].device.type == "cpu" and torch.allclose(there[name], tensor, atol=1e-4)
"""


@pytest.mark.parametrize("text", [SCRIPT, OTHERS], ids=["graphs", "others"])
def test_training_follows_the_device_and_gives_models_in_main_memory(text: str, tmp_path: Path) -> None:
    """Every policy that a study can name, aggregated too; for graphs also stopped and resumed, and from a statistic."""
    script = tmp_path / "there_and_here.py"
    script.write_text(text)
    done = ready.run(
        [sys.executable, str(script), str(tmp_path)],
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1] / "support"), *sys.path]),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "", "CPU"])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="choose cpu, cuda"):
        chosen(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens where there is no GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_gpu_that_is_not_there_is_one_clear_sentence(name: str) -> None:
    with pytest.raises(UsageError, match="needs an NVIDIA GPU"):
        chosen(name)


def test_the_default_device_comes_back() -> None:
    before = torch.get_default_device()
    with computing_on(chosen("cpu")):
        assert torch.zeros(1).device.type == "cpu"
        assert seeded(5).initial_seed() == 5
    with computing_on(torch.device("meta")):
        assert torch.zeros(1).device.type == "meta"
        with computing_on(chosen("cpu")):
            assert torch.zeros(1).device.type == "cpu"
    assert torch.get_default_device() == before
    kept = {"a": torch.ones(2)}
    assert on_cpu(kept)["a"] is kept["a"], "what is there already is not copied"

"""`--device`: a GPU that is not there is one clear sentence; and on an accelerator that only pretends to be one, whose tensors
cannot be mixed with others, training gives the very model that it gives without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from epgfn.device import chosen, computing_on, on_cpu, seeded
from epgfn.errors import UsageError

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
import torch
from pretend_accelerator import DEVICE, accelerator, counts
from epgfn.aggregation import train_global
from epgfn.device import computing_on
from epgfn.errors import EpgfnError
from epgfn.study import Study
from epgfn.training import train_local, train_on_statistic

torch.set_num_threads(1)
settings = json.loads(sys.argv[1])
parents = settings.pop("parents", 2)
names = [f"x{i}" for i in range(settings.pop("size", 4))]
steps = {"steps": 2, "batch": 8}
study = Study.model_validate({
    "name": "small", "roster": ["north", "south", "west"], "variables": [{"name": name} for name in names],
    "space": {"kind": settings.pop("kind", "dag-by-sinks"), "max_parents": parents},
    "policy": {"hidden": 16, **settings.pop("policy", {})},
    "training": {**steps, **settings.pop("training", {})}, "aggregation": {**steps, **settings.pop("aggregation", {})},
})
rows = np.random.default_rng(0).normal(size=(3, 20, len(names)))


def stopped_and_resumed(path, seed):
    import threading
    stop = threading.Event()
    stop.set()
    try:
        train_local(study, rows[0], seed=seed, stop=stop, checkpoint=path)
    except EpgfnError:
        pass
    assert path.exists()
    return train_local(study, rows[0], seed=seed, checkpoint=path)

def whole(path):
    first = stopped_and_resumed(path, 1)
    second = train_on_statistic(study, torch.tensor(rows[1].T @ rows[1], device="cpu"), 20, seed=2)
    made = train_global(study, {"north": first.tensors, "west": second.tensors}, seed=3)
    return [first.tensors, second.tensors, made.tensors], made.diagnostics

with accelerator(), computing_on(DEVICE):
    there, said_there = whole(Path(sys.argv[2]) / "there")
far = counts["operations"]
here, said_here = whole(Path(sys.argv[2]) / "here")
assert counts["operations"] == far > 1000, "all of it ran there"
for a, b in zip(there, here, strict=True):
    assert a.keys() == b.keys()
    for name in a:
        assert type(a[name]) is torch.Tensor and a[name].device.type == "cpu" and a[name].dtype == torch.float32
        assert torch.equal(a[name], b[name]), name
assert said_there == said_here
"""


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"size": 13, "parents": 1},
        {"size": 26, "parents": 1},
        {
            "kind": "dag-by-edges",
            "policy": {"kind": "edge-net"},
            "training": {"objective": "detailed"},
            "aggregation": {"objective": "aggregating-edges"},
        },
        {"kind": "dag-by-edges", "policy": {"kind": "edge-attention"}},
    ],
    ids=["order-potential", "variable-first", "learned-potential", "edge-net", "edge-attention"],
)
def test_training_follows_the_device_and_gives_models_in_main_memory(
    settings: dict[str, object], tmp_path: Path
) -> None:
    script = tmp_path / "there_and_here.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(settings), str(tmp_path)],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]


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

"""Several processes under torchrun train one model: the same posterior up to noise, the same weights in all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from epgfn.gflownet import parallel
from epgfn.learn.aggregate import train_global
from epgfn.study.records.tables import load_records
from epgfn.gflownet.policies import make_policy
from epgfn.study.objects import space_of
from epgfn.gflownet.spaces.parent_index import modular_score
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.learn.scores import score_table
from epgfn.learn.target import target_of
from epgfn.learn.local import train_local
from kinds import study, write_records
from worlds import BY_SINKS as STUDY, l1, records

torch.set_num_threads(1)
with parallel.joined() as workers:
    models = {node: train_local(STUDY, records(i), seed=i).tensors for i, node in enumerate(STUDY.roster)}
    result = train_global(STUDY, models, seed=9)
    space = space_of(STUDY)
    state, mass = terminating_mass(space, make_policy(space, [result.tensors]))
    table = torch.stack([score_table(STUDY, records(i), n_parties=3) for i in range(3)]).sum(0)
    distance = l1(mass, modular_score(table, state.adjacency, space.max_parents))
    sets = study("multiset")
    found = load_records(write_records("multiset", Path(sys.argv[1]) / f"records-{workers.rank}", 40), sets)
    models = {node: train_local(sets, found, seed=i).tensors for i, node in enumerate(sets.roster)}
    state, mass = terminating_mass(space_of(sets), make_policy(space_of(sets), [train_global(sets, models, seed=9).tensors]))
    of_sets = l1(mass, 2 * target_of(sets, found).log_reward(state))
    weights = float(sum(tensor.double().abs().sum() for tensor in result.tensors.values()))
    with open(f"{sys.argv[1]}/{workers.rank}.json", "w") as file:
        json.dump({"size": workers.size, "l1": distance, "of_sets": of_sets, "weights": weights, "loss": result.history[-1]["loss"]}, file)
"""


def test_two_processes_train_one_posterior(tmp_path: Path) -> None:
    script = tmp_path / "study.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[1] / "support"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(script), str(tmp_path)],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second, "both end with the same weights and report the same loss"
    assert first["size"] == 2
    assert first["l1"] < 0.06 and first["of_sets"] < 0.1

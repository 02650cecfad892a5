"""What a second process is worth: wall and CPU time of training on one and on two, taking turns. Behind `docs/parallel.md`.

python -m epgfn.bench.scripts.processes
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

import torch

from epgfn.bench.instances.large_dag import linear_gaussian
from epgfn.gflownet import parallel
from epgfn.learn.local import train_local
from epgfn.study import Study

VARIABLES, STEPS, BATCH, REPEATS = 20, 40, 256, 3


def study() -> Study:
    return Study.model_validate(
        {
            "name": f"{VARIABLES} variables",
            "roster": ["one"],
            "variables": [{"name": f"x{i}", "centre": 0.0, "scale": 1.0} for i in range(VARIABLES)],
            "training": {"steps": STEPS, "batch": BATCH},
        }
    )


def worker() -> None:
    """One of the processes; the first prints seconds of the steps after the first ten, and of those its own CPU-seconds."""
    torch.set_num_threads(1)
    clocks: list[tuple[float, float]] = []
    with parallel.joined() as workers:
        records, _ = linear_gaussian(VARIABLES, seed=0)
        train_local(
            study(),
            records,
            seed=1,
            progress=lambda _: clocks.append((time.perf_counter(), time.process_time())),
        )
        if workers.is_first:
            (wall, cpu), (wall_end, cpu_end) = clocks[9], clocks[-1]
            print(json.dumps({"wall": wall_end - wall, "cpu": cpu_end - cpu}))


def main() -> None:
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(REPEATS):
        for size, rows in found.items():
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
            command = [sys.executable, *launcher, __file__, "worker"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    for size, rows in found.items():
        for kind in ("wall", "cpu"):
            seconds = sorted(row[kind] for row in rows)
            spread = f"{seconds[0]:.1f} to {seconds[-1]:.1f}"
            print(f"{size} processes: {kind} {statistics.median(seconds):.1f} s ({spread})")
    print("load", os.getloadavg())


if __name__ == "__main__":
    worker() if sys.argv[1:] == ["worker"] else main()

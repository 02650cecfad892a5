"""CPU-seconds that the coordinator's whole global training takes, against the number of nodes. Behind `docs/aggregation.md`.

python -m epgfn.bench.scripts.coordinator_time [NODES...]

The Sachs example's records, shuffled and dealt to N nodes with the study's own settings. Local models train for 10 steps only, since
it is not they that are measured; the global one for all the steps of the study, with its diagnostics.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from epgfn.bench.peers.blocks import peak_rss_mb
from epgfn.demo.demo import example_dir
from epgfn.learn.aggregate import train_global
from epgfn.learn.local import train_local
from epgfn.study import Study
from epgfn.study.records.tables import load_records
from epgfn.study.study import STUDY_NAME

NODES, SPLIT_SEED, LOCAL_STEPS = (1, 50), 1, 10


def main(sizes: list[int]) -> None:
    """Print one row a number of nodes."""
    torch.set_num_threads(1)
    source = example_dir()
    example = Study.load(source / STUDY_NAME)
    records = np.asarray(load_records(source / "sachs.csv", example), dtype=np.float64)
    records = records[np.random.default_rng(SPLIT_SEED).permutation(len(records))]
    print("| Nodes | CPU-s | Peak memory so far, GiB |\n|---|---|---|")
    for size in sizes:
        roster = [f"node-{n:03}" for n in range(size)]
        study = example.with_changes(
            {"roster": roster, "training": {"steps": LOCAL_STEPS}, "aggregation": {"quorum": 1}}
        )
        parts = np.array_split(records, size)
        models = {
            node: train_local(study, part, seed=n).tensors
            for n, (node, part) in enumerate(zip(roster, parts, strict=True), start=1)
        }
        begun = time.process_time()
        train_global(study, models, seed=1)
        spent = time.process_time() - begun
        peak = peak_rss_mb() / 1024
        print(f"| {size} | {spent:.1f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or list(NODES))

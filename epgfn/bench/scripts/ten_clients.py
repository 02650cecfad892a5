"""The lecture's picture: the pooled Score(G) of graphs from ten clients' models and from the global one. Behind `docs/aggregation.md`.

python -m epgfn.bench.scripts.ten_clients docs/figures/ten-clients.png [TARGET]

The Sachs example's records, shuffled and dealt to ten clients; local models and the global one by the functions that node and
coordinator call. TARGET is what they are trained on: `max-likelihood`, the lecture's and the default, or another of the study's
kinds. Score(G) = sum_i max over theta of log P(D_i | G, theta) on all records together, sigma = 1, nats.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from epgfn.demo.demo import example_dir
from epgfn.learn.aggregate import train_global
from epgfn.learn.local import train_local
from epgfn.learn.model import Model
from epgfn.run.report.figures import Pooled, pooled_scores
from epgfn.study import Study
from epgfn.study.records.tables import load_records
from epgfn.study.study import STUDY_NAME
from epgfn.targets.likelihood import pooled_profile_score

CLIENTS, SPLIT_SEED, GRAPHS = 10, 1, 2000


def main(path: Path, target: str = "max-likelihood") -> None:
    """Train, print the table and draw the picture at `path`."""
    torch.set_num_threads(1)
    source = example_dir()
    roster = [f"client-{n:02}" for n in range(1, CLIENTS + 1)]
    study = Study.load(source / STUDY_NAME).with_changes({"roster": roster, "target": {"kind": target}})
    records = np.asarray(load_records(source / "sachs.csv", study), dtype=np.float64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(records))
    parts = [records[rows] for rows in np.array_split(order, CLIENTS)]

    models, seconds = {}, []
    for number, (client, part) in enumerate(zip(roster, parts, strict=True), start=1):
        begun = time.process_time()
        models[client] = train_local(study, part, seed=number).tensors
        seconds.append(time.process_time() - begun)
    begun = time.process_time()
    together = train_global(study, models, seed=1).tensors
    spent = time.process_time() - begun

    print(
        "| Model | Records | Edges | Mean | Lower quartile | Median | Upper quartile |\n|---|---|---|---|---|---|---|"
    )
    drawn = [_row(study, "global", together, records, len(records))]
    for client, part in zip(roster, parts, strict=True):
        drawn.append(_row(study, client, models[client], records, len(part)))
    print(f"CPU-seconds: {statistics.median(seconds):.0f} per client (median), {spent:.0f} the global model")
    path.write_bytes(pooled_scores(drawn[0], drawn[1:]))


def _row(study: Study, label: str, tensors: dict[str, torch.Tensor], pooled: np.ndarray, n: int) -> Pooled:
    """Prints the line of one model, of `n` records, and gives what the figure draws."""
    graphs = torch.as_tensor(Model(study, tensors).sample(GRAPHS, seed=1).adjacency)
    scores = pooled_profile_score(torch.as_tensor(pooled), graphs).numpy()
    edges = float(graphs.sum()) / GRAPHS
    low, middle, high = np.quantile(scores, (0.25, 0.5, 0.75))
    figures = " | ".join(f"{value:,.1f}" for value in (edges, scores.mean(), low, middle, high))
    print(f"| {label} | {n} | {figures} |", flush=True)
    return Pooled(label, scores, edges)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])

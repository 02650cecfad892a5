"""How many edges the joint posterior expects, by how many nodes hold the records. Behind docs/mathematics.md.

python -m epgfn.bench.scripts.expected_edges

The product of subposteriors lets every node have coefficients of its own. The same records, dealt to more nodes, are therefore less
certain of an edge: exact expected number of edges (11 variables, fan-in 3) on the Sachs example's records, BGe at its defaults.
"""

from __future__ import annotations

import numpy as np
import torch

from epgfn.demo.demo import example_dir
from epgfn.gflownet.measure.exact import edge_marginals
from epgfn.learn.scores import score_table, study_masks
from epgfn.study import Study
from epgfn.study.records.tables import load_records

NODES = (1, 2, 4, 10, 50)


def main() -> None:
    source = example_dir("sachs")
    study = Study.load(source / "study.toml")
    records = load_records(source / "sachs.csv", study)
    order = np.random.default_rng(1).permutation(len(records))
    print("| nodes | records each | expected edges | edges at .5 or more |\n|---|---|---|---|")
    for nodes in NODES:
        parts = np.array_split(order, nodes)
        tables = [score_table(study, torch.from_numpy(records[part]), nodes) for part in parts]
        edges = edge_marginals(torch.stack(tables).sum(0), study_masks(study))
        print(f"| {nodes} | {len(parts[-1])} | {edges.sum():.1f} | {int((edges >= 0.5).sum())} |")


if __name__ == "__main__":
    main()

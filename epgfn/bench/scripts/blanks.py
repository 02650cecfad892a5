"""What blanks cost: complete rows and filled-in tables beside the posterior of the same records without blanks. Behind docs/mathematics.md.

python -m epgfn.bench.scripts.blanks --rate .3 --first 500 --count 15

Random linear networks of 5 to 8 variables, two nodes of 100 to 500 records. Two variables are always seen; in each other one the share
`rate` of its cells is blank, by a logistic function of one of the two: missing at random.
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt
import torch

from epgfn.bench.truth_cases import graphs
from epgfn.gflownet.measure.exact import edge_marginals
from epgfn.learn.scores import score_table, study_masks
from epgfn.privacy.of_study.networks import GaussianNetwork

Floats = npt.NDArray[np.float64]
SURE = 0.95


def world(seed: int, rate: float) -> tuple[npt.NDArray[np.bool_], list[tuple[Floats, Floats]]]:
    """The network's adjacencies (V, V), and of each node its records and the same with blanks."""
    rng = np.random.default_rng(seed)
    v = 5 + seed % 4
    network = GaussianNetwork(v, rng)
    edges = (np.abs(np.linalg.inv(network.mixing)) > 1e-9) & ~np.eye(v, dtype=bool)
    always, parts = rng.choice(v, 2, replace=False), []
    for _ in range(2):
        x = rng.normal(size=(int(rng.integers(100, 501)), v)) @ network.mixing
        seen = x.copy()
        for j in set(range(v)) - set(always.tolist()):
            by = x[:, rng.choice(always)] * rng.choice([-1, 1])
            low, high = -10.0, 10.0
            for _ in range(50):
                middle = (low + high) / 2
                more = (1 / (1 + np.exp(-(middle + by)))).mean() > rate
                low, high = (low, middle) if more else (middle, high)
            seen[rng.random(len(x)) < 1 / (1 + np.exp(-(low + by))), j] = np.nan
        parts.append((x, seen))
    return edges | edges.T, parts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--first", type=int, default=500)
    parser.add_argument("--count", type=int, default=15)
    asked = parser.parse_args()
    found: dict[str, list[tuple[float, float, int]]] = {}
    for seed in range(asked.first, asked.first + asked.count):
        adjacent, parts = world(seed, asked.rate)
        pairs = np.triu_indices(len(adjacent), 1)
        whole: Floats | None = None
        for how in ("refuse", "complete-rows", "impute"):
            more = f'seed = {seed}\nspace.max_parents = 3\ndata.missing = "{how}"\n'
            study = graphs("blanks", [seen for _, seen in parts], more).study
            tables = [score_table(study, x if how == "refuse" else seen, len(parts)) for x, seen in parts]
            edges = edge_marginals(torch.stack(tables).sum(0), study_masks(study))
            whole = edges if whole is None else whole
            error = np.abs(edges - whole).sum() / (len(edges) * (len(edges) - 1))
            joined, truth = (edges + edges.T)[pairs], adjacent[pairs]
            wrong = ((joined > SURE) & ~truth) | ((joined < 1 - SURE) & truth)
            row = (float(error), float(((joined - truth) ** 2).mean()), int(wrong.sum()))
            found.setdefault(how, []).append(row)
        print(seed, len(adjacent), *(f"{how} {rows[-1][0]:.4f}" for how, rows in found.items()), flush=True)
    nearer = np.array(found["impute"])[:, 0] < np.array(found["complete-rows"])[:, 0]
    for how, rows in found.items():
        mean = np.array(rows).mean(0)
        total = sum(row[2] for row in rows)
        print(f"{how}: error {mean[0]:.4f}, Brier {mean[1]:.4f}, sure and wrong {total}")
    print(f"filled in nearer than complete rows in {int(nearer.sum())} of {len(nearer)} worlds")


if __name__ == "__main__":
    main()

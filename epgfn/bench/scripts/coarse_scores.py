"""Would it help to send scores rounded to a grid, and capped? What number of records, correlations and posterior come to all the same.

python -m epgfn.bench.scripts.coarse_scores [--worlds 4] [--first-seed 6000] [--records 100 1000]

Behind docs/privacy.md. A node's BGe table of five variables, in each row less its largest score, is rounded to multiples of a grid (nats),
and what lies more than the cap below the largest is put there. Who attacks knows grid and cap, and looks for the number of records and the
second moments whose table lies nearest, from several starts, by least squares that forgive half a step of the grid and all that is beyond
the cap; once without the number of records, once told it. `L1`: of the posterior over all graphs, from the node's exact one.
"""

from __future__ import annotations

import argparse
import itertools
import math

import numpy as np
import torch
from scipy.optimize import least_squares

from epgfn.gflownet.measure.exact import enumerate_dags, log_scores
from epgfn.gflownet.spaces.parent_sets import parent_masks, parent_sets
from epgfn.privacy.of_study.networks import GaussianNetwork
from epgfn.targets.bge import bge

V = 5
CASES = (
    ("top", 1.0, math.inf),
    ("top", 4.0, math.inf),
    ("top", 0.25, math.inf),
    ("top", 16.0, math.inf),
    ("top", 1.0, 64.0),
    ("top", 1.0, 16.0),
    ("gain", 1.0, 64.0),
    ("gain", 1.0, 16.0),
)
"""What is capped, how far a score lies below its row's largest or what it gains over no parents; grid and cap, in nats."""
STARTS = 4
SETS, MASKS = parent_sets(V, V - 1), parent_masks(V, V - 1)
LEGAL = ~SETS.T.numpy()
TRIANGLE = np.tril_indices(V)


def table_of(scatter: np.ndarray, n: float) -> np.ndarray:
    """(V, K) scores, each row's largest 0, what is illegal -inf."""
    scores = bge(torch.from_numpy(scatter), n, SETS, t=1.0, alpha_w=V + 2.0).numpy()
    scores = np.where(LEGAL, scores, -np.inf)
    below: np.ndarray = scores - scores.max(1, keepdims=True)
    return below


def coarse(table: np.ndarray, kind: str, grid: float, cap: float) -> np.ndarray:
    """The same on the grid and capped; of kind "gain" each row begins with 0 instead."""
    from_here = table - table[:, :1] if kind == "gain" else table
    rounded = np.round(from_here / grid) * grid
    capped = np.minimum(rounded, cap) if kind == "gain" else np.maximum(rounded, -cap)
    result: np.ndarray = np.where(LEGAL, capped, -np.inf)
    return result


def attack(
    sent: np.ndarray, kind: str, grid: float, cap: float, n: float | None, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """The number of records and the (V, V) absolute correlations that explain a coarse table best."""
    kept, side = sent[LEGAL], 1.0 if kind == "top" else -1.0
    capped = kept * -side >= cap

    def unpack(theta: np.ndarray) -> tuple[float, np.ndarray]:
        count = math.exp(theta[0]) if n is None else n
        root = np.zeros((V, V))
        root[TRIANGLE] = theta[1:]
        return count, count * (root @ root.T)

    def off(theta: np.ndarray) -> np.ndarray:
        count, scatter = unpack(theta)
        try:
            whole = table_of(scatter, count)
            made = (whole - whole[:, :1] if kind == "gain" else whole)[LEGAL]
        except Exception:  # not positive definite: anywhere but here
            return np.full(kept.shape, 1e3)
        gap = made - kept
        beyond = np.maximum(np.abs(gap) - grid / 2, 0.0) * np.sign(gap) + 1e-3 * gap / grid
        missing: np.ndarray = np.where(capped, np.maximum(side * gap, 0.0), beyond)
        return missing

    tried = []
    for _ in range(STARTS):
        root = np.eye(V)[TRIANGLE] + rng.normal(0, 0.4, len(TRIANGLE[0]))
        start = np.concatenate([[rng.uniform(math.log(20), math.log(5_000))], root])
        tried.append(least_squares(off, start, max_nfev=40, x_scale="jac"))
    best = min(tried, key=lambda found: float(found.cost))
    count, scatter = unpack(best.x)
    spread = np.sqrt(np.diag(scatter))
    return count, np.abs(scatter / np.outer(spread, spread))


def main(worlds: int, first_seed: int, sizes: list[int], kinds: str | None) -> None:
    """Print a row a grid, cap and number of records: medians over worlds."""
    torch.set_num_threads(1)
    graphs = enumerate_dags(V)
    print("records what grid cap | n off by | correlations off by (told n) | of knowing nothing | L1")
    for n, (kind, grid, cap) in itertools.product(
        sizes, CASES if kinds is None else [c for c in CASES if c[0] == kinds]
    ):
        rows = []
        for seed in range(first_seed, first_seed + worlds):
            rng = np.random.default_rng(seed)
            records = rng.normal(size=(n, V)) @ GaussianNetwork(V, rng).mixing
            centred = records - records.mean(0)
            exact = table_of(centred.T @ centred, n)
            sent = coarse(exact, kind, grid, cap)
            true = np.abs(np.corrcoef(records.T))[TRIANGLE]
            blind, guess = attack(sent, kind, grid, cap, None, rng)
            _, told = attack(sent, kind, grid, cap, n, rng)
            posteriors = [
                torch.softmax(log_scores(torch.from_numpy(np.where(LEGAL, t, 0.0)), MASKS, graphs), 0)
                for t in (exact, sent)
            ]
            rows.append(
                [
                    abs(blind / n - 1),
                    np.abs(guess[TRIANGLE] - true).max(),
                    np.abs(told[TRIANGLE] - true).max(),
                    (true - np.eye(V)[TRIANGLE]).max(),
                    float((posteriors[0] - posteriors[1]).abs().sum()),
                ]
            )
        a, b, c, d, e = np.median(np.array(rows), axis=0)
        print(
            f"{n:>7} {kind:>4} {grid:>6.4g} {cap:>4.4g} | {a:.2%} | {b:.4f} ({c:.4f}) | {d:.2f} | {e:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=6000)
    parser.add_argument("--records", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--only", choices=("top", "gain"))
    asked = parser.parse_args()
    main(asked.worlds, asked.first_seed, asked.records, asked.only)

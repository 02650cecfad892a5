"""How often 95 % intervals of causal effects hold the true one, without and with privacy noise. Behind docs/mathematics.md.

python -m epgfn.bench.scripts.effects --records 500 --epsilon 4 --first 0 --count 40

Random linear networks of four variables, each edge of a random order there with probability one half; two nodes of so many records with
shared parameters. Graphs are drawn from the exact posterior, so what is off is not a model's doing.
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt
import torch

from epgfn.gflownet.measure.exact import sample_dags
from epgfn.learn.effects import effects
from epgfn.learn.scores import study_masks, table_from_moments
from epgfn.learn.shared import moments_mechanism, pooled, statistic_of_release
from epgfn.study import Study
from epgfn.targets.gaussian import Moments

Floats = npt.NDArray[np.float64]
VARIABLES, GRAPHS = 4, 1500


def study_of(epsilon: float | None) -> Study:
    """Two nodes with shared parameters, BGe; mode `statistic` where there is an `epsilon`."""
    study = {
        "name": "effects",
        "roster": ["a", "b"],
        "variables": [{"name": f"v{j}", "lower": -30.0, "upper": 30.0} for j in range(VARIABLES)],
        "target": {"kind": "bge", "parameters": "shared"},
    }
    private = {"mode": "statistic", "epsilon": epsilon, "delta": 1e-5}
    return Study.model_validate(study if epsilon is None else study | {"privacy": private})


def world(seed: int, records: int) -> tuple[Floats, list[Floats]]:
    """(V, V) total effects [i, j] of i on j, 1 on the diagonal, and the records of each node."""
    rng = np.random.default_rng([5, seed])
    coefficients, order = np.zeros((VARIABLES, VARIABLES)), rng.permutation(VARIABLES)
    for a in range(VARIABLES):
        for b in range(a + 1, VARIABLES):
            if rng.random() < 0.5:
                coefficients[order[a], order[b]] = rng.choice([-1, 1]) * rng.uniform(0.3, 1.0)
    total: Floats = np.linalg.inv(np.eye(VARIABLES) - coefficients).astype(np.float64)
    return total, [0.8 * rng.normal(size=(records, VARIABLES)) @ total for _ in range(2)]


def known(study: Study, parts: list[Floats]) -> Moments:
    """What a result says of all records."""
    if not study.privacy.is_private:
        return Moments.pooled([Moments.of_records(torch.from_numpy(part)) for part in parts])
    mechanism = moments_mechanism(study, None)
    held = {
        node: statistic_of_release(study, mechanism.observe(part))
        for node, part in zip(study.roster, parts, strict=True)
    }
    found = pooled(study, held).moments
    assert found is not None
    return found


def main() -> None:
    """Print the share of intervals that hold the truth, of all effects and of those that are not zero, and how wide they are."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=500)
    parser.add_argument("--epsilon", type=float)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=40)
    asked = parser.parse_args()
    study = study_of(asked.epsilon)
    held, there, width = [], [], []
    for seed in range(asked.first, asked.first + asked.count):
        truth, parts = world(seed, asked.records)
        moments = known(study, parts)
        graphs = sample_dags(table_from_moments(study, moments, 1), study_masks(study), GRAPHS, seed)
        for i, of in enumerate(study.variable_names):
            for on, effect in effects(study, moments, graphs, "exact", GRAPHS, of, seed).items():
                true = truth[i, study.variable_names.index(on)]
                held.append(effect.low - 1e-9 <= true <= effect.high + 1e-9)
                there.append(abs(true) > 1e-9)
                width.append(effect.high - effect.low)
    print(
        f"{asked.count} worlds, 2 x {asked.records} records, epsilon {asked.epsilon}: {np.mean(held):.3f} of {len(held)} intervals hold "
        f"the truth, {np.mean(np.array(held)[there]):.3f} of the {sum(there)} effects that are not zero; mean width {np.mean(width):.2f}"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

"""FedAvg in one round: the mean of the local models' parameters.

McMahan et al., AISTATS 2017, arXiv 1602.05629. Averaging needs local models that start from the same weights, so they are
trained once more for this, all with the same seed.
"""

from __future__ import annotations

import statistics
import time

import torch

from epgfn.bench.baselines.base import Case, Found


def averaged_parameters(case: Case) -> Found:
    """As many steps as the local models took."""
    federation, models, spent = case.federation, [], []
    for node in range(federation.nodes):
        start = time.process_time()
        models.append(federation.train([node], case.seed, case.steps_local).tensors())
        spent.append(time.process_time() - start)
    mean = {name: torch.stack([model[name] for model in models]).mean(0) for name in models[0]}
    answer = federation.yardstick.of_policy(federation.make([mean]))
    return Found(answer, statistics.median(spent), 0.0)

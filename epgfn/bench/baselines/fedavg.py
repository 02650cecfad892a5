"""FedAvg in one round: the mean of the local models' parameters.

McMahan et al., AISTATS 2017, arXiv 1602.05629. All local models of a seed start from the same weights, as averaging needs.
"""

from __future__ import annotations

import time

import torch

from epgfn.bench.baselines.base import Case, Found


def averaged_parameters(case: Case) -> Found:
    """Nothing is trained beyond the local models."""
    start = time.process_time()
    models = [policy.tensors() for policy in case.locals]
    mean = {name: torch.stack([model[name] for model in models]).mean(0) for name in models[0]}
    policy = case.federation.make([mean])
    spent = time.process_time() - start
    return Found(case.federation.yardstick.of_policy(policy), None, spent)

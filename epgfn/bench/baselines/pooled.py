"""Pooling samples: the global model is trained by maximum likelihood on objects drawn from the local models.

    loss = -mean over pooled objects x and trajectories tau drawn from p_B(. | x) of log p_F(tau)

That fits the mixture of the local posteriors, not their product; this is here to show the difference.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from epgfn.bench.baselines.base import Case, Found
from epgfn.gflownet.losses.base import BatchLoss, Loss
from epgfn.gflownet.policies.base import walked
from epgfn.gflownet.sampling.rollout import Rollout, evaluate, sample, sample_backward
from epgfn.gflownet.spaces.base import joined, take
from epgfn.gflownet.training.loop import Options, fit

POOL = 20_000
"""Objects drawn from all local models together."""


def pooled_samples(case: Case) -> Found:
    """As many steps as the global model's, starting where that one starts."""
    federation, began = case.federation, time.process_time()
    generator = torch.Generator().manual_seed(case.seed)
    with torch.no_grad():
        each = [
            sample(policy, federation.space, POOL // federation.nodes, generator=generator).trajectories.final
            for policy in case.locals
        ]
    pool = joined(each)

    def draw(policy: Any, space: Any, n: int, **_: Any) -> Rollout[Any]:
        rows = torch.randint(len(pool[0]), (n,), generator=generator)
        trajectories = sample_backward(walked(policy, space), take(pool, rows), generator=generator)
        return Rollout(trajectories, evaluate(policy, space, trajectories), torch.zeros(n))

    def of_batch(rollout: Rollout[Any]) -> BatchLoss:
        log_pf = rollout.evaluated.log_pf[0].sum(0)
        return BatchLoss(-log_pf.mean(), log_pf)

    policy = federation.start([local.tensors() for local in case.locals], case.seed)
    settings = federation.settings_for(case.steps_global)
    fit(policy, federation.space, settings, Loss(of_batch), generator, options=Options(draw))
    spent = time.process_time() - began
    return Found(federation.yardstick.of_policy(policy), None, spent)

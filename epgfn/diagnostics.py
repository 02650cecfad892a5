"""What can be said about models without anyone's reward. Diagnostics, not proof of honest training.

A model whose flow is right gives all trajectories into one object the same log p_F - log p_B. Its spread measures the model's own
inconsistency in nats. An untrained network may have a small spread too, and a well-trained one of the wrong records has none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from epgfn.policies.base import Policy
from epgfn.rollout import evaluate, sample, sample_backward
from epgfn.spaces import DagSpace
from epgfn.spaces.base import take
from epgfn.spaces.parent_index import modular_score

OBJECTS = 256
TRAJECTORIES = 8


@torch.no_grad()
def log_terminating(
    policy: Policy, space: DagSpace, final: Any, trajectories: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Importance-weighted estimates of log p_T(x) = log sum over trajectories into x of p_F, under each of N models.

    log p_T(x) is estimated by the log of the mean of p_F / p_B over M = `trajectories` draws from p_B(. | x): unbiased before the
    logarithm, and exact whatever M where the spread is zero.

    Returns:
        (N, B) estimates in nats, and (N, B) standard deviations of log p_F - log p_B over the M trajectories.
    """
    n = len(final[0])
    repeated = take(final, torch.arange(n).repeat_interleave(trajectories))
    back = sample_backward(space, repeated, generator=generator)
    weight = evaluate(policy, space, back).log_pf.sum(1) - back.log_pb.sum(0)  # (N, B * M)
    weight = weight.view(-1, n, trajectories).double()
    estimate = weight.logsumexp(2) - torch.log(torch.tensor(float(trajectories)))
    return estimate, weight.std(2) if trajectories > 1 else torch.zeros_like(estimate)


@torch.no_grad()
def diagnose(
    space: DagSpace,
    policy: Policy,
    stack: Policy,
    nodes: list[str],
    prior_share: Tensor,
    generator: torch.Generator,
) -> dict[str, Any]:
    """Diagnostics of a global model and the local ones it was made from, on objects drawn from the global model.

    Returns:
        `objects` and `trajectories` (how many were used), `effective_share` (effective sample size over sample size of the
        global model's trajectories weighted towards the product of the locals, 0 to 1), `spread_nats` of the global model
        (root mean square over objects of the standard deviation over trajectories), and for each of `nodes` its own
        `spread_nats` and its `disagreement_nats`: standard deviation over objects of its log p_T minus the nodes' mean.
    """
    from epgfn.training import effective_share

    drawn = sample(policy, space, OBJECTS, generator=generator)
    final, log_pb = drawn.trajectories.final, drawn.trajectories.log_pb.sum(0)
    theirs = evaluate(stack, space, drawn.trajectories).log_pf.sum(1)  # (N, B)
    prior = modular_score(prior_share, final.adjacency, space.max_parents)
    log_weight = (theirs - log_pb).double().sum(0) + prior + log_pb - drawn.log_q
    log_pt, spread = log_terminating(stack, space, final, TRAJECTORIES, generator)  # (N, B) each
    _, own = log_terminating(policy, space, final, TRAJECTORIES, generator)
    disagreement = (log_pt - log_pt.mean(0)).std(1)
    rms = spread.square().mean(1).sqrt()
    return {
        "objects": OBJECTS,
        "trajectories": TRAJECTORIES,
        "effective_share": effective_share(log_weight),
        "spread_nats": float(own.square().mean().sqrt()),
        "nodes": {
            node: {"spread_nats": float(rms[i]), "disagreement_nats": float(disagreement[i])}
            for i, node in enumerate(nodes)
        },
    }

"""What can be said about models without anyone's reward. Diagnostics, not proof of honest training.

A model whose flow is right gives all trajectories into one object the same log p_F - log p_B. Its spread measures the model's own
inconsistency in nats. An untrained network may have a small spread too, and a well-trained one of the wrong records has none.

The spread also bounds what aggregation can lose. If 1 - alpha_n <= p_F(tau) / (p_B(tau | x) p_n(x)) <= 1 + beta_n for every
trajectory tau into every object x, with p_n = p_T of local model n, then a global model that balances exactly has a Jeffreys divergence
(KL in both directions, added) of at most

    sum_n log((1 + beta_n) / (1 - alpha_n))    nats

from the product of the p_n (da Silva et al., arXiv 2406.03288). The paper states it for p_n = the subposterior, which needs
rewards. With the model's own p_T instead it says nothing of how well a node was trained, only how far its trajectories contradict
each other. The extremes over all trajectories are unknown, too: quantiles over sampled ones take their place, so the
figure is an estimate from samples and may be too small.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from epgfn.gflownet.policies.base import OneWay, Policy, walked
from epgfn.gflownet.sampling.rollout import evaluate, sample, sample_backward
from epgfn.gflownet.spaces.base import LogReward, Space, State, take

OBJECTS = 256
TRAJECTORIES = 8
LARGEST = 700.0
"""Nats beyond which exp overflows; a beta at this end means no more than "very large"."""
TAIL = 0.01
"""Share of sampled trajectories beyond each of the quantiles that stand for the extremes."""


@torch.no_grad()
def log_ratios(
    policy: Policy[State], space: Space[State], final: State, trajectories: int, generator: torch.Generator
) -> Tensor:
    """(N, B, M) float64: log p_F(tau) - log p_B(tau | x) in nats, under each of N models, of M = `trajectories` draws tau from
    p_B(. | x) for each of the B objects x in `final`."""
    if isinstance(policy, OneWay) and policy.n_models > 1:  # each by ways of its own
        each = [policy.alone(i) for i in range(policy.n_models)]
        return torch.cat([log_ratios(one, space, final, trajectories, generator) for one in each])
    n = len(final[0])
    different = 1 if isinstance(policy, OneWay) else trajectories  # all M are one where there is one way
    repeated = take(final, torch.arange(n).repeat_interleave(different))
    back = sample_backward(walked(policy, space), repeated, generator=generator)
    ratio = evaluate(policy, space, back).log_pf.sum(1) - back.log_pb.sum(0)  # (N, B * M)
    return ratio.view(-1, n, different).expand(-1, -1, trajectories).double()


@torch.no_grad()
def log_terminating(
    policy: Policy[State], space: Space[State], final: State, trajectories: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Importance-weighted estimates of log p_T(x) = log sum over trajectories into x of p_F, under each of N models.

    log p_T(x) is estimated by the log of the mean of p_F / p_B over M = `trajectories` draws from p_B(. | x): unbiased before the
    logarithm, and exact whatever M where the spread is zero.

    Returns:
        (N, B) estimates in nats, and (N, B) standard deviations of log p_F - log p_B over the M trajectories.
    """
    ratio = log_ratios(policy, space, final, trajectories, generator)
    return log_mean(ratio), _spread(ratio)


def log_mean(ratio: Tensor) -> Tensor:
    """(N, B, M) -> (N, B): log of the mean of exp over the M trajectories, the estimate of log p_T."""
    return ratio.logsumexp(2) - math.log(ratio.shape[2])


def inconsistency(ratio: Tensor, tail: float = TAIL) -> tuple[Tensor, Tensor]:
    """log(1 - alpha_n) <= 0 and log(1 + beta_n) >= 0 in nats, (N,) each, estimated from (N, B, M) log ratios: the `tail` and the 1 - `tail`
    quantile of log p_F - log p_B - log p_T over all trajectories. Their difference is the node's term in the module's bound."""
    deviation = (ratio - log_mean(ratio).unsqueeze(2)).flatten(1)
    low, high = torch.quantile(deviation, torch.tensor([tail, 1 - tail], dtype=deviation.dtype), dim=1)
    return low.clamp(max=0.0), high.clamp(min=0.0)


@torch.no_grad()
def diagnose(
    space: Space[State],
    policy: Policy[State],
    stack: Policy[State],
    nodes: list[str],
    log_prior: LogReward[State] | None,
    generator: torch.Generator,
) -> dict[str, Any]:
    """Diagnostics of a global model and the local ones it was made from, on objects drawn from the global model. `log_prior` is the absent
    nodes' share of the prior, finished states to (B,) nats.

    Returns:
        `objects` and `trajectories` (how many were used), `effective_share` (effective sample size over sample size of the
        global model's trajectories weighted towards the product of the locals, 0 to 1) and `effective_samples` (that share of the
        objects), `spread_nats` of the global model (root mean square over objects of the standard deviation over trajectories),
        `divergence_bound_nats` (sum over nodes, see the module), and for each of `nodes` its own `spread_nats`, `alpha`, `beta`,
        `divergence_bound_nats`, and its `disagreement_nats`: standard deviation over objects of its log p_T minus the nodes' mean.
    """
    from epgfn.gflownet.training.loop import effective_share

    drawn = sample(policy, space, OBJECTS, generator=generator)
    final, log_pb = drawn.trajectories.final, drawn.trajectories.log_pb.sum(0)
    if isinstance(stack, OneWay):
        theirs = log_ratios(stack, space, final, 1, generator)[:, :, 0] + log_pb
    else:
        theirs = evaluate(stack, space, drawn.trajectories).log_pf.sum(1)  # (N, B)
    prior = torch.zeros(OBJECTS) if log_prior is None else log_prior(final)
    log_weight = (theirs - log_pb).double().sum(0) + prior + log_pb - drawn.log_q
    ratio = log_ratios(stack, space, final, TRAJECTORIES, generator)
    log_pt, rms = log_mean(ratio), _root_mean_square(_spread(ratio))
    own = log_ratios(policy, space, final, TRAJECTORIES, generator)
    disagreement = (log_pt - log_pt.mean(0)).std(1)
    low, high = inconsistency(ratio)
    bound = high - low
    share = effective_share(log_weight)
    return {
        "objects": OBJECTS,
        "trajectories": TRAJECTORIES,
        "effective_share": share,
        "effective_samples": share * OBJECTS,
        "spread_nats": float(_root_mean_square(_spread(own))[0]),
        "divergence_bound_nats": float(bound.sum()),
        "nodes": {
            node: {
                "spread_nats": float(rms[i]),
                "alpha": float(-torch.expm1(low[i])),
                "beta": float(torch.expm1(high[i].clamp(max=LARGEST))),
                "divergence_bound_nats": float(bound[i]),
                "disagreement_nats": float(disagreement[i]),
            }
            for i, node in enumerate(nodes)
        },
    }


def _spread(ratio: Tensor) -> Tensor:
    """(N, B) standard deviation over the M trajectories into each object; 0 where there is only one."""
    return ratio.std(2) if ratio.shape[2] > 1 else torch.zeros(ratio.shape[:2], dtype=ratio.dtype)


def _root_mean_square(spread: Tensor) -> Tensor:
    return spread.square().mean(-1).sqrt()

"""Whether the nodes of a study agree, from the models they sent: what each model says of objects drawn from the others and from the
global one. Nobody's records are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch

from epgfn.gflownet.measure.diagnostics import log_terminating
from epgfn.gflownet.measure.overlap import Overlap, overlap
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.sampling.rollout import sample
from epgfn.gflownet.spaces.base import LogReward, Space, joined

OBJECTS, MOST, LEAST = 1000, 8000, 128
"""Drawn from each model, and from all together: fewer from each where there are many, but no fewer than the last."""
TRAJECTORIES: Final = 8


@torch.no_grad()
def overlap_of(
    space: Space[Any],
    policy: Policy[Any],
    local: Sequence[Policy[Any]],
    generator: torch.Generator,
    log_rewards: Sequence[LogReward[Any]] | None = None,
) -> Overlap:
    """Of `local` models, one policy each, and the global `policy`. `log_rewards`: the nodes' own (nats), where their models carry
    them; else log p_T is estimated over trajectories."""
    each = min(OBJECTS, max(LEAST, MOST // len(local)))
    drawn = [sample(one, space, each, generator=generator).trajectories.final for one in [*local, policy]]
    state = joined(drawn)
    if log_rewards is not None:
        log_prob = torch.stack([log_reward(state) for log_reward in log_rewards])
    else:
        log_prob = torch.stack(
            [log_terminating(one, space, state, TRAJECTORIES, generator)[0][0] for one in local]
        )
    return overlap(log_prob.view(len(local), len(local) + 1, each).cpu())


def told(found: Overlap, nodes: Sequence[str]) -> dict[str, Any]:
    """As JSON has it: `verdict` "agree" or "contradict", the `contradictions` as pairs of nodes, the nodes that are `strangers` to the
    product, and per node the median log-probability (nats) that its model gives its own objects and those of the global model."""
    pairs = [[nodes[n], nodes[m]] for n, m in found.contradictions]
    return {
        "verdict": "contradict" if pairs else "agree",
        "contradictions": pairs,
        "strangers": [nodes[n] for n in found.strangers],
        "nodes": {
            node: {"own": own, "of_global": of_global}
            for node, own, of_global in zip(nodes, found.own.tolist(), found.of_product.tolist(), strict=True)
        },
    }

"""What an instance of the benchmark is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from epgfn.gflownet.measure.distances import exact_distribution, jensen_shannon, l1
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.spaces import Space
from epgfn.gflownet.spaces.base import LogReward
from epgfn.gflownet.spaces.enumeration import Level, explore, terminating_states

Measure = Callable[[Policy[Any]], Mapping[str, float]]


class Instance(NamedTuple):
    """`train(seed, steps)` gives a trained policy; `steps` is what its schedule takes by default.

    `measure` compares a policy with the truth: figures by name, `l1` among them where all objects can be listed. `paper` is
    the L1 (not halved) of a local model in da Silva et al. (ICML 2024), read off the authors' posters, where there is one.
    `budget`: CPU-seconds that a model may train unless said otherwise.
    """

    space: Space[Any]
    objective: str
    steps: int
    train: Callable[[int, int], Policy[Any]]
    measure: Measure
    paper: str | None
    budget: float = 180.0


def enumerable(space: Space[Any], log_reward: LogReward[Any]) -> Measure:
    """The measure of a space whose objects can be listed: exact `l1` (sum of |p_T - p|), `jsd` (nats) and `objects`, their
    number. The states are explored at the first call and kept."""
    kept: list[list[Level[Any]]] = []

    def measure(policy: Policy[Any]) -> dict[str, float]:
        if not kept:
            kept.append(explore(space))
        target = exact_distribution(log_reward(terminating_states(space, kept[0])).double())
        with torch.no_grad():
            mass = terminating_mass(space, policy, kept[0]).mass
        return {"l1": l1(mass, target), "jsd": jensen_shannon(mass, target), "objects": len(mass)}

    return measure

"""`epgfn bench accuracy`: the exact L1 distance of trained models from their targets, within a budget of CPU time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from epgfn.bench.instances import INSTANCES, Instance
from epgfn.distances import exact_distribution, jensen_shannon, l1
from epgfn.errors import UsageError
from epgfn.sweep import Level, explore, terminating_mass, terminating_states

TRIAL_STEPS = 30
USABLE = 0.8
"""Share of the budget that is planned for: later steps may be slower than the first ones."""


class Trial(NamedTuple):
    """One trained model: its L1, JSD (nats), and the CPU-seconds that training took."""

    l1: float
    jsd: float
    cpu_s: float


def accuracy(
    only: Sequence[str] = (),
    *,
    seeds: int = 3,
    budget: float = 180.0,
    told: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """One row an instance, on one thread.

    Args:
        only: names from `INSTANCES`; none for all. seeds: models trained on each, with seeds 1 to `seeds`.
        budget: CPU-seconds a model may train; an instance whose schedule would take longer gets a shorter one.
        told: called with each row as soon as it is there.

    Returns:
        rows with `instance, objective, objects, steps, seeds, l1_median, l1_min, l1_max, jsd_median, cpu_s` (median, training
        alone) and `paper` (the paper's L1 as printed, or None).

    Raises:
        UsageError: an instance that is not there, no seeds, or no budget.
    """
    for name in only:
        if name not in INSTANCES:
            raise UsageError(f"there is no instance {name!r}; choose one of {', '.join(INSTANCES)}")
    if seeds < 1 or not budget > 0:
        raise UsageError("a benchmark needs at least one seed and a budget above zero")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = []
        for name in only or INSTANCES:
            rows.append(_row(name, INSTANCES[name](), seeds, budget))
            if told is not None:
                told(rows[-1])
        return rows
    finally:
        torch.set_num_threads(threads)


def _row(name: str, instance: Instance, seeds: int, budget: float) -> dict[str, Any]:
    levels, steps = explore(instance.space), _affordable(instance, budget)
    trials = [_trial(instance, levels, seed, steps) for seed in range(1, seeds + 1)]
    distances = [trial.l1 for trial in trials]
    return {
        "instance": name,
        "objective": instance.objective,
        "objects": sum(int(instance.space.is_terminating(level.state).sum()) for level in levels),
        "steps": steps,
        "seeds": seeds,
        "l1_median": statistics.median(distances),
        "l1_min": min(distances),
        "l1_max": max(distances),
        "jsd_median": statistics.median(trial.jsd for trial in trials),
        "cpu_s": statistics.median(trial.cpu_s for trial in trials),
        "paper": instance.paper,
    }


def _affordable(instance: Instance, budget: float) -> int:
    """Steps of training within `budget`, at most the instance's own."""
    start = time.process_time()
    instance.train(0, TRIAL_STEPS)
    spent = time.process_time() - start
    return max(1, min(instance.steps, int(USABLE * budget * TRIAL_STEPS / spent)))


def _trial(instance: Instance, levels: list[Level], seed: int, steps: int) -> Trial:
    start = time.process_time()
    policy = instance.train(seed, steps)
    spent = time.process_time() - start
    target = exact_distribution(instance.log_reward(terminating_states(instance.space, levels)))
    mass = terminating_mass(instance.space, policy, levels).mass
    return Trial(l1(mass, target), jensen_shannon(mass, target), spent)

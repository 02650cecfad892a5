"""`epgfn bench accuracy`: how far trained models are from exact answers, within a budget of CPU time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from epgfn.base.errors import UsageError
from epgfn.bench.instances import INSTANCES, Instance

TRIAL_STEPS = 30
USABLE = 0.8
"""Share of the budget that is planned for: later steps may be slower than the first ones."""


def accuracy(
    only: Sequence[str] = (),
    *,
    seeds: int = 3,
    budget: float | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """One row an instance, on one thread.

    Args:
        only: names from `INSTANCES`; none for all. seeds: models trained on each, with seeds 1 to `seeds`.
        budget: CPU-seconds a model may train (None: each instance's own); where the schedule would take longer, it is shortened.
        on_row: called with each row as soon as it is there.

    Returns:
        rows with `instance, objective, steps, seeds, l1_median, l1_min, l1_max, cpu_s` (median, training alone) and `paper` (the
        paper's L1 as printed, or None). L1 is None where the objects cannot be listed; whatever else an instance measures
        stands beside it as `<figure>_median`, `_min` and `_max`.

    Raises:
        UsageError: an instance that is not there, no seeds, or no budget.
    """
    for name in only:
        if name not in INSTANCES:
            raise UsageError(f"there is no instance {name!r}; choose one of {', '.join(INSTANCES)}")
    if seeds < 1 or (budget is not None and not budget > 0):
        raise UsageError("a benchmark needs at least one seed and a budget above zero")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = []
        for name in only or INSTANCES:
            instance = INSTANCES[name]()
            rows.append(_row(name, instance, seeds, instance.budget if budget is None else budget))
            if on_row is not None:
                on_row(rows[-1])
        return rows
    finally:
        torch.set_num_threads(threads)


def _row(name: str, instance: Instance, seeds: int, budget: float) -> dict[str, Any]:
    steps = affordable(instance.train, instance.steps, budget)
    trials = [_trial(instance, seed, steps) for seed in range(1, seeds + 1)]
    figures = {key: value for key, value in trials[0].items() if key != "cpu_s"}
    return {
        "instance": name,
        "objective": instance.objective,
        "steps": steps,
        "seeds": seeds,
        "l1_median": None,
        "l1_min": None,
        "l1_max": None,
        **{name: value for key in figures for name, value in _spread(key, trials).items()},
        "cpu_s": statistics.median(trial["cpu_s"] for trial in trials),
        "paper": instance.paper,
    }


def _spread(key: str, trials: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """`key` itself where all trials agree on a count, else its median, smallest and largest value."""
    values = [trial[key] for trial in trials]
    if all(isinstance(value, int) for value in values):
        return {key: values[0]}
    return {
        f"{key}_median": statistics.median(values),
        f"{key}_min": min(values),
        f"{key}_max": max(values),
    }


def affordable(train: Callable[[int, int], object], steps: int, budget: float) -> int:
    """Steps of `train(seed, steps)` within `budget` CPU-seconds, at most `steps`."""
    trial = min(TRIAL_STEPS, steps)
    start = time.process_time()
    train(0, trial)
    spent = max(time.process_time() - start, 1e-9)
    return max(1, min(steps, int(USABLE * budget * trial / spent)))


def _trial(instance: Instance, seed: int, steps: int) -> dict[str, float]:
    """What `instance` measures of one trained model, and `cpu_s`, the CPU-seconds that training took."""
    start = time.process_time()
    policy = instance.train(seed, steps)
    spent = time.process_time() - start
    return {**instance.measure(policy), "cpu_s": spent}

"""`epgfn bench aggregate`: how far the global model is from the exact product of all nodes' rewards, and what that costs.

    rows = aggregate(["multiset-10x8"], nodes=5, seeds=3, baselines=True)

Every figure is against the exact product: over all objects by a sweep over all states where they can be listed, over edge
marginals where they cannot. `l1_product_of_locals` is the L1 of the normalised product of the local models' exact p_T: what
they would give if aggregation lost nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from epgfn.base.errors import UsageError
from epgfn.bench.accuracy import affordable
from epgfn.bench.baselines import BASELINES, Case
from epgfn.bench.products import PRODUCTS, SPLITS, Federation
from epgfn.bench.products.federation import Tensors
from epgfn.bench.products.yardsticks import ListedProduct
from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.product import FrozenProduct, train_product

OURS = "aggregating"
UNDERTRAINED = 0.05
"""Share of its steps that an undertrained client takes."""
MAX_NODES = 256
OnRow = Callable[[dict[str, Any]], None]


class Setting(NamedTuple):
    """What a run is about. `budget`: CPU-seconds that one model may train; `undertrained`: clients that take 5 % of their steps."""

    nodes: int | None = None
    seeds: int = 3
    budget: float = 300.0
    baselines: bool = False
    split: str = "even"
    undertrained: int = 0


def aggregate(
    only: Sequence[str] = (), setting: Setting = Setting(), *, on_row: OnRow | None = None
) -> list[dict[str, Any]]:
    """One row an instance and method, on one thread.

    Args:
        only: names from `PRODUCTS`; none for all. on_row: called with each row as soon as it is there.

    Returns:
        rows with `instance, nodes, split, undertrained, method, objective, seeds, steps_local, steps_global`; `l1_median, l1_min,
        l1_max` over seeds; `l1_locals` (the median over nodes of a local model's L1 from its own target),
        `l1_product_of_locals` and `ratio` (global over that product), medians over seeds; `cpu_s_local`, of one node's model,
        and `cpu_s_global`, medians. None where there is no such thing. Where objects cannot be listed all L1 are None and
        `edge_error_mean_median`, `_min`, `_max` and `edge_error_max_*` stand in their place.

    Raises:
        UsageError: an instance or a split that is not there, or a number out of range.
    """
    _check(only, setting)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows: list[dict[str, Any]] = []
        for name in only or PRODUCTS:
            for row in _instance_rows(name, setting):
                rows.append(row)
                if on_row is not None:
                    on_row(row)
        return rows
    finally:
        torch.set_num_threads(threads)


def _check(only: Sequence[str], setting: Setting) -> None:
    for name in only:
        if name not in PRODUCTS:
            raise UsageError(f"there is no instance {name!r}; choose one of {', '.join(PRODUCTS)}")
    if setting.split not in SPLITS:
        raise UsageError(f"there is no split {setting.split!r}; choose one of {', '.join(SPLITS)}")
    if setting.seeds < 1 or not setting.budget > 0:
        raise UsageError("a benchmark needs at least one seed and a budget above zero")
    if setting.nodes is not None and not 1 <= setting.nodes <= MAX_NODES:
        raise UsageError(f"aggregation is measured for 1 to {MAX_NODES} nodes; choose a number in that range")
    if setting.undertrained < 0:
        raise UsageError("the number of undertrained clients cannot be below zero")


class _Plan(NamedTuple):
    """Steps of a local and of the global model within the budget."""

    local: int
    together: int


class _Locals(NamedTuple):
    """The local models of one seed; the median over nodes of their L1 and the L1 of the product of their exact p_T (None where
    objects cannot be listed); and the median CPU-seconds of one."""

    policies: list[Policy[Any]]
    l1: float | None
    l1_product: float | None
    cpu_s: float


class _Trial(NamedTuple):
    """One method of one seed: its errors by name, and CPU-seconds."""

    errors: Mapping[str, float]
    cpu_s_local: float | None
    cpu_s_global: float


def _instance_rows(name: str, setting: Setting) -> list[dict[str, Any]]:
    how = {} if setting.nodes is None else {"nodes": setting.nodes}
    federation = PRODUCTS[name](split=setting.split, **how)
    if setting.undertrained > federation.nodes:
        raise UsageError(f"{name} has {federation.nodes} nodes; no more than those can be undertrained")
    plan = _plan(federation, setting.budget)
    trials: dict[str, list[_Trial]] = {}
    locals_: list[_Locals] = []
    for seed in range(1, setting.seeds + 1):
        locals_.append(_train_locals(federation, seed, plan, setting.undertrained))
        for method, trial in _trials(federation, locals_[-1], seed, plan, setting.baselines).items():
            trials.setdefault(method, []).append(trial)
    shared = {
        "instance": name,
        "nodes": federation.nodes,
        "split": setting.split,
        "undertrained": setting.undertrained,
        "objective": federation.objective,
        "seeds": setting.seeds,
        "steps_local": plan.local,
        "steps_global": plan.together,
        "l1_locals": _median([found.l1 for found in locals_]),
        "l1_product_of_locals": _median([found.l1_product for found in locals_]),
    }
    return [_row(shared, method, found) for method, found in trials.items()]


def _plan(federation: Federation, budget: float) -> _Plan:
    probe = federation.train([0], 0, 1).tensors()  # trained or not, a model takes as long to evaluate
    local = affordable(lambda seed, steps: federation.train([0], seed, steps), federation.local_steps, budget)
    together = affordable(
        lambda seed, steps: _train_global(federation, [probe] * federation.nodes, seed, steps),
        federation.global_steps,
        budget,
    )
    return _Plan(local, together)


def node_seed(seed: int, node: int) -> int:
    """Nodes start from weights of their own, as real ones do. Whether that helps the product was not shown."""
    return 1000 * seed + node


def _train_locals(federation: Federation, seed: int, plan: _Plan, undertrained: int) -> _Locals:
    policies, spent = [], []
    for node in range(federation.nodes):
        steps = max(1, round(UNDERTRAINED * plan.local)) if node < undertrained else plan.local
        start = time.process_time()
        policies.append(federation.train([node], node_seed(seed, node), steps))
        spent.append(time.process_time() - start)
    cpu_s = statistics.median(spent)
    yardstick = federation.yardstick
    if not isinstance(yardstick, ListedProduct):
        return _Locals(policies, None, None, cpu_s)
    masses = [yardstick.of_policy(policy) for policy in policies]
    own = [l1(mass, yardstick.node_truth(node)) for node, mass in enumerate(masses)]
    product = exact_distribution(torch.stack([mass.log() for mass in masses]).sum(0))
    return _Locals(policies, statistics.median(own), l1(product, yardstick.truth), cpu_s)


def _train_global(federation: Federation, models: Sequence[Tensors], seed: int, steps: int) -> Policy[Any]:
    """The coordinator's work: one model from the frozen local ones, towards their product."""
    product = FrozenProduct(
        federation.space, federation.make(models), key=federation.key, together=federation.together
    )
    policy = federation.start(models, seed)
    generator = torch.Generator().manual_seed(seed)
    train_product(
        policy, product, federation.settings_for(steps), generator, objective=federation.objective, draw=federation.draw
    )  # fmt: skip
    return policy


def _trials(
    federation: Federation, found: _Locals, seed: int, plan: _Plan, baselines: bool
) -> dict[str, _Trial]:
    """What each method makes of one seed's local models."""
    start = time.process_time()
    policy = _train_global(federation, [local.tensors() for local in found.policies], seed, plan.together)
    spent = time.process_time() - start
    yardstick = federation.yardstick
    trials = {OURS: _Trial(yardstick.errors(yardstick.of_policy(policy)), found.cpu_s, spent)}
    case = Case(federation, found.policies, seed, plan.local, plan.together, found.cpu_s + spent)
    for method, baseline in BASELINES.items() if baselines else ():
        answer = baseline(case)
        if answer is not None:
            errors = yardstick.errors(answer.answer)
            trials[method] = _Trial(errors, answer.cpu_s_local, answer.cpu_s_global)
    return trials


def _row(shared: Mapping[str, Any], method: str, trials: Sequence[_Trial]) -> dict[str, Any]:
    row = {**shared, "method": method, "l1_median": None, "l1_min": None, "l1_max": None, "ratio": None}
    for name in trials[0].errors:
        values = [trial.errors[name] for trial in trials]
        row |= {
            f"{name}_median": statistics.median(values),
            f"{name}_min": min(values),
            f"{name}_max": max(values),
        }
    if row["l1_median"] is not None and row["l1_product_of_locals"]:
        row["ratio"] = row["l1_median"] / row["l1_product_of_locals"]
    row["cpu_s_local"] = _median([trial.cpu_s_local for trial in trials])
    row["cpu_s_global"] = _median([trial.cpu_s_global for trial in trials])
    return row


def _median(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def shown(row: Mapping[str, Any]) -> str:
    """A row as one line for people."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    figures = [key.removesuffix("_median") for key in row if key.endswith("_median")]
    errors = "  ".join(
        f"{name} {row[f'{name}_median']:.4f} ({row[f'{name}_min']:.4f} to {row[f'{name}_max']:.4f})"
        for name in figures
        if row[f"{name}_median"] is not None
    )
    of_locals = f"locals {number(row['l1_locals'], '.4f')}, their product {number(row['l1_product_of_locals'], '.4f')}"
    seconds = f"{number(row['cpu_s_local'], '.0f')} + {number(row['cpu_s_global'], '.0f')} CPU-s"
    return (
        f"{row['instance']:<14} {row['nodes']:>3} nodes  {row['method']:<14} {errors}  {of_locals}  {seconds}"
    )

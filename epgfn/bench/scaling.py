"""`epgfn bench scaling`: what one trajectory of training costs as the variables of a DAG grow, and the exponent of that growth.

One trajectory is its share of a training step as `epgfn.gflownet.training.loop.fit` takes it: rollout, loss, gradient, optimiser. Data: 200
records of a random linear-Gaussian network (`linear_gaussian`), BGe, fan-in 3, the study's defaults otherwise.

    sinks            by sinks; the score table with an order potential, exact up to 25 variables and learned beyond
    edge-net         edge by edge, modified detailed balance, one network of the whole graph and one a variable
    edge-attention   edge by edge, the same loss, attention over variables
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from epgfn.base.errors import UsageError
from epgfn.base.files import write_atomic
from epgfn.bench.instances.large_dag import linear_gaussian
from epgfn.gflownet.losses.base import Loss
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.sampling.rollout import sample
from epgfn.gflownet.spaces import Space
from epgfn.gflownet.training.loop import fit
from epgfn.learn.local import local_loss
from epgfn.learn.policy import initial_policy
from epgfn.learn.scores import score_table
from epgfn.study import Study
from epgfn.study.objects import space_of
from epgfn.study.settings import TrainingSettings

POLICIES = ("sinks", "edge-net", "edge-attention")
VARIABLES = (5, 10, 20, 40)
LARGEST = 46
RECORDS = 200
BLOCKS = 3
BATCHES = {"sinks": (256, 256, 256, 64), "edge-net": (256, 256, 64, 16), "edge-attention": (256, 256, 64, 16)}
"""Trajectories a step for up to as many variables as `VARIABLES` says: the study's default, less where gradients would take GiB."""
BUDGET = 15.0


class _Task(NamedTuple):
    """One policy, ready to be trained."""

    space: Space[Any]
    policy: Policy[Any]
    loss: Loss[Any]
    settings: TrainingSettings


def scaling(
    only: Sequence[str] = (),
    *,
    variables: Sequence[int] = VARIABLES,
    budget: float = BUDGET,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Rows and fits, on one thread, seed 0.

    Args:
        only: names from `POLICIES`; none for all. variables: numbers of them, from 4 to 46.
        budget: CPU-seconds a point may take beyond its first step, three blocks together.
        on_row: called with each row as soon as it is there.

    Returns:
        `rows` with `policy, variables, batch, steps` (a block), `cpu_ms` a trajectory (median of three blocks, `cpu_ms_min`,
        `cpu_ms_max`), `length` (mean actions a trajectory), `setup_cpu_s` (scores and order potential, once a run);
        `exponents` by policy: b of the least-squares line log cpu_ms = a + b log variables, None of fewer than two points.

    Raises:
        UsageError: a policy that is not there, or numbers that make no sense.
    """
    for name in only:
        if name not in POLICIES:
            raise UsageError(f"there is no policy {name!r}; choose one of {', '.join(POLICIES)}")
    if not variables or not all(4 <= v <= LARGEST for v in variables) or not budget > 0:
        raise UsageError(f"scaling needs 4 to {LARGEST} variables and a budget above zero")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    try:
        for name in only or POLICIES:
            for v in sorted(set(variables)):
                rows.append(_row(name, v, budget))
                if on_row is not None:
                    on_row(rows[-1])
    finally:
        torch.set_num_threads(threads)
    return {"rows": rows, "exponents": {name: exponent(rows, name) for name in only or POLICIES}}


def exponent(rows: Sequence[dict[str, Any]], policy: str) -> float | None:
    """b of the least-squares line log cpu_ms = a + b log variables through the rows of `policy`."""
    points = [(row["variables"], row["cpu_ms"]) for row in rows if row["policy"] == policy]
    if len(points) < 2:
        return None
    x, y = np.log(np.array(points, dtype=np.float64)).T
    return float(np.polyfit(x, y, 1)[0])


def plot(found: dict[str, Any], path: Path) -> None:
    """Time against variables, both on logarithmic axes, with the fitted lines, as a PNG file.

    Raises:
        EpgfnError: the file cannot be written.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from epgfn.run.report.figures import DASHES, GRID, LINES, PNG_DPI, STYLE

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6, 4), dpi=PNG_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axis = figure.add_subplot(xscale="log", yscale="log")
        axis.set_xlabel("variables")
        axis.set_ylabel("CPU ms per trajectory")
        axis.grid(color=GRID, linewidth=0.6)
        for (name, power), colour, dash in zip(found["exponents"].items(), LINES, DASHES, strict=False):
            rows = [row for row in found["rows"] if row["policy"] == name]
            x, y = (np.array([row[key] for row in rows], dtype=np.float64) for key in ("variables", "cpu_ms"))
            label = name if power is None else f"{name}, exponent {power:.2f}"
            axis.plot(x, y, "o", color=colour, label=label)
            if power is not None:
                level = np.exp(np.mean(np.log(y) - power * np.log(x)))
                axis.plot(x, level * x**power, dash, color=colour, linewidth=1)
        ticks = sorted({row["variables"] for row in found["rows"]})
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set_xticks([], minor=True)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.legend(frameon=False)
        sink = io.BytesIO()
        figure.savefig(sink, format="png", metadata={"Software": None})
    write_atomic(path, sink.getvalue())


def _row(name: str, n_variables: int, budget: float) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    begun = time.process_time()
    task = _task(name, n_variables, generator)
    setup = time.process_time() - begun
    _train(task, 1, generator)  # tables that are made once
    seconds = _train(task, 1, generator)
    steps = max(1, int((budget - seconds) / (BLOCKS * seconds)))
    batch = task.settings.batch
    blocks = [1000 * _train(task, steps, generator) / (steps * batch) for _ in range(BLOCKS)]
    with torch.no_grad():
        length = sample(task.policy, task.space, batch, generator=generator).trajectories.active.sum(0)
    return {
        "policy": name,
        "variables": n_variables,
        "batch": batch,
        "steps": steps,
        "cpu_ms": statistics.median(blocks),
        "cpu_ms_min": min(blocks),
        "cpu_ms_max": max(blocks),
        "length": float(length.double().mean()),
        "setup_cpu_s": setup,
    }


def _train(task: _Task, steps: int, generator: torch.Generator) -> float:
    """CPU-seconds of so many steps of training."""
    begun = time.process_time()
    settings = task.settings.model_copy(update={"steps": steps})
    fit(task.policy, task.space, settings, task.loss, generator)
    return time.process_time() - begun


def _task(name: str, n_variables: int, generator: torch.Generator) -> _Task:
    study = _study(name, n_variables)
    records, _ = linear_gaussian(n_variables, seed=0)
    table = score_table(study, records[:RECORDS], n_parties=1)
    table = table - table.amax(1, keepdim=True)
    space = space_of(study)
    policy = make_policy(space, [initial_policy(study, table, generator)])
    return _Task(space, policy, local_loss(space, table, study.training), study.training)


def _study(name: str, n_variables: int) -> Study:
    place = next((i for i, most in enumerate(VARIABLES) if n_variables <= most), -1)
    by_sinks = name == "sinks"
    return Study.model_validate(
        {
            "name": f"{n_variables} variables",
            "roster": ["one"],
            "variables": [{"name": f"x{i}"} for i in range(n_variables)],
            "space": {"kind": "dag-by-sinks" if by_sinks else "dag-by-edges"},
            "policy": {} if by_sinks else {"kind": name},
            "training": {
                "batch": BATCHES[name][place],
                "objective": "contrastive" if by_sinks else "detailed",
            },
        }
    )

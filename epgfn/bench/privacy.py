"""`epgfn bench privacy`: what privacy costs in accuracy, on simulated worlds: the posterior from a release beside that from the records.

    rows = privacy(["moments-5"], epsilons=[4.0], worlds=10)

Unless models are trained, no network takes part and the distances are those of the releases alone. World w is drawn from the seed
`first_seed` + w; noise cannot be seeded, so figures move within their standard errors from run to run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from epgfn.base.errors import UsageError
from epgfn.bench.releases import dags, objects, studies
from epgfn.bench.releases.measure import DELTA, Ask, Errors, Measure

FIRST_SEED = 3000
MAX_NODES = 64
TRAINED_WORLDS = 4
OnRow = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Instance:
    """`make` gives the measure of one world; `targets` are what the project wants to reach, by epsilon. `trains`: there are networks
    for it; `whole`: it is a study of `studies`."""

    mode: str
    records: int
    make: Callable[..., Measure]
    epsilons: tuple[float, ...] = (1.0, 4.0, 8.0)
    worlds: int = 40
    nodes: int = 1
    targets: Mapping[float, float] = field(default_factory=dict)
    trains: bool = False
    whole: bool = False


_moments = partial(Instance, "statistic")


def _study(mode: str, kind: str, records: int = 2000, **rest: Any) -> Instance:
    return Instance(mode, records, partial(studies.release, kind=kind), trains=True, whole=True, **rest)


_triples = partial(
    dags.counts, categories=(3,) * 7
)  # all 35 tables of three variables; the joint one has 2,187 cells
INSTANCES: dict[str, Instance] = {
    "moments-5": _moments(1000, dags.moments, targets={4.0: 0.30, 8.0: 0.26}, trains=True),
    "moments-5-many": _moments(10_000, dags.moments, (1.0,), targets={1.0: 0.15}, trains=True),
    "moments-5-nodes-4": _moments(
        1000, dags.moments, (1.0, 4.0), 80, 4, targets={1.0: 0.25, 4.0: 0.05}, trains=True
    ),
    "moments-5-heavy-tails": _moments(1000, partial(dags.moments, tails="student"), trains=True),
    "moments-5-laplace": _moments(1000, partial(dags.moments, tails="laplace"), trains=True),
    "moments-5-known-mean": _moments(1000, partial(dags.moments, known=True)),
    "moments-5-unknown-means": _moments(1000, partial(dags.moments, mean=0.5)),
    **{
        f"pooled-{nodes}{many}-{parameters}": Instance(
            "statistic",
            records,
            partial(dags.moments, parameters=parameters),
            (1.0,),
            nodes=nodes,
            targets={} if parameters == "own" else {1.0: target},
        )
        for nodes, many, records, target in (
            (4, "", 1000, 0.29),
            (10, "", 1000, 0.28),
            (4, "-many", 10_000, 0.10),
            (10, "-many", 10_000, 0.04),
        )
        for parameters in ("own", "shared")
    },
    "moments-11": _moments(1000, partial(dags.moments, variables=11), (1.0, 4.0), 5),
    "moments-11-many": _moments(10_000, partial(dags.moments, variables=11), (1.0, 4.0), 5),
    "moments-25": _moments(10_000, partial(dags.moments, variables=25), (1.0, 4.0), 3),
    "counts-5": Instance("statistic", 1000, dags.counts, (1.0, 2.0, 4.0, 8.0)),
    "counts-5-many": Instance("statistic", 10_000, dags.counts, (1.0, 2.0, 4.0)),
    "counts-7": Instance("statistic", 1000, _triples, (1.0, 2.0, 4.0), 20),
    "counts-7-many": Instance("statistic", 10_000, _triples, (1.0, 2.0, 4.0), 20),
    "answers-multiset": Instance(
        "answers", 2000, partial(objects.answers, case=objects.multisets()), targets={4.0: 0.15}
    ),
    "answers-grid": Instance("answers", 2000, partial(objects.answers, case=objects.grid())),
    "answers-sequence": Instance("answers", 2000, partial(objects.answers, case=objects.sequences())),
    "gradient-multiset": Instance(
        "gradient", 2000, partial(studies.release, kind="multiset", mode="gradient"), (1.0, 4.0), 10
    ),
    "study-multiset": _study("answers", "multiset", targets={4.0: 0.15}),
    "study-multiset-nodes-4": _study("answers", "multiset", nodes=4),
    "study-sequence": _study("answers", "sequence"),
    "study-grid": _study("answers", "grid"),
    "study-trees": _study("answers", "trees"),
    "study-counts": _study("statistic", "categories", 10_000, epsilons=(1.0, 4.0)),
}


@dataclass(frozen=True)
class Setting:
    """Whatever is None is the instance's own."""

    worlds: int | None = None
    epsilons: tuple[float, ...] | None = None
    nodes: int | None = None
    first_seed: int = FIRST_SEED
    trained: bool = False


def privacy(
    only: Sequence[str] = (), setting: Setting = Setting(), *, on_row: OnRow | None = None
) -> list[dict[str, Any]]:
    """One row an instance and epsilon, on one thread.

    Args:
        only: names from `INSTANCES`; none for all (with `trained`, for all that train). on_row:
            called with each row as soon as it is there.

    Returns:
        rows with `instance, mode, records` (a node's), `nodes, epsilon, delta, first_seed, worlds, trained`; `l1_mean` and `l1_se`, mean
        over worlds and standard error of the sum of |q - p| over all objects, never halved; `edge_error_mean` and `edge_error_max`, means
        over worlds of the mean and the largest absolute error of an edge's probability, and `edge_error_null`, the mean error of the graph
        without an edge; `edge_reference_error`, about what the reference itself is off by where it comes from Markov chains; `target`, the
        L1 to reach. With `trained`, `l1_mean` is that of the models and `l1_release` that of the same releases without a network. None
        where there is no such figure: L1 where objects cannot be listed, edges where objects are not graphs.

    Raises:
        UsageError: an instance that is not there, a number out of range, or networks or nodes where there are none.
    """
    names = list(only) or [name for name, known in INSTANCES.items() if known.trains or not setting.trained]
    _check(names, setting)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = []
        for name in names:
            for epsilon in setting.epsilons or INSTANCES[name].epsilons:
                rows.append(_row(name, epsilon, setting))
                if on_row is not None:
                    on_row(rows[-1])
        return rows
    finally:
        torch.set_num_threads(threads)


def _check(names: Sequence[str], setting: Setting) -> None:
    for name in names:
        known = INSTANCES.get(name)
        if known is None:
            raise UsageError(f"there is no instance {name!r}; choose one of {', '.join(INSTANCES)}")
        if setting.trained and not known.trains:
            raise UsageError(f"{name} is measured without networks only; leave out --trained")
    if setting.worlds is not None and setting.worlds < 2:
        raise UsageError("a standard error needs at least two worlds")
    if setting.nodes is not None and not 1 <= setting.nodes <= MAX_NODES:
        raise UsageError(f"privacy is measured for 1 to {MAX_NODES} nodes; choose a number in that range")


def _row(name: str, epsilon: float, setting: Setting) -> dict[str, Any]:
    known = INSTANCES[name]
    nodes = setting.nodes or known.nodes
    ask = Ask(known.records, nodes, epsilon)
    worlds = setting.worlds or (TRAINED_WORLDS if setting.trained else known.worlds)
    measure = known.make(ask, train=_trainer(known, nodes)) if setting.trained else known.make(ask)
    seen = [measure(setting.first_seed + world) for world in range(worlds)]
    l1, l1_se = _mean([e.trained if setting.trained else e.l1 for e in seen])
    return {
        "instance": name,
        "mode": known.mode,
        "records": known.records,
        "nodes": nodes,
        "epsilon": epsilon,
        "delta": DELTA,
        "first_seed": setting.first_seed,
        "worlds": worlds,
        "trained": setting.trained,
        "l1_mean": l1,
        "l1_se": l1_se,
        "l1_release": _mean([e.l1 for e in seen])[0] if setting.trained else None,
        **_edges(seen),
        "target": known.targets.get(epsilon) if nodes == known.nodes else None,
    }


def _trainer(known: Instance, nodes: int) -> Any:
    from epgfn.bench.releases.trained import of_study, trainer  # loaded where networks are wanted

    return of_study if known.whole else trainer(nodes)


def _edges(seen: Sequence[Errors]) -> dict[str, float | None]:
    return {
        "edge_error_mean": _mean([e.edge_mean for e in seen])[0],
        "edge_error_max": _mean([e.edge_max for e in seen])[0],
        "edge_error_null": _mean([e.edge_null for e in seen])[0],
        "edge_reference_error": _mean([e.approximate for e in seen])[0],
    }


def _mean(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """The mean and its standard error, or None where there is no figure."""
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        return None, None
    return float(np.mean(there)), float(np.std(there, ddof=1) / math.sqrt(len(there)))


def shown(row: Mapping[str, Any]) -> str:
    """A row as one line for people."""
    parts = [
        f"{row['instance']:<24} {row['mode']:<9} {row['nodes']} x {row['records']} records  epsilon {row['epsilon']:g}"
    ]
    if row["l1_mean"] is not None:
        parts.append(f"L1 {row['l1_mean']:.3f} +- {row['l1_se']:.3f}")
    if row["l1_release"] is not None:
        parts.append(f"without a network {row['l1_release']:.3f}")
    if row["edge_error_mean"] is not None:
        edges = f"edges {row['edge_error_mean']:.4f}, largest {row['edge_error_max']:.3f}, no edges {row['edge_error_null']:.3f}"
        reference = row["edge_reference_error"]
        parts.append(edges if reference is None else f"{edges}, reference {reference:.4f}")
    if row["target"] is not None:
        parts.append(f"target {row['target']:g}")
    return "  ".join([*parts, f"{row['worlds']} worlds from seed {row['first_seed']}"])

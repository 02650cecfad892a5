"""The instances of `epgfn bench accuracy`: one file a family, one line in `INSTANCES` each.

What is drawn at random (item values, weights, records) is drawn once from a fixed seed: seeds of the benchmark are seeds of
the training.
"""

from __future__ import annotations

from collections.abc import Callable

from epgfn.bench.instances.dags import BY_EDGES, BY_SINKS, dag_5
from epgfn.bench.instances.instance import Instance
from epgfn.bench.instances.large_dag import large_dag
from epgfn.bench.instances.rewards import grid_2x12, grid_4x8, multiset_10x8, sequence_6x6
from epgfn.bench.instances.sachs import sachs_11
from epgfn.bench.instances.trees import phylogeny_7

INSTANCES: dict[str, Callable[[], Instance]] = {
    "grid-2x12": grid_2x12,
    "grid-4x8": grid_4x8,
    "multiset-10x8": multiset_10x8,
    "sequence-6x6": sequence_6x6,
    "dag-5-bic": lambda: dag_5("bic", BY_SINKS),
    "dag-5-bge": lambda: dag_5("bge", BY_SINKS),
    "dag-5-bic-edges": lambda: dag_5("bic", BY_EDGES),
    "dag-5-bge-edges": lambda: dag_5("bge", BY_EDGES),
    "phylogeny-7": phylogeny_7,
    "sachs-11": sachs_11,
    "dag-25": lambda: large_dag(25, steps=450, batch=256, graphs=20_000),
    "dag-46": lambda: large_dag(46, steps=60, batch=64, graphs=4_000),
}

__all__ = ["INSTANCES", "Instance"]

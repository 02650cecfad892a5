"""The federated instances of `epgfn bench aggregate`: one file a family, one line in `PRODUCTS` each.

What is drawn at random (values, weights, records, sites, how they are dealt out) is drawn once from a fixed seed: seeds of
the benchmark are seeds of the training.
"""

from __future__ import annotations

from collections.abc import Callable

from epgfn.bench.products.dags import dag_5
from epgfn.bench.products.federation import Federation
from epgfn.bench.products.rewards import grid_2x12, multiset_10x8, sequence_6x6
from epgfn.bench.products.sachs import sachs_11
from epgfn.bench.products.trees import phylogeny_7

PRODUCTS: dict[str, Callable[..., Federation]] = {
    "grid-2x12": grid_2x12,
    "multiset-10x8": multiset_10x8,
    "sequence-6x6": sequence_6x6,
    "dag-5-bic": lambda **how: dag_5("bic", **how),
    "dag-5-bge": lambda **how: dag_5("bge", **how),
    "phylogeny-7": phylogeny_7,
    "sachs-11": sachs_11,
}
"""Each is called with none, one or both of `nodes` (how many) and `split`, a name from `SPLITS`."""

SPLITS = ("even", "skewed")
"""How records or values are dealt to the nodes: at random, or so that no two nodes see the same."""

__all__ = ["PRODUCTS", "SPLITS", "Federation"]

"""State graphs: one file each, and one line in `SPACES`. The tests go over the registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from epgfn.base.errors import UsageError
from epgfn.gflownet.spaces.base import Space
from epgfn.gflownet.spaces.dag_by_edges import DagByEdges
from epgfn.gflownet.spaces.dag_by_sinks import DagBySinks
from epgfn.gflownet.spaces.edge_rules import EdgeRules
from epgfn.gflownet.spaces.hypergrid import Hypergrid
from epgfn.gflownet.spaces.multiset import Multiset
from epgfn.gflownet.spaces.phylogeny import Phylogeny
from epgfn.gflownet.spaces.sequence import Sequence

DagSpace = DagBySinks | DagByEdges
SPACES: dict[str, Callable[..., Space[Any]]] = {
    "dag-by-sinks": DagBySinks,
    "dag-by-edges": DagByEdges,
    "hypergrid": Hypergrid,
    "multiset": Multiset,
    "phylogeny": Phylogeny,
    "sequence": Sequence,
}


def make_space(kind: str, **settings: Any) -> Space[Any]:
    """The space of that name; `settings` are its constructor's.

    Raises:
        UsageError: no such space, or its settings make no sense.
    """
    if kind not in SPACES:
        raise UsageError(f"there is no space {kind!r}; choose one of {', '.join(sorted(SPACES))}")
    try:
        return SPACES[kind](**settings)
    except (TypeError, ValueError) as error:
        raise UsageError(f"space {kind!r} {error}") from None


__all__ = [
    "SPACES",
    "DagByEdges",
    "DagBySinks",
    "DagSpace",
    "EdgeRules",
    "Hypergrid",
    "Multiset",
    "Phylogeny",
    "Sequence",
    "Space",
    "make_space",
]

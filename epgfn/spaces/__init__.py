"""State graphs: one file each, and one line in `SPACES`. The tests go over the registry."""

from __future__ import annotations

from collections.abc import Callable

from epgfn.errors import UsageError
from epgfn.spaces.base import Space
from epgfn.spaces.dag_by_edges import DagByEdges
from epgfn.spaces.dag_by_sinks import DagBySinks

DagSpace = DagBySinks | DagByEdges
SPACES: dict[str, Callable[..., DagSpace]] = {"dag-by-sinks": DagBySinks, "dag-by-edges": DagByEdges}


def make_space(kind: str, *, n_variables: int, max_parents: int) -> DagSpace:
    """The space a study names.

    Raises:
        UsageError: no such space, or its settings make no sense.
    """
    if kind not in SPACES:
        raise UsageError(f"there is no space {kind!r}; choose one of {', '.join(sorted(SPACES))}")
    try:
        return SPACES[kind](n_variables=n_variables, max_parents=max_parents)
    except ValueError as error:
        raise UsageError(f"space {kind!r} {error}") from None


__all__ = ["SPACES", "DagByEdges", "DagBySinks", "DagSpace", "Space", "make_space"]

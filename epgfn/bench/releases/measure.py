"""What a measurement of a release is given and gives back."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

DELTA = 1e-5


class Ask(NamedTuple):
    """`records` at each of `nodes`, each of which spends `epsilon` at `delta`."""

    records: int
    nodes: int
    epsilon: float
    delta: float = DELTA


class Errors(NamedTuple):
    """Of one world, against the exact posterior from all records themselves, None where there is no such figure.

    `l1` is the sum of |q - p| over all objects, never halved, of what the release gives without a network; `trained` that of a
    trained model. `edge_mean` and `edge_max`: absolute errors of directed edge probabilities; `edge_null`: the mean error of the graph
    without an edge. `approximate`: the mean error that the reference itself may have, where it is no exact one.
    """

    l1: float | None = None
    edge_mean: float | None = None
    edge_max: float | None = None
    edge_null: float | None = None
    trained: float | None = None
    approximate: float | None = None


Measure = Callable[[int], Errors]
"""The number that a world is drawn from -> its errors. The noise is never the same twice."""

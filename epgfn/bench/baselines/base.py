"""What a baseline is given and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from epgfn.bench.products.federation import Federation
from epgfn.gflownet.policies.base import Policy


class Case(NamedTuple):
    """One seed of one instance: the trained `locals`, how many steps one of them and the global model took, and the CPU-seconds
    that one local (the median) and the global one took together."""

    federation: Federation
    locals: Sequence[Policy[Any]]
    seed: int
    steps_local: int
    steps_global: int
    cpu_s: float


class Found(NamedTuple):
    """The answer, as the federation's yardstick has them, and CPU-seconds: at one node (None: nothing happens there beyond the
    local models) and once everything is together."""

    answer: Tensor
    cpu_s_local: float | None
    cpu_s_global: float


Baseline = Callable[[Case], Found | None]

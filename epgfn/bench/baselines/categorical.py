"""Parallel categorical VI: every node fits its posterior as a product of categoricals.

    q_n(a | s at step t) = softmax over the actions a that s allows of theta_n[t, a]      one categorical a step
    q_n(x) = prod over i of softmax(theta_n[i])[x_i]                                      on grids, one a coordinate

A node's theta is what minimises KL(q_n(x) || R_n(x) / Z_n) over its objects, found by L-BFGS on exact sums
over all of them (so nothing is lost to sampling); the global theta is the sum over nodes, which multiplies the categoricals.
The comparison named PCVI in da Silva et al., ICML 2024, arXiv 2406.03288, spelt out for any space: which actions are allowed is
the only thing that a step sees of the state. On a grid steps would say little of the object, as their order is free.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from epgfn.bench.baselines.base import Case, Found
from epgfn.bench.products.yardsticks import ListedProduct
from epgfn.gflownet.spaces import Hypergrid
from epgfn.gflownet.spaces.enumeration import Level

ITERATIONS = 60
SPREAD = 0.1
"""Of theta at the start: at zero all steps would be alike, and where their order is free the gradient leaves them alike."""


class Family(NamedTuple):
    """Products of `size` = (how many, over how many values) categoricals; `mass` of theta, float64 of that size: (M,) float64
    probabilities of all objects, in the order of `terminating_states`."""

    size: tuple[int, int]
    mass: Callable[[Tensor], Tensor]


def parallel_categorical(case: Case) -> Found | None:
    """Where all objects can be listed."""
    yardstick = case.federation.yardstick
    if not isinstance(yardstick, ListedProduct):
        return None
    family = family_of(yardstick)
    total, spent = torch.zeros(family.size, dtype=torch.float64), []
    for node in range(case.federation.nodes):
        target, start = yardstick.node_truth(node).log(), time.process_time()
        total += fitted(family, target)
        spent.append(time.process_time() - start)
    return Found(family.mass(total), statistics.median(spent), 0.0)


def family_of(yardstick: ListedProduct) -> Family:
    """A categorical a coordinate on grids, elsewhere one a step."""
    space, levels = yardstick.space, yardstick.levels
    if isinstance(space, Hypergrid):
        position, rows = yardstick.states.position, torch.arange(space.n_dimensions)
        return Family(
            (space.n_dimensions, space.side), lambda theta: theta.log_softmax(1)[rows, position].sum(1).exp()
        )
    done = [space.is_terminating(level.state) for level in levels]
    return Family((len(levels), space.n_actions), lambda theta: _by_steps(levels, done, theta))


def fitted(family: Family, log_target: Tensor) -> Tensor:
    """theta of one node, `family.size` float64; `log_target` (M,) float64 its normalised posterior in nats."""
    theta = SPREAD * torch.randn(family.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    theta.requires_grad_(True)
    optimiser = torch.optim.LBFGS([theta], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        mass = family.mass(theta)
        divergence = (mass * (mass.clamp_min(1e-300).log() - log_target)).sum()
        divergence.backward()  # type: ignore[no-untyped-call]
        return divergence

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return theta.detach()


def _by_steps(levels: list[Level[Any]], done: list[Tensor], theta: Tensor) -> Tensor:
    """(M,) float64 mass of all objects, by a sweep over all states."""
    mass = torch.ones(1, dtype=torch.float64)
    finished = []
    for level, end, row in zip(levels, done, theta, strict=True):
        finished.append(mass[end])
        if len(level.source):
            weight = (row - row.detach().max()).exp()[level.action]
            total = torch.zeros(len(mass), dtype=torch.float64).index_add(0, level.source, weight)
            flow = mass[level.source] * weight / total[level.source]
            mass = torch.zeros(int(level.target.max()) + 1, dtype=torch.float64).index_add(
                0, level.target, flow
            )
    return torch.cat(finished)

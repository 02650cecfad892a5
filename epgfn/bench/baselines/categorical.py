"""Parallel categorical variational inference: each node's posterior as a product of categoricals, one a step.

    q_n(a | s at step t) = softmax over the actions a that s allows of theta_n[t, a]

A node's theta is what minimises KL(q_n(x) || R_n(x) / Z_n) over its terminating distribution, found by L-BFGS on exact sums
over all states (so nothing is lost to sampling); the global theta is the sum over nodes, which multiplies the categoricals.
The comparison named PCVI in da Silva et al., ICML 2024, arXiv 2406.03288, spelt out for any space: which actions are allowed is
the only thing that a step sees of the state.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor

from epgfn.bench.baselines.base import Case, Found
from epgfn.bench.products.yardsticks import Listed
from epgfn.sweep import Level

ITERATIONS = 60


def parallel_categorical(case: Case) -> Found | None:
    """Where all objects can be listed."""
    yardstick = case.federation.yardstick
    if not isinstance(yardstick, Listed):
        return None
    levels, n_actions = yardstick.levels, case.federation.space.n_actions
    done = [case.federation.space.is_terminating(level.state) for level in levels]
    total, spent = torch.zeros(len(levels), n_actions, dtype=torch.float64), []
    for node in range(case.federation.nodes):
        target, start = yardstick.node_truth(node).log(), time.process_time()
        total += fitted(levels, done, target, n_actions)
        spent.append(time.process_time() - start)
    return Found(mass_of(levels, done, total).detach(), statistics.median(spent), 0.0)


def fitted(levels: list[Level], done: list[Tensor], log_target: Tensor, n_actions: int) -> Tensor:
    """(T, A) float64 theta of one node."""
    theta = torch.zeros(len(levels), n_actions, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([theta], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        mass = mass_of(levels, done, theta)
        divergence = (mass * (mass.clamp_min(1e-300).log() - log_target)).sum()
        divergence.backward()  # type: ignore[no-untyped-call]
        return divergence

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return theta.detach()


def mass_of(levels: list[Level], done: list[Tensor], theta: Tensor) -> Tensor:
    """(M,) float64 p_T of all objects under theta, in the order of `terminating_states`."""
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

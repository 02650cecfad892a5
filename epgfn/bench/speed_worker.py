"""The process in which `epgfn bench speed` measures this library: `python -m epgfn.bench.speed_worker INSTANCE SEED LIBRARY`.

LIBRARY is `epgfn` for the default objective, beside peers also `epgfn-tb` for plain trajectory balance.

It reads and says what `epgfn.bench.peers.blocks` describes, and last the figures of its instance.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from epgfn.bench.peers.blocks import JUDGED, MOST_LISTED, blocks, say
from epgfn.bench.speed import INSTANCES, OURS_PLAIN
from epgfn.gflownet.losses import make_loss
from epgfn.gflownet.losses.base import BatchLoss, Loss, sums_of
from epgfn.gflownet.losses.trajectory import LOG_Z_RATE, trajectory_balance
from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies.mlp_net import MlpNet, initial_tensors
from epgfn.gflownet.rewards.rewards import HypergridReward, checked
from epgfn.gflownet.sampling.rollout import Rollout, sample_once
from epgfn.gflownet.spaces import DagByEdges, Hypergrid
from epgfn.gflownet.spaces.base import LogReward, Space
from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from epgfn.gflownet.training.loop import Options, TrainingProgress, Watch, fit
from epgfn.gflownet.training.on_reward import DEFAULTS, RewardSettings

DEFAULT = DEFAULTS.objective
PROFILED_STEPS = 40
GROUPS = {
    "matrix_products": ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm"),
    "look_ups": ("index", "gather", "sort", "unique", "cat", "stack", "scatter", "where"),
    "optimiser": ("Optimizer", "adam", "foreach_norm"),
}
"""Kinds of tensor operations by what their names hold; the first that fits."""


class _EnoughError(Exception):
    """No more steps are wanted."""


def _task(shape: Sequence[int]) -> tuple[Space[Any], LogReward[Any], bool]:
    """Space, log-reward, and whether its exact distribution is to be worked out."""
    if len(shape) == 1:
        return DagByEdges(shape[0], shape[0] - 1), lambda state: -state.adjacency.sum((1, 2)).double(), False
    dimensions, side = shape
    space = Hypergrid(dimensions, side)
    return space, HypergridReward(space), side**dimensions <= MOST_LISTED


def beside_peers(shape: Sequence[int], batch: int, seed: int, library: str) -> dict[str, Any]:
    """The network and the rates of the peers' scripts: 1e-3 and for log Z 1e-1, the same throughout."""
    space, reward, listed = _task(shape)
    generator = torch.Generator().manual_seed(seed)
    policy = MlpNet(space, [initial_tensors(space, 256, generator)])
    plain = library == OURS_PLAIN
    loss = _plain_tb(reward) if plain else make_loss(space, lambda state: checked(reward, state), DEFAULT)
    turns, left = blocks(), 0

    def train(steps: int, progress: Callable[[TrainingProgress], None] | None = None) -> None:
        settings = RewardSettings(DEFAULT, steps, batch, learning_rate=1e-3, exploration=0.0)
        options = Options(sample_once, final_rate=1.0)
        fit(policy, space, settings, loss, generator, watch=Watch(progress), options=options)

    def count(_: TrainingProgress) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            left = _next(turns)

    left = _next(turns)
    with contextlib.suppress(_EnoughError):
        train(1_000_000, count)
    found = {"l1": None, "loss": _loss_of(policy, space, reward, loss.extra)}
    if listed:
        levels = explore(space)
        target = exact_distribution(reward(terminating_states(space, levels)))
        with torch.no_grad():
            found["l1"] = l1(terminating_mass(space, policy, levels).mass, target)
    return {**found, **shares(lambda: train(PROFILED_STEPS))}


def _plain_tb(reward: LogReward[Any]) -> Loss[Any]:
    """As the peers have it: the plain square, and log Z from 0 on."""
    log_z = torch.zeros(1)

    def of_batch(rollout: Rollout[Any]) -> BatchLoss:
        sums = sums_of(rollout, reward)
        return sums.batch_loss(trajectory_balance(log_z, *sums), rollout)

    return Loss(of_batch, [log_z], LOG_Z_RATE)


@torch.no_grad()
def _loss_of(
    policy: MlpNet[Any], space: Space[Any], reward: LogReward[Any], log_z: Sequence[Tensor]
) -> float:
    """Plain TB of fresh trajectories, with the `log_z` that was trained or, where there is none, the one that suits them best."""
    found = sums_of(sample_once(policy, space, JUDGED, generator=torch.Generator().manual_seed(0)), reward)
    best = (found.log_reward + found.log_pb - found.log_pf).mean()
    return float(trajectory_balance(log_z[0] if log_z else best, *found))


def _next(turns: Iterator[int]) -> int:
    for steps in turns:
        return steps
    raise _EnoughError


def dag(name: str, seed: int) -> dict[str, Any]:
    """The instance's own training, begun anew in each block. `exact_s` is CPU-seconds of the exact posterior and exact p_T."""
    from epgfn.bench.instances import INSTANCES as LARGER  # not for grids, whose memory it would add to

    instance = LARGER[name]()
    for steps in blocks():
        policy = instance.train(seed, steps)
    start = time.process_time()
    distance = instance.measure(policy)["l1"]
    exact_s = time.process_time() - start
    return {
        "l1": distance,
        "exact_s": exact_s,
        **shares(lambda: instance.train(seed, PROFILED_STEPS)),
    }


def shares(train: Callable[[], object]) -> dict[str, Any]:
    """Shares of the CPU time of `train()`: `share_matmul`, and `shares` by kind of operation.

    Each operation's own time as the profiler saw it, against the CPU time of the same steps without the profiler; what is left
    is Python and PyTorch's way into its operations. The profiler's clock goes on while the process waits for a processor,
    so its times are scaled by the CPU time of the profiled steps over their duration.
    """
    start = time.process_time()
    train()
    total = time.process_time() - start
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        start, began = time.process_time(), time.perf_counter()
        train()
        running = (time.process_time() - start) / (time.perf_counter() - began)
    spent = dict.fromkeys([*GROUPS, "other_operations"], 0.0)
    for event in profile.key_averages():
        kind = next(
            (k for k, names in GROUPS.items() if any(n in event.key for n in names)), "other_operations"
        )
        spent[kind] += event.self_cpu_time_total * 1e-6 * running
    total = max(total, sum(spent.values()))
    found = {kind: seconds / total for kind, seconds in spent.items()}
    found["python_and_dispatch"] = 1 - sum(found.values())
    return {"share_matmul": found["matrix_products"], "shares": found}


def main(name: str, seed: int, library: str) -> None:
    torch.set_num_threads(1)
    instance = INSTANCES[name]
    shape = instance.shape
    say(**(dag(name, seed) if shape is None else beside_peers(shape, instance.batch, seed, library)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])

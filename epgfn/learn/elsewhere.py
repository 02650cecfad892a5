"""Objects that others than a model draw, to judge what it lacks and to train it on that: Markov chains on its own target, which cool down
from starts that owe nothing to it.

    graphs of a score table   whole parent sets drawn anew and edges turned round; they start from other models' graphs, or without edges
    anything else             back along the arrows and forward under the model; they start from other models' objects, or random ones

Where all objects can be listed, they are drawn from what is exact instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from epgfn.base.files import sha256_hex
from epgfn.gflownet.device import seeded
from epgfn.gflownet.measure.structure_chains import Chains
from epgfn.gflownet.measure.walk_chains import WalkChains
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.sampling.random_walk import finished_at_random
from epgfn.gflownet.sampling.rollout import sample
from epgfn.gflownet.spaces.base import LogReward, joined, take
from epgfn.gflownet.training.state import tensor_digest
from epgfn.learn.exact import Exact
from epgfn.study import Study
from epgfn.study.objects import space_of

CHAINS, MOST_SCORES = 128, 1 << 18
"""Chains of graphs, fewer where there are many parent sets: a move scores so many of them in all."""
KEPT: Final = 4
"""How often each chain is looked at."""
BURN_IN, APART = 12, 2
"""Sweeps of chains of graphs while they cool down, and before each of the looks."""
WALKERS, MOVES, APART_MOVES = 128, 40, 10
"""Chains of other objects, moves while they cool down, and moves before each of the looks: what is proposed has to be scored."""

Start = Callable[[], Any]
"""Finished states to start from."""
Elsewhere = Callable[[Policy[Any]], Any]
"""For a policy, finished states drawn from its target by others; the same for the same weights."""


def chains_of_graphs(study: Study, table: Tensor, start: Start, seed: int) -> Elsewhere:
    """On the target of (V, K) log-scores (nats). They cool down once, and go on from there each time they are asked."""
    space = space_of(study)
    count = max(16, min(CHAINS, MOST_SCORES // table.shape[1]))
    cooled: list[Tensor] = []

    def draw(policy: Policy[Any]) -> Any:
        if not cooled:
            generator = seeded(seed)
            adjacency = _resized(start(), count, generator).adjacency.clone()
            chains = Chains(table, adjacency, space.max_parents, generator)
            chains.cool(BURN_IN)
            cooled.append(chains.adjacency)
        chains = Chains(table, cooled[0].clone(), space.max_parents, seeded(_seed_of(policy)))
        seen = []
        for _ in range(KEPT):
            for _ in range(APART):
                chains.sweep()
            seen.append(chains.adjacency.clone())
        return space.terminal(torch.cat(seen))

    return draw


def chains_of_walks(study: Study, log_reward: LogReward[Any], start: Start, seed: int) -> Elsewhere:
    """On any target of which log-rewards (nats) can be asked."""
    space = space_of(study)

    def draw(policy: Policy[Any]) -> Any:
        generator = seeded(seed)
        chains = WalkChains(space, policy, log_reward, _resized(start(), WALKERS, generator), generator)
        chains.cool(MOVES)
        seen = []
        for _ in range(KEPT):
            for _ in range(APART_MOVES):
                chains.move()
            seen.append(chains.state)
        return joined(seen)

    return draw


def draws_of(exact: Exact, seed: int) -> Elsewhere | None:
    """From listed objects."""
    if exact.listed is None or exact.mass is None:
        return None
    state, mass = exact.listed.state, exact.mass
    rows = torch.multinomial(mass, KEPT * WALKERS, replacement=True, generator=seeded(seed))
    return lambda policy: take(state, rows)


def without_edges(study: Study) -> Start:
    """Graphs that hold nothing: hot chains leave them at once."""
    v = len(study.variables)
    return lambda: space_of(study).terminal(torch.zeros(WALKERS, v, v, dtype=torch.bool))


def at_random(study: Study, seed: int) -> Start:
    """Objects by random actions."""
    return lambda: finished_at_random(space_of(study), WALKERS, seeded(seed))


def of_others(study: Study, local: Sequence[Policy[Any]], seed: int) -> Start:
    """Objects from each of the models, as many from each."""

    def draw() -> Any:
        space, generator = space_of(study), seeded(seed)
        each = -(-WALKERS // len(local))
        return joined([sample(one, space, each, generator=generator).trajectories.final for one in local])

    return draw


def _resized(state: Any, count: int, generator: torch.Generator) -> Any:
    """`count` of the rows, without repetition where there are enough."""
    rows = torch.randperm(len(state[0]), generator=generator)
    return take(state, rows.repeat(-(-count // len(rows)))[:count])


def _seed_of(policy: Policy[Any]) -> int:
    """Of the weights alone, so that a run that was killed ends as it would have ended."""
    tensors = policy.tensors()
    digest = "".join(tensor_digest(tensors[name]) for name in sorted(tensors))
    return int(sha256_hex(digest.encode())[:12], 16)

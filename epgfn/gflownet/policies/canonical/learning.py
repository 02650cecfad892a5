"""From a score table to a reference order and corrections, with Markov chains over graphs as teachers.

The chains' graphs say how often which edge is turned, which gives the order. Where their ways share most of their states, corrections of
greatest likelihood are found at once (`likelihood`). Elsewhere they are learned: half of each round's trajectories
are the policy's own, half lead into graphs of the chains, for what a policy thinks unlikely it never sees, and no weight tells of it.
Along each, with y the log of the sum over all choices,

    log p_F - log R = sum over steps of (guess of the moment reached - its y) + constant,

so both are brought to naught: the variance of the sum over trajectories, which is contrastive balance, and each step's difference, which is
flow matching.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from epgfn.gflownet.policies.canonical.barred import in_order, unlikely
from epgfn.gflownet.policies.canonical.cells import next_in_order
from epgfn.gflownet.policies.canonical.corrections import (
    Corrections,
    corrections_of,
    row_max,
    zero,
)
from epgfn.gflownet.policies.canonical.few import prepared
from epgfn.gflownet.policies.canonical.ordered import Ordered, Seen, segment_of
from epgfn.gflownet.policies.canonical.orders import local_order
from epgfn.gflownet.policies.canonical.set_sums import SetSums
from epgfn.gflownet.policies.canonical.walk import Walk
from epgfn.gflownet.spaces.dag_by_sinks import DagBySinks
from epgfn.gflownet.training.adam import Adam

ROUNDS: Final = 28
SMALL: Final = 6
"""Rounds at first of a quarter as many: what the policy then does is soon unlearned."""
OWN: Final = 256
"""Trajectories of its own in a round, and as many into graphs of the chains."""
STEPS, BATCH = 40, 64
RATE, TABLE_RATE = 0.01, 0.01
"""Of the network, and of numbers that stand for one place or pair, which few trajectories meet."""
NET: Final = 6
NEAR: Final = 10.0
"""Nats below the best up to which a choice counts in training."""
DELTA, DELTA_STEP = 2.0, 0.5
STEP_SHARE: Final = 1.0


class Learned(NamedTuple):
    """`rank` (V,) int64, and the tensors of `Corrections`."""

    rank: Tensor
    tensors: dict[str, Tensor]


def learned(space: DagBySinks, table: Tensor, hidden: int, generator: torch.Generator) -> Learned:
    """From (V, K) scores in nats, -inf where sets are not admissible."""
    from epgfn.gflownet.policies.canonical.likelihood import fitted  # which needs `Moves`

    graphs, rank = taught(space, table)
    sums = SetSums(unlikely(space, table), rank, space.max_parents)
    tables = prepared(sums)
    tensors = zero(space.n_variables, hidden, generator)
    by_place = graphs[:, sums.variable][:, :, sums.variable]
    model = Ordered(tables, corrections_of(tensors))
    if not fitted(model, by_place, generator):
        train(model, by_place, generator)
    return Learned(rank, {name: tensor.detach() for name, tensor in tensors.items()})


@torch.no_grad()
def taught(space: DagBySinks, table: Tensor) -> tuple[Tensor, Tensor]:
    """(n, V, V) bool graphs of chains, and a (V,) rank in which they are nearly in order."""
    # Chains know of no policy, as others there do; and compiling them takes a while.
    from epgfn.gflownet.measure.structure_chains import Chains, annealed

    found = annealed(Chains(table, space.max_parents))
    rank = in_order_of(found.graphs[-1]).to(table.device)
    return found.graphs.to(table.device), in_order(space, local_order(found.edges.to(table.device), rank))


def in_order_of(graph: Tensor) -> Tensor:
    """(V,) int64 places of the variables of one (V, V) DAG, each after its parents."""
    from graphlib import TopologicalSorter

    parents = {j: graph[:, j].nonzero()[:, 0].tolist() for j in range(len(graph))}
    return torch.tensor(list(TopologicalSorter(parents).static_order()), device=graph.device).argsort()


class Moves(NamedTuple):
    """Choices along n trajectories of V steps. Of M choices that count: the `move` (M,) they belong to, their `base` (M,) nats, and what
    is reached: `t` (M,), `late` and `sinks` (M, V) bool; ascending by move. Of each move, step by step (V * n,): which choice is
    `taken`, and what the moment it `reached` is worth if all goes on in order."""

    n: int
    move: Tensor
    base: Tensor
    t: Tensor
    late: Tensor
    sinks: Tensor
    taken: Tensor
    reached: Tensor


@torch.no_grad()
def collected(
    model: Ordered,
    n: int,
    given: Tensor | None,
    generator: torch.Generator,
    temperature: float = 1.0,
    near: float = NEAR,
) -> tuple[Moves, Tensor]:
    """Trajectories of the policy's own, or into `given` (n, V, V) graphs by places; also (n,) log w of each."""
    v = model.sums.n_variables
    walk = Walk(model.tables, n)
    actions = None if given is None else ways_into(given)
    parts, log_w = [], torch.zeros(n, dtype=torch.float64)
    count = 0
    for step in range(v):
        seen = model.seen(walk)
        if given is None or actions is None:
            taken = model.drawn(seen, generator, temperature)
            child, parents = taken.child, taken.parents
            log_w += taken.score - taken.log_pf
        else:
            child = actions[step]
            parents = given[torch.arange(n), :, child]
            log_w += model.sums.score(child, parents) - model.log_pf(seen, child, parents)
        part = moves_of(seen, child, parents, near)
        parts.append(part._replace(move=part.move + step * n, taken=part.taken + count))
        count += len(part.move)
        walk.advance(child, parents)
    joined = [torch.cat(field) for field in zip(*(part[1:] for part in parts), strict=True)]
    return Moves(n, *joined), log_w


def moves_of(seen: Seen, child: Tensor, parents: Tensor, near_by: float) -> Moves:
    cells, weighed = seen
    walk, of = cells.walk, cells.row
    b, v = walk.members.shape
    segment, _ = segment_of(cells, parents)
    on = child == walk.t
    best = row_max(weighed.others.amax(1), of, weighed.in_order)
    keep = weighed.others >= (best - near_by)[of][:, None]
    off = (~on).nonzero()[:, 0]
    keep[segment[off], child[off]] = True
    near, j = keep.nonzero(as_tuple=True)
    row = of[near]
    one = torch.nn.functional.one_hot(j, v).bool()
    late, sinks = walk.late()[row] | one, (walk.sinks[row] & ~cells.covered[near]) | one
    rows = ((weighed.in_order >= best - near_by) | on).nonzero()[:, 0]
    t, late_on = next_in_order(walk.members, walk.t)
    sinks_on = torch.zeros_like(late_on)
    move = torch.cat([row, rows])
    base = torch.cat([cells.base[near, j], cells.in_order[rows]])
    number = torch.cat([near * v + j, torch.full((len(rows),), -1)])
    is_taken = torch.where(number < 0, on[move], ~on[move] & (number == (segment * v + child)[move]))
    order = move.argsort(stable=True)
    is_taken = is_taken[order]
    whole = cells.in_order - cells.log_q[cells.whole, walk.t]
    return Moves(
        b,
        move[order],
        base[order],
        torch.cat([walk.t[row], t[rows]])[order],
        torch.cat([late, late_on[rows]])[order],
        torch.cat([sinks, sinks_on[rows]])[order],
        is_taken.nonzero()[:, 0],
        torch.where(on, whole, (cells.base - cells.log_q)[segment, child]),
    )


def batch_loss(by: Corrections, moves: Moves, which: Tensor, v: int) -> tuple[Tensor, Tensor]:
    """Of trajectories `which` (b,): the loss, and (b,) log w up to a constant."""
    keep = torch.zeros(moves.n, dtype=torch.bool)
    keep[which] = True
    place = torch.full((moves.n,), -1, dtype=torch.int64)
    kept = keep.nonzero()[:, 0]
    b = len(kept)
    place[kept] = torch.arange(b)
    rows = keep[moves.move % moves.n].nonzero()[:, 0]
    move = moves.move[rows]
    state = (move // moves.n) * b + place[move % moves.n]
    guess = by.of(moves.t[rows], moves.late[rows].float(), moves.sinks[rows].float()).double()
    guess = guess * (moves.t[rows] < v)
    weight = moves.base[rows] + guess
    n = v * b
    best = torch.full((n,), -torch.inf, dtype=torch.float64).scatter_reduce_(
        0, state, weight.detach(), "amax"
    )
    y = torch.zeros(n, dtype=torch.float64).index_add(0, state, (weight - best[state]).exp()).log() + best
    at = torch.zeros(len(moves.move), dtype=torch.int64)
    at[rows] = torch.arange(len(rows))
    taken_at = at[moves.taken.view(v, moves.n)[:, kept]]  # (V, b)
    reached = (
        guess[taken_at] + moves.reached.view(v, moves.n)[:, kept]
    )  # log flow of what is reached, relative
    y = y.view(v, b)
    after = torch.cat([y[1:], y.new_zeros(1, b)])
    delta = after - reached
    log_w = delta.sum(0)
    centred = log_w - log_w.detach().median()
    huber = torch.nn.functional.huber_loss
    zero_ = torch.zeros_like
    loss = 2 * huber(centred, zero_(centred), delta=DELTA)
    loss = loss + STEP_SHARE * 2 * v * huber(delta, zero_(delta), delta=DELTA_STEP)
    return loss, log_w.detach()


def train(
    model: Ordered,
    graphs: Tensor,
    generator: torch.Generator,
    log: Callable[[int, list[Any]], None] | None = None,
) -> None:
    """By (n, V, V) graphs by places."""
    v = model.sums.n_variables
    parameters = list(model.corrections)
    for tensor in parameters:
        tensor.requires_grad_(True)
    of_net = list(model.corrections[-NET:])
    optimiser = Adam([(list(model.corrections[:-NET]), TABLE_RATE), (of_net, RATE)])
    total, done = ROUNDS * STEPS, 0
    for number in range(ROUNDS):
        n = OWN if number >= SMALL else OWN // 4
        some = torch.randint(len(graphs), (n,), generator=generator)
        temperature = (1.0, 1.3)[number % 2]
        sets = [
            collected(model, n, None, generator, temperature),
            collected(model, n, graphs[some], generator),
        ]
        if log is not None:
            log(number, sets)
        for _ in range(STEPS):
            optimiser.forget_gradients()
            for moves, _ in sets:
                which = torch.randperm(moves.n, generator=generator)[: BATCH // 2]
                loss, _ = batch_loss(model.corrections, moves, which, v)
                loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 20.0)
            optimiser.step(0.02 + 0.98 * (1 + math.cos(math.pi * done / total)) / 2)
            done += 1
    for tensor in parameters:
        tensor.requires_grad_(False)


def ways_into(graphs: Tensor) -> Tensor:
    """(V, B) the variable added at each step on the way into (B, V, V) DAGs by places, each graph's last sink removed first."""
    b, v, _ = graphs.shape
    place, row = torch.arange(v), torch.arange(b)
    members = torch.ones(b, v, dtype=torch.bool)
    found = []
    for _ in range(v):
        sinks = members & ~(graphs & members[:, None]).any(2)
        last = (sinks * (place + 1)).argmax(1)
        members[row, last] = False
        found.append(last)
    return torch.stack(found[::-1])

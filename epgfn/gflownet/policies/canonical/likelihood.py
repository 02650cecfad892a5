"""Corrections of greatest likelihood, for the graphs that chains have drawn.

Each graph has one way into it, so the likelihood of graphs is that of the choices along their ways, each one out of all that could be done:
a multinomial logit. In the numbers of `Corrections` that add up, all but the network's, its log is concave, so there is one best answer,
and a quasi-Newton method (L-BFGS; Liu & Nocedal, Mathematical Programming 45 (1989)) finds it whatever the corrections are: those of 170
nats, by which a chain of variables that turns round is thought too unlikely, as well as those of one. Gradient steps of a fixed size do not
get there. Ways share most of their states, so what is summed over is each distinct choice, times how often it was made.

How far numbers that few graphs tell of may go is chosen by graphs that are held out (`RIDGES`).

Choices far below the best are left out of a sum, until others are corrected and they come near: a few rounds of it. Then the policy
draws graphs of its own, which count as their weights R / p_T say: adaptive importance sampling (Cappe et al., Statistics and Computing
18 (2008)), which mends what chains met too seldom to tell.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from torch import Tensor

from epgfn.gflownet.policies.canonical.corrections import PAIRS, Corrections
from epgfn.gflownet.policies.canonical.learning import Moves, moves_of, ways_into
from epgfn.gflownet.policies.canonical.moments import first_left
from epgfn.gflownet.policies.canonical.ordered import Ordered
from epgfn.gflownet.policies.canonical.walk import Walk

MANY: Final = 8000
"""Distinct choices up to which it is done: more take too long, and say that graphs have too little in common."""
OWN_ROUNDS, ROUNDS_EACH, ITERATIONS = 4, 2, 200
OWN, MOST_WEIGHT = 1024, 20.0
"""Graphs of its own in a round, and as how many one of them may count."""
NEAR: Final = 150.0
"""Nats below the best up to which a choice counts in a round."""
RIDGES: Final = (30.0, 3.0, 0.3, 0.03)
"""Of half a number's square, in nats for all graphs together: what one of them has to say against before it is believed."""
HELD_OUT: Final = 0.25
"""Of the chains' graphs, to choose among the ridges."""
AT_ONCE: Final = 512

Floats = npt.NDArray[np.float64]


class Made(NamedTuple):
    """U distinct choices, by places: in states of `members` and `sinks` (U, V), those beyond the first place that is not in, the `child`
    (U,) was added with parents (U, V), of which only those among the sinks tell choices apart; `often` (U,) how often."""

    members: Tensor
    sinks: Tensor
    child: Tensor
    parents: Tensor
    often: Tensor


def made(graphs: Tensor, weight: Tensor) -> Made:
    """Along the ways into (n, V, V) bool graphs by places, each of which counts as (n,) `weight` of them."""
    n, v, _ = graphs.shape
    members, sinks = torch.zeros(2, n, v, dtype=torch.bool)
    row, place = torch.arange(n), torch.arange(v)
    parts = []
    for child in ways_into(graphs):
        parents = graphs[row, :, child]
        beyond = sinks & (place > first_left(members)[:, None])
        parts.append(
            (members.clone(), beyond, torch.nn.functional.one_hot(child, v).bool(), parents & beyond)
        )
        sinks = sinks & ~parents
        members[row, child] = sinks[row, child] = True
    joined = torch.cat([torch.cat(part, 1) for part in parts])
    found, which = torch.unique(joined, dim=0, return_inverse=True)
    count = torch.zeros(len(found), dtype=torch.float64).index_add_(0, which, weight.double().repeat(v))
    of, beyond, child, parents = torch.split(found, v, 1)
    return Made(of, beyond, child.long().argmax(1), parents, count)


@torch.no_grad()
def fitted(model: Ordered, graphs: Tensor, generator: torch.Generator) -> bool:
    """Sets the corrections of a model whose network says nothing, in place, by (n, V, V) bool graphs by places of the posterior. False, and
    nothing is done, where their ways have more than `MANY` distinct choices."""
    graphs, weight = graphs.clone(), torch.ones(len(graphs), dtype=torch.float64)
    choices = made(graphs, weight)
    if len(choices.child) > MANY:
        return False
    numbers, ridge = _chosen(model, graphs, generator)
    numbers = _fit(model, choices, numbers, ridge)
    of_chains = graphs
    for _ in range(OWN_ROUNDS):
        own, log_w = drawn(model, OWN, generator)
        some = of_chains[torch.randint(len(of_chains), (OWN,), generator=generator)]
        usual = log_weights(model, some).median()
        graphs = torch.cat([graphs, own])
        weight = torch.cat([weight, (log_w - usual).exp().clamp_max(MOST_WEIGHT)])
        choices = made(graphs, weight)
        if len(choices.child) > MANY:
            break
        numbers = _fit(model, choices, numbers, ridge)
    return True


def _chosen(model: Ordered, graphs: Tensor, generator: torch.Generator) -> tuple[Floats, float]:
    """Numbers, and the ridge under which graphs that were not fitted are most probable."""
    order = torch.randperm(len(graphs), generator=generator)
    n = int(HELD_OUT * len(order))
    held, others = order[:n], order[n:]
    choices = made(graphs[others], torch.ones(len(others), dtype=torch.float64))
    numbers = np.zeros(sum(_sizes(graphs.shape[1]).values()))
    found, least = (numbers, RIDGES[0]), np.inf
    for ridge in RIDGES:
        numbers = _fit(model, choices, numbers, ridge)
        more = float(log_weights(model, graphs[held]).mean())
        if more >= least:
            break
        found, least = (numbers, ridge), more
    return found


def _fit(model: Ordered, choices: Made, numbers: Floats, ridge: float) -> Floats:
    for _ in range(ROUNDS_EACH):
        problem = _problem(model, choices)
        numbers = _best(problem, numbers, ridge)
        _put(model.corrections, numbers, max(0.0, float((problem.features @ numbers).max())))
    return numbers


def drawn(model: Ordered, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(n, V, V) bool graphs by places of the policy's own, and (n,) float64 log R / p_T of each."""
    v, row = model.sums.n_variables, torch.arange(n)
    walk, graphs, log_w = (
        Walk(model.tables, n),
        torch.zeros(n, v, v, dtype=torch.bool),
        torch.zeros(n).double(),
    )
    for _ in range(v):
        taken = model.drawn(model.seen(walk), generator)
        log_w += taken.score - taken.log_pf
        graphs[row, :, taken.child] = taken.parents
        walk.advance(taken.child, taken.parents)
    return graphs, log_w


def log_weights(model: Ordered, graphs: Tensor) -> Tensor:
    """(n,) float64 log R / p_T of (n, V, V) bool graphs by places."""
    n, row = len(graphs), torch.arange(len(graphs))
    walk, log_w = Walk(model.tables, n), torch.zeros(n).double()
    for child in ways_into(graphs):
        parents = graphs[row, :, child]
        log_w += model.sums.score(child, parents) - model.log_pf(model.seen(walk), child, parents)
        walk.advance(child, parents)
    return log_w


class _Problem(NamedTuple):
    """Of C choices that count: the `state` (C,) they are in, ascending, their `base` (C,) nats, and which `moment` (C,) they lead to; the
    `first` (U,) of each state, `often` (U,) it was met, `taken` (M,) each moment was gone to, and (M, N) `features` of moments."""

    state: npt.NDArray[np.int64]
    base: Floats
    moment: npt.NDArray[np.int64]
    first: npt.NDArray[np.intp]
    often: Floats
    taken: Floats
    features: csr_matrix


def _problem(model: Ordered, choices: Made) -> _Problem:
    v, parts, count = choices.members.shape[1], [], 0
    for rows in torch.split(torch.arange(len(choices.child)), AT_ONCE):
        walk = Walk.at(model.tables, choices.members[rows], choices.sinks[rows])
        part = moves_of(model.seen(walk), choices.child[rows], choices.parents[rows], NEAR)
        parts.append(part._replace(move=part.move + int(rows[0]), taken=part.taken + count))
        count += len(part.move)
    moves = Moves(
        len(choices.child), *(torch.cat(field) for field in zip(*(p[1:] for p in parts), strict=True))
    )
    reached = torch.cat([moves.t[:, None], moves.late.long(), moves.sinks.long()], 1)
    moments, moment = torch.unique(reached, dim=0, return_inverse=True)
    often = _read(choices.often)
    state = _read(moves.move)
    return _Problem(
        state,
        _read(moves.base),
        _read(moment),
        np.searchsorted(state, np.arange(len(often))),
        often,
        np.bincount(_read(moment[moves.taken]), weights=often, minlength=len(moments)).astype(np.float64),
        _features(moments[:, 0], moments[:, 1 : v + 1].bool(), moments[:, v + 1 :].bool()),
    )


def _best(problem: _Problem, start: Floats, ridge: float) -> Floats:
    """(N,) numbers."""
    state, base, moment, first, often, taken, features = problem
    n = len(taken)

    def loss(numbers: Floats) -> tuple[float, Floats]:
        more = features @ numbers
        weight = base + more[moment]
        most = np.maximum.reduceat(weight, first)
        each = np.exp(weight - most[state])
        total = np.add.reduceat(each, first)
        value = often @ (np.log(total) + most) - taken @ more + ridge / 2 * (numbers @ numbers)
        of_moment = np.bincount(moment, weights=each * (often / total)[state], minlength=n) - taken
        return float(value / often.sum()), (features.T @ of_moment + ridge * numbers) / often.sum()

    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "maxcor": 20, "gtol": 1e-7}
    )
    return np.asarray(found.x, dtype=np.float64)


def _read(tensor: Tensor) -> npt.NDArray[Any]:
    """Of whatever device: the problem is solved on the CPU."""
    return tensor.cpu().numpy()


def _sizes(v: int) -> dict[str, int]:
    by_place = dict.fromkeys(("one", "cost", "costs"), (v + 1) * v)
    return {"none": v + 1, **by_place, **dict.fromkeys(PAIRS, v * v)}


def _features(t: Tensor, late: Tensor, sinks: Tensor) -> csr_matrix:
    """(M, N): which numbers add up to the correction of each moment, as `Corrections.of` adds them; none where all is done."""
    n, v = late.shape
    start, at = {}, 0
    for name, size in _sizes(v).items():
        start[name], at = at, at + size
    rows, columns = [torch.arange(n)], [start["none"] + t]
    row, e = late.nonzero(as_tuple=True)
    rows.append(row)
    columns.append(start["one"] + t[row] * v + e)
    row, k = sinks.nonzero(as_tuple=True)
    rows.append(row)
    columns.append(torch.where((sinks.sum(1) == 1)[row], start["cost"], start["costs"]) + t[row] * v + k)
    for name, these, those in zip(PAIRS, (late, late, sinks), (late, sinks, sinks), strict=True):
        row, a, b = (these[:, :, None] & those[:, None]).nonzero(as_tuple=True)
        rows.append(row)
        columns.append(start[name] + a * v + b)
    row, column = torch.cat(rows), torch.cat(columns)
    on = t[row] < v
    row, column = row[on], column[on]
    return csr_matrix((np.ones(len(row)), (_read(row), _read(column))), shape=(n, at))


def _put(by: Corrections, numbers: Floats, most: float) -> None:
    """All moments are lowered by the `most` that one was raised, which changes no choice between them, so that `bounded` bounds none that
    was met, and holds for the others as before."""
    at = 0
    for name, size in _sizes(by.cost.shape[1]).items():
        tensor = getattr(by, name)
        tensor.copy_(torch.from_numpy(numbers[at : at + size]).view(tensor.shape))
        at += size
    by.none.sub_(most)

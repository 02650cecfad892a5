"""Exact posteriors over DAGs for modular scores: the truth a learned model is compared with.

A score table holds log-scores phi_j(Pa) in nats, (V, K), column k for the parent set masks[k]; a set that is not
listed, or that scores -inf, is impossible. P(G) = prod_j exp phi_j(Pa_j) / Z, over all DAGs: the uniform prior over
DAGs (not over orders) times whatever modular prior the table holds.

Up to 5 variables every DAG is listed. Up to 14 the sums over DAGs run over *layers*: layer 1 holds the variables
without parents, layer t + 1 those whose parents lie in layers 1 .. t with at least one in layer t. Each DAG has exactly
one such layering, so with S the variables placed so far, R the last layer and T the next one,

    F(S + T, T) = sum over R within S of F(S, R) * prod_{j in T} alpha_j(S, R),
    alpha_j(S, R) = sum of exp phi_j(Pa) over Pa within S that meet R,         Z = sum over R of F(all, R).

Every term is positive, so nothing cancels: posteriors that span hundreds of nats keep full float64 precision, which
inclusion-exclusion over sinks (Tian & He, UAI 2009) cannot promise. A backward sum over the same states gives
P(Pa_j = Pa) for all j and Pa in one pass. Time O(4^V), memory O(3^V + V^2 2^V). Layers: Kuipers & Moffa,
"Partition MCMC for inference on acyclic digraphs", JASA 112 (2017); Talvitie, Vuoksenmaa & Koivisto, UAI 2019.

    table = score_table(study, records)
    marginals = edge_marginals(table, parent_masks(V, max_parents))      # [i, j] = P(i -> j)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.gflownet.measure.distances import l1 as l1
from epgfn.gflownet.measure.distances import total_variation as total_variation
from epgfn.gflownet.measure.ranks import mean_ranks
from epgfn.gflownet.spaces.parent_sets import parent_matrix, popcount

MAX_ENUMERATED = 5
MAX_VARIABLES = 14
_TOGETHER = 1 << 18
"""Numbers that a step works with at once, about: what a processor's cache holds."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


# --- every DAG, listed ------------------------------------------------------------------------------------------------


def enumerate_dags(n_variables: int, max_parents: int | None = None) -> Tensor:
    """All DAGs on `n_variables` <= 5 labelled variables: (D, V, V) bool, [d, i, j] = edge i -> j in DAG d.

    D is 1, 3, 25, 543, 29281 for V = 1 .. 5 unless `max_parents` leaves out those with a larger parent set. The order
    is fixed: the empty graph first.

    Raises:
        UsageError: more than 5 variables.
    """
    if not 1 <= n_variables <= MAX_ENUMERATED:
        raise UsageError(
            f"listing every DAG takes 1 to {MAX_ENUMERATED} variables, not {n_variables}; "
            f"edge marginals are exact up to {MAX_VARIABLES}"
        )
    others = n_variables - 1
    code = np.arange(1 << (n_variables * others))  # `others` bits a child
    parents = np.empty((n_variables, len(code)), dtype=np.int64)
    for j in range(n_variables):
        bits = (code >> (j * others)) & ((1 << others) - 1)
        low = bits & ((1 << j) - 1)
        parents[j] = low | ((bits ^ low) << 1)  # leave a gap where the child itself would be
    left = np.full(len(code), (1 << n_variables) - 1)
    for _ in range(n_variables):  # take away what has no parents left; a cycle never goes
        free = sum(((parents[j] & left) == 0) << j for j in range(n_variables))
        left &= ~free
    keep = torch.from_numpy(parents[:, left == 0])  # (V, D)
    if max_parents is not None:
        keep = keep[:, (popcount(keep) <= max_parents).all(0)]
    return parent_matrix(keep.T.contiguous(), n_variables).transpose(1, 2).contiguous()


def log_scores(table: Tensor, masks: Tensor, adjacency: Tensor) -> Tensor:
    """Sum_j phi_j(Pa_j) in nats of each graph: `adjacency` (B, V, V) bool -> (B,) float64; -inf where impossible."""
    column, found = table_columns(masks, adjacency)
    local = table.double()[torch.arange(len(table)), column]
    return local.masked_fill(~found, -torch.inf).sum(1)


def table_columns(masks: Tensor, adjacency: Tensor) -> tuple[Tensor, Tensor]:
    """Where the scores of graphs stand in a table: `adjacency` (B, V, V) bool -> column of each variable's parent set, (B, V) int64,
    and whether that set is one of the `masks` (K,), (B, V) bool; the column means nothing where it is not."""
    bits = torch.ones((), dtype=torch.int64) << torch.arange(adjacency.shape[-1])
    parents = (adjacency.to(torch.int64) * bits[:, None]).sum(1)  # (B, V)
    ordered, position = torch.sort(masks)
    place = torch.searchsorted(ordered, parents).clamp(max=len(masks) - 1)
    return position[place], ordered[place] == parents


def posterior(table: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Every DAG within the table's fan-in and its exact probability, for V <= 5.

    Returns:
        adjacency (D, V, V) bool in the order of `enumerate_dags`, and p (D,) float64, which sums to one.

    Raises:
        UsageError: more than 5 variables. EpgfnError: no DAG is possible, or a score is NaN or +inf.
    """
    adjacency = enumerate_dags(table.shape[0], int(popcount(masks).max()))
    scores = log_scores(table, masks, adjacency)
    if not bool((scores < torch.inf).all()) or not bool((scores > -torch.inf).any()):
        raise EpgfnError(
            "the scores give no distribution over DAGs: one is not a number, or none is finite; score again"
        )
    return adjacency, torch.softmax(scores, 0)


# --- sums over layers -------------------------------------------------------------------------------------------------


def edge_marginals(table: Tensor, masks: Tensor) -> Floats:
    """Exact P(i -> j) for all ordered pairs at once: (V, V) float64, [i, j], zero diagonal.

    Args:
        table: (V, K) log-scores in nats; masks: (K,) int64 parent sets.

    Raises:
        UsageError: more than 14 variables. EpgfnError: no DAG is possible, or a score is NaN or +inf.
    """
    local = _local_marginals(_Layers.of(table, masks))  # (V, 2^V)
    sets = np.arange(local.shape[1])
    held = np.stack([local[:, (sets >> i & 1) == 1].sum(1) for i in range(len(local))])
    clipped: Floats = np.clip(held, 0.0, 1.0)  # rounding may leave 1 + 1e-13
    return clipped


def local_marginals(table: Tensor, masks: Tensor) -> Floats:
    """Exact P(Pa_j = masks[k]) for all variables and parent sets: (V, K) float64; each row sums to one.

    Raises:
        UsageError: more than 14 variables. EpgfnError: no DAG is possible, or a score is NaN or +inf.
    """
    picked: Floats = _local_marginals(_Layers.of(table, masks))[:, masks.numpy()]
    return picked


def log_partition(table: Tensor, masks: Tensor) -> float:
    """log Z = log sum over DAGs of prod_j exp phi_j(Pa_j), in nats, for V <= 14. Errors as `edge_marginals`."""
    layers = _Layers.of(table, masks)
    return layers.log_z + float(layers.shift.sum())


def marginals_and_log_partition(table: Tensor, masks: Tensor) -> tuple[Floats, float]:
    """`local_marginals` and `log_partition` for little more than one of them. Errors as there."""
    layers = _Layers.of(table, masks)
    return _local_marginals(layers)[:, masks.numpy()], layers.log_z + float(layers.shift.sum())


def marginals_and_dags(table: Tensor, masks: Tensor, n: int, seed: int) -> tuple[Floats, Tensor]:
    """`local_marginals` and `sample_dags` for little more than one of them. Errors as there."""
    layers = _Layers.of(table, masks)
    return _local_marginals(layers)[:, masks.numpy()], _sample(layers, n, np.random.default_rng(seed))


def sample_dags(table: Tensor, masks: Tensor, n: int, seed: int) -> Tensor:
    """`n` independent exact draws from the posterior: (n, V, V) bool, [., i, j] = edge i -> j; V <= 14.

    Layers are drawn last to first, each from its exact conditional, then each parent set given its layers. The same
    seed gives the same graphs. Errors as `edge_marginals`.
    """
    return _sample(_Layers.of(table, masks), n, np.random.default_rng(seed))


def _log_sum(values: Floats, axis: int) -> Floats:
    """Log of the sum of exponentials along `axis`; -inf where all are."""
    top = values.max(axis=axis, keepdims=True)
    top[np.isneginf(top)] = 0.0
    with np.errstate(divide="ignore"):
        total: Floats = np.log(np.exp(values - top).sum(axis=axis)) + top.squeeze(axis)
    return total


def _log_add_at(total: Floats, index: Ints, values: Floats) -> None:
    """Add `values`, which are logs as `total` is, to it at `index`, where some may be the same."""
    index, values = index.ravel(), values.ravel()
    some, back = np.unique(index, return_inverse=True)
    top = total[some]
    np.maximum.at(top, back, values)
    top[np.isneginf(top)] = 0.0
    each = np.exp(total[some] - top)
    each += np.bincount(back, np.exp(values - top[back]), len(some))
    with np.errstate(divide="ignore"):
        total[some] = np.log(each) + top


def _subsets(members: Ints) -> Ints:
    """All 2^m subsets of (B, m) members as bitmasks, (B, 2^m); bit r of the position says whether members[:, r] is in."""
    out = np.zeros((len(members), 1), dtype=np.int64)
    for i in members.T:
        out = np.concatenate([out, out | (1 << i)[:, None]], axis=1)
    return out


@dataclass(frozen=True)
class _Step:
    """What follows B sets S of s variables, c others each: log alpha_j(S, R), and log P[R, T] = sum_{j in T} log alpha_j(S, R)."""

    placed: Ints  # (B,)
    inside: Ints  # (B, s) members of S
    outside: Ints  # (B, c) the others
    last: Ints  # (B, 2^s) the candidates R
    alpha: Floats  # (B, c, 2^s)

    def next_layers(self) -> tuple[Ints, Floats]:
        """The non-empty candidates T, (B, 2^c - 1), and log P, (B, 2^s, 2^c - 1)."""
        c = self.outside.shape[1]
        log_p = np.empty((*self.last.shape, 1 << c))
        log_p[:, :, 0] = 0.0
        for r in range(c):
            np.add(log_p[:, :, : 1 << r], self.alpha[:, r, :, None], out=log_p[:, :, 1 << r : 2 << r])
        return _subsets(self.outside)[:, 1:], log_p[:, :, 1:]


@dataclass(frozen=True)
class _Layers:
    """The sums over layers. A state (S, R) sits at ternary[S] + ternary[R]: digit 2 in R, 1 in S but not R, 0 outside."""

    scores: Floats  # (V, 2^V), largest of each row shifted to 0
    shift: Floats  # (V,)
    cover: Floats  # (V, V, 2^V): [i, j, U] = log sum of exp phi_j(Pa) over Pa within U that hold i
    ternary: Ints  # (2^V,)

    @classmethod
    def of(cls, table: Tensor, masks: Tensor) -> _Layers:
        n_variables = table.shape[0]
        if n_variables > MAX_VARIABLES:
            raise UsageError(
                f"exact sums over DAGs take at most {MAX_VARIABLES} variables, not {n_variables}; "
                "draw samples from the model and count edges instead"
            )
        size, sets = 1 << n_variables, np.arange(1 << n_variables)
        scores = np.full((n_variables, size), -np.inf)
        scores[:, masks.numpy()] = table.double().numpy()
        for j in range(n_variables):
            scores[j, (sets >> j & 1) == 1] = -np.inf
        shift = scores.max(axis=1)
        if not np.isfinite(shift).all():  # NaN and +inf also end up in the maximum
            raise EpgfnError(
                "the scores give no distribution over DAGs: one is not a number, or none is finite; score again"
            )
        scores -= shift[:, None]
        cover = np.stack([np.where(sets >> i & 1, scores, -np.inf) for i in range(n_variables)])
        for i in range(n_variables):  # sum over subsets, one variable at a time
            halves = cover.reshape(n_variables, n_variables, -1, 2, 1 << i)
            halves[..., 1, :] = np.logaddexp(halves[..., 1, :], halves[..., 0, :])
        ternary = sum((sets >> i & 1) * 3**i for i in range(n_variables))
        return cls(scores, shift, cover, np.asarray(ternary, dtype=np.int64))

    @property
    def n_variables(self) -> int:
        return len(self.scores)

    @property
    def everything(self) -> int:
        return (1 << self.n_variables) - 1

    def steps(self) -> Iterator[Ints]:
        """All sets S but the whole, small ones first, as many of a size together as memory should hold."""
        sets = np.arange(self.everything)
        size = sum(sets >> i & 1 for i in range(self.n_variables))
        most = max(1, _TOGETHER >> self.n_variables)
        for s in range(self.n_variables):
            alike = sets[size == s]
            yield from (alike[start : start + most] for start in range(0, len(alike), most))

    def step(self, placed: Ints) -> _Step:
        """Of (B,) sets of one size. alpha_j(S, .) by doubling: Pa meets R + i if it meets R, or holds i and nothing of R."""
        holds = (placed[:, None] >> np.arange(self.n_variables) & 1) == 1
        inside, outside = (which.nonzero()[1].reshape(len(placed), -1) for which in (holds, ~holds))
        last = np.zeros((len(placed), 1), dtype=np.int64)
        alpha = np.full((*outside.shape, 1), -np.inf)
        alpha[placed == 0] = self.scores[outside[placed == 0], :1]
        for i in inside.T:
            at = (i[:, None, None], outside[:, :, None], (placed[:, None] ^ last)[:, None])
            alpha = np.concatenate([alpha, np.logaddexp(alpha, self.cover[at])], axis=2)
            last = np.concatenate([last, last | (1 << i)[:, None]], axis=1)
        return _Step(placed, inside, outside, last, alpha)

    def at(self, step: _Step) -> Ints:
        """Where the states (S, R) of a step sit, (B, 2^s)."""
        return np.asarray(self.ternary[step.placed][:, None] + self.ternary[step.last])

    @cached_property
    def forward(self) -> Floats:
        """log F(S, R) for all 3^V states."""
        log_f = np.full(3**self.n_variables, -np.inf)
        log_f[0] = 0.0
        for placed in self.steps():  # S + T is larger than S, so S is complete when its turn comes
            step = self.step(placed)
            layers, log_p = step.next_layers()
            log_p += log_f[self.at(step)][:, :, None]
            log_f[self.ternary[placed][:, None] + 2 * self.ternary[layers]] = _log_sum(log_p, axis=1)
        return log_f

    @cached_property
    def final(self) -> Floats:
        """log F(all, R) for each R, (2^V,); not all -inf."""
        log_f: Floats = self.forward[self.ternary[-1] + self.ternary]
        if np.isneginf(log_f).all():
            raise EpgfnError(
                "no DAG has a finite score: every choice of parent sets closes a cycle; allow more parent sets"
            )
        return log_f

    @cached_property
    def log_z(self) -> float:
        """log Z of the shifted scores."""
        return float(_log_sum(self.final, axis=0))


def _local_marginals(layers: _Layers) -> Floats:
    """P(Pa_j = Pa), (V, 2^V), by the backward sum and the reverse of the steps that built alpha."""
    n, log_z, ternary = layers.n_variables, layers.log_z, layers.ternary
    log_b = np.zeros(3**n)
    reach = np.full_like(layers.cover, -np.inf)  # log of d log Z / d cover
    log_q = np.full_like(layers.scores, -np.inf)  # log of d log Z / d exp phi_j(Pa)
    flat = reach.reshape(-1)
    for placed in reversed(list(layers.steps())):
        step = layers.step(placed)
        next_layers, log_w = step.next_layers()
        log_w += log_b[ternary[placed][:, None] + 2 * ternary[next_layers]][:, None]
        here = layers.at(step)
        top = log_w.max(axis=2)  # (B, 2^s)
        top[np.isneginf(top)] = 0.0
        log_w -= top[:, :, None]
        weight = np.exp(log_w, out=log_w)  # (B, 2^s, 2^c - 1)
        holds = (next_layers[:, :, None] >> step.outside[:, None] & 1).astype(np.float64)  # (B, 2^c - 1, c)
        with np.errstate(divide="ignore"):
            log_b[here] = np.log(weight.sum(axis=2)) + top
            # The log of the sum of P(S, R, T) over T that hold j, (B, c, 2^s).
            log_g = np.log((weight @ holds).transpose(0, 2, 1))
        log_g += (layers.forward[here] + top - log_z)[:, None]
        log_g -= np.where(np.isneginf(step.alpha), 0.0, step.alpha)
        if not step.inside.shape[1]:
            log_q[step.outside[0], 0] = log_g[0, :, 0]
        for r in range(step.inside.shape[1] - 1, -1, -1):
            old, new = log_g[:, :, : 1 << r], log_g[:, :, 1 << r :]
            row = (step.inside[:, r, None] * n + step.outside)[:, :, None] << n
            _log_add_at(flat, row + (placed[:, None] ^ step.last[:, : 1 << r])[:, None], new)
            log_g = np.logaddexp(old, new)
    for i in range(n):  # sum over supersets
        halves = reach.reshape(n, n, -1, 2, 1 << i)
        halves[..., 0, :] = np.logaddexp(halves[..., 0, :], halves[..., 1, :])
    sets = np.arange(1 << n)
    for i in range(n):
        has = (sets >> i & 1) == 1
        log_q[:, has] = np.logaddexp(log_q[:, has], reach[i][:, has])
    out: Floats = np.exp(layers.scores + log_q)
    total = out.sum(axis=1, keepdims=True)
    # Sums of float64 scores are off by some 2e-16 of the largest: a millionth of a nat where scores span 1e9.
    largest = np.abs(layers.scores, where=np.isfinite(layers.scores), out=np.zeros_like(layers.scores)).max()
    if np.abs(total - 1.0).max() > 1e-8 + 1e-14 * largest:
        raise EpgfnError(
            "the exact parent-set probabilities do not sum to one; please report this with the size of the study"
        )
    return np.asarray(out / total)


def _sample(layers: _Layers, n: int, rng: np.random.Generator) -> Tensor:
    v = layers.n_variables
    parents = np.zeros((n, v), dtype=np.int64)
    layer = _draw(layers.final[None], rng, np.zeros(n, dtype=np.int64))
    placed = layers.everything & ~layer  # what comes before `layer`
    while placed.any():
        last = np.zeros_like(layer)
        for before in np.unique(placed[placed > 0]):
            step = layers.step(np.asarray([before], dtype=np.int64))
            rows = np.nonzero(placed == before)[0]
            holds = (layer[rows, None] >> step.outside[0] & 1) == 1  # (b, c)
            kinds, back = np.unique(holds, axis=0, return_inverse=True)
            log_p = layers.forward[layers.at(step)] + np.stack(
                [step.alpha[0, kind].sum(axis=0) for kind in kinds]
            )
            last[rows] = step.last[0, _draw(log_p, rng, back.reshape(-1))]
        for j in range(v):
            rows = np.nonzero((layer >> j & 1 == 1) & (placed > 0))[0]
            parents[rows, j] = _draw_parents(layers.scores[j], placed[rows], last[rows], rng)
        layer, placed = last, placed & ~last
    return parent_matrix(torch.from_numpy(parents), v).transpose(1, 2).contiguous()


def _draw_parents(scores: Floats, placed: Ints, last: Ints, rng: np.random.Generator) -> Ints:
    """One parent set within `placed` that meets `last` for each row, in proportion to exp(scores)."""
    sets = np.nonzero(np.isfinite(scores))[0]
    out = np.empty(len(placed), dtype=np.int64)
    pairs, back = np.unique(np.stack([placed, last], axis=1), axis=0, return_inverse=True)
    for r, (within, meets) in enumerate(pairs):
        rows = np.nonzero(back.reshape(-1) == r)[0]
        allowed = sets[((sets & ~within) == 0) & ((sets & meets) != 0)]
        out[rows] = allowed[_draw(scores[allowed][None], rng, np.zeros(len(rows), dtype=np.int64))]
    return out


def _draw(log_weights: Floats, rng: np.random.Generator, rows: Ints) -> Ints:
    """For each entry b of `rows` one index m with probability proportional to exp(log_weights[rows[b], m])."""
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    below = np.cumsum(weights, axis=1)
    out = np.empty(len(rows), dtype=np.int64)
    for row in np.unique(rows):
        here = rows == row
        out[here] = np.searchsorted(below[row], rng.random(int(here.sum())) * below[row, -1], side="right")
    return out


# --- how far off ------------------------------------------------------------------------------------------------------


def edge_errors(estimate: Floats, exact: Floats) -> tuple[float, float]:
    """Mean and largest |estimate - exact| over the ordered pairs i != j of two (V, V) matrices of edge probabilities."""
    off_diagonal = ~np.eye(len(exact), dtype=bool)
    errors = np.abs(estimate - exact)[off_diagonal]
    return float(errors.mean()), float(errors.max())


def auroc(scores: Floats, truth: npt.NDArray[Any]) -> float:
    """Chance that a true edge scores higher than a false one, ties counting half, over the ordered pairs i != j.

    Args:
        scores: (V, V), [i, j] for i -> j; truth: (V, V), non-zero for a true edge.

    Returns:
        A number in [0, 1]; NaN if there is no true or no false edge.
    """
    off_diagonal = ~np.eye(len(truth), dtype=bool)
    true = np.asarray(truth, dtype=bool)[off_diagonal]
    positive, negative = int(true.sum()), int((~true).sum())
    if not positive or not negative:
        return float("nan")
    ranks = mean_ranks(np.asarray(scores)[off_diagonal])
    return float((ranks[true].sum() - positive * (positive + 1) / 2) / (positive * negative))

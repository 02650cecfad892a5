"""The policy for DAGs grown by sinks: a score table, an exact order potential, and a small network for the rest.

    log p_F(j, Pa | S, G_S) = phi_j(Pa) + L(S + j) - L(S) - log #sinks(after) + r(S, sinks, j, Pa)  + const,

    phi_j(Pa)  the local score table (V, K) the model carries; a constant per variable cancels, so rows have maximum 0;
    L(S)       order potential: log of the sum, over all orders of the variables outside S, of the product over j of
               sum_{Pa within predecessors} exp phi_j(Pa). Dynamic programming over subsets (`subset_potential`, which says
               what it takes), recomputed from phi in float64 and not sent.
    r          network of (S, sinks): a term per variable j, per edge (i, j) and per pair (i, i') of parents that are
               sinks, and per number of sinks covered.

Without r this samples the order-modular posterior; r learns the few nats that counting linear extensions costs. Why
(S, sinks) is enough: with p_B = 1 / #sinks the exact flow is F(S, G_S) = exp(sum_j phi_j) g(S, sinks), so the exact
p_F(j, Pa | S, G_S) = exp(phi_j(Pa)) g(S + j, sinks - Pa + j) / (#sinks(after) g(S, sinks)), which depends on Pa, beyond phi,
only through the parents that are sinks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Self

import torch
from torch import Tensor

from epgfn.base.errors import RefusedError
from epgfn.gflownet.policies.base import Choices
from epgfn.gflownet.policies.bounds import bounded
from epgfn.gflownet.policies.mlp import LAYERS, mlp, mlp_init, mlp_spec
from epgfn.gflownet.policies.sink_net import n_outputs
from epgfn.gflownet.policies.spec import TensorSpec
from epgfn.gflownet.policies.subset_potential import order_potential
from epgfn.gflownet.policies.validation import MAX_SCORE
from epgfn.gflownet.spaces.base import distinct, pack_bits, take
from epgfn.gflownet.spaces.dag_by_sinks import DagBySinks, Legal, State, Subsets

SCORES = "score_table"
QUICK = 4096.0
"""Nats up to which float32 is near enough for a policy's choices; what a target is made of is float64 always."""


def spec(space: DagBySinks, hidden: int) -> dict[str, TensorSpec]:
    """Tensors of one model: the score table and the network."""
    return {SCORES: table_spec(space), **mlp_spec(space.n_features, hidden, n_outputs(space))}


def table_spec(space: DagBySinks) -> TensorSpec:
    """Of the scores in a model file: (V, K), or where the space has rules (M,), those of the `admissible` sets, row by row."""
    if space.rules is None:
        return TensorSpec((space.n_variables, space.n_sets), "float64", older="float32")
    return TensorSpec((int(space.admissible.sum()),), "float64")


def stored(space: DagBySinks, table: Tensor) -> Tensor:
    """A (V, K) table as a model file holds it."""
    return table if space.rules is None else table[space.admissible]


def scores_of(space: DagBySinks, held: Tensor) -> Tensor:
    """The (V, K) table of what a model file holds. Where the space has rules, what they bar is -inf, and the table float64; where it has
    none, what a variable has as its own parent is whatever stands there."""
    if space.rules is None:
        return held
    table = torch.full(space.admissible.shape, -torch.inf, dtype=torch.float64, device=held.device)
    return table.masked_scatter(space.admissible.to(held.device), held.double())


def normalise_table(space: DagBySinks, table: Tensor) -> Tensor:
    """Finite form of a float64 (V, K) table: each row's admissible maximum 0, all other entries 0.

    It stays float64: two graphs that differ by a nat may both lie n times the mutual information below the row maxima, where
    float32 would lose that nat from some 30,000 records on. What lies more than `MAX_SCORE` nats below is put there: it is never drawn
    either way, and a sum of several nodes' tables stays a model that `check_tensors` takes, whatever one of them has sent.
    """
    legal = space.admissible
    table = table.masked_fill(~legal, -torch.inf)
    below = (table - table.amax(1, keepdim=True)).clamp(min=-MAX_SCORE)
    return below.masked_fill(~legal, 0.0)


def check_scores(space: DagBySinks, tensors: Mapping[str, Tensor]) -> None:
    """Entries of the score table that are not admissible are 0: one policy has one file, and nothing can be hidden in them. Where the
    space has rules, there are no such entries.

    Raises:
        RefusedError: `model-illegal-score`.
    """
    if space.rules is None and bool(tensors[SCORES].masked_select(~space.admissible).any()):
        message = "the model's score table holds a score for a variable as its own parent; train it again"
        raise RefusedError("model-illegal-score", message)


def initial_tensors(
    space: DagBySinks, hidden: int, table: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """A fresh model around a (V, K) table of scores (nats, float64)."""
    net = mlp_init(space.n_features, hidden, n_outputs(space), generator)
    return {SCORES: stored(space, normalise_table(space, table)), **net}


def distinct_rows(bits: Tensor) -> tuple[Tensor, Tensor]:
    """(D,) int64 one row of each kind among (B, n) bool, and (B,) int64 which of those D each row is."""
    return distinct(pack_bits(bits))


def quick(scores: Tensor) -> Tensor:
    """`scores` float64 nats for looking up: float32 where that costs no number more than 2^-12 nats."""
    largest = scores.masked_fill(scores == -torch.inf, 0.0).abs().max()
    return scores.float() if float(largest) <= QUICK else scores


class OrderPotential:
    """N models evaluated together; see the module for the equation."""

    def __init__(self, space: DagBySinks, models: Sequence[Mapping[str, Tensor]]) -> None:
        self.space = space
        self.n_models = len(models)
        self.scores = torch.stack([scores_of(space, m[SCORES]).double() for m in models])  # (N, V, K)
        self.quick_scores = quick(self.scores)
        self.potential = self._potential()
        names = [name for name in models[0] if name != SCORES]
        self.weights = {name: torch.stack([m[name] for m in models]) for name in names}
        self._bits = 1 << torch.arange(space.n_variables)
        self._held: dict[int, tuple[Tensor, Tensor]] = {}
        self._splits = [
            space.n_variables,
            space.n_variables**2,
            space.n_variables**2,
            space.n_variables * (space.max_parents + 1),
        ]

    def _potential(self) -> Tensor:
        """L, (N, 2^V) float64."""
        return torch.stack([order_potential(self.space, table) for table in self.scores])

    def of_model(self, model: int) -> Self:
        """One of the models by itself, without working out its potential again; it shares the tensors."""
        one, row = copy(self), slice(model, model + 1)
        one.n_models, one.scores, one.potential = 1, self.scores[row], self.potential[row]
        one.quick_scores = quick(one.scores)
        one.weights = {name: weight[row] for name, weight in self.weights.items()}
        return one

    def untrained(self) -> Self:
        """The same without r: it draws every graph, in proportion to its score and to how many orders of the variables it allows, so
        that no weight of its samples towards the score is large."""
        one = copy(self)
        last = f"net.{LAYERS - 1}"
        one.weights = {
            name: torch.zeros_like(weight) if name.startswith(last) else weight.detach().clone()
            for name, weight in self.weights.items()
        }
        return one

    def parameters(self) -> list[Tensor]:
        return list(self.weights.values())

    def tensors(self, model: int = 0) -> dict[str, Tensor]:
        net = {name: w[model].detach().clone() for name, w in self.weights.items()}
        return {SCORES: stored(self.space, self.scores[model]).clone(), **net}

    def choices(self, state: State) -> Choices:
        """Nothing but S and its sinks matters, so where a batch meets few of those pairs each is evaluated once."""
        first, row = distinct_rows(torch.cat([state.members, state.sinks], 1))
        if 2 * len(first) > len(row):
            return self._choices(state)
        found = self._choices(take(state, first))
        return Choices(found.action[row], found.log_prob[:, row])

    def _choices(self, state: State) -> Choices:
        space, legal = self.space, self.space.legal(state)
        mask = (state.members * self._bits).sum(1)
        grown = mask[:, None] | self._bits[legal.candidates]  # (B, J)
        potential = self.potential[:, grown] - self.potential[:, mask].unsqueeze(-1)  # (N, B, J)
        sinks = state.sinks.gather(1, legal.members).float()  # (B, s)
        covered = sinks @ self._matrices(legal.subsets)[0].T  # (B, M) number of parents that are sinks
        after = state.sinks.sum(1, keepdim=True) - covered + 1
        action = legal.candidates[:, :, None] * space.n_sets + legal.sets[:, None]  # (B, J, M)
        phi = self.quick_scores.flatten(1)[:, action]
        guess = (phi + potential.unsqueeze(-1).to(phi.dtype)).float() - after.log()[:, None]
        logits = guess + self._residual(state, legal, sinks, covered)  # (N, B, J, M)
        return Choices(action.flatten(1), logits.flatten(2).log_softmax(2))

    def _residual(self, state: State, legal: Legal, sinks: Tensor, covered: Tensor) -> Tensor:
        """r, (N, B, J, M). `sinks` (B, s) and `covered` (B, M) as in `choices`; the net speaks of all V variables, and
        what concerns this state's members and candidates is picked from it."""
        space, subsets = self.space, legal.subsets
        matrix, holds_pair = self._matrices(subsets)
        n, b, v = self.n_models, len(sinks), space.n_variables
        output = bounded(mlp(self.weights, space.features(state)))
        variable, edge, pair, count = torch.split(output, self._splits, -1)
        row, j = torch.arange(b)[:, None], legal.candidates  # (B, 1), (B, J)
        first, second = (legal.members[:, index] for index in subsets.pair_index)  # (B, P) each
        both = sinks[:, subsets.pair_index[0]] * sinks[:, subsets.pair_index[1]]
        pairs = (pair.view(n, b, v, v)[:, row, first, second] * both) @ holds_pair.T  # (N, B, M)
        edges = edge.view(n, b, v, v)[
            :, row[:, :, None], j[:, :, None], legal.members[:, None]
        ]  # (N, B, J, s)
        per_count = count.view(n, b, v, -1)[:, row, j]  # (N, B, J, R + 1)
        counted = per_count.gather(3, covered.long()[:, None].expand(n, b, j.shape[1], -1))  # (N, B, J, M)
        linear = (edges * sinks[:, None]) @ matrix.T
        return variable[:, row, j].unsqueeze(-1) + linear + counted + pairs.unsqueeze(2)

    def _matrices(self, subsets: Subsets) -> tuple[Tensor, Tensor]:
        """(M, s) and (M, s(s-1)/2) float32: which members, and which pairs of members, each parent set holds."""
        size = len(subsets.holding)
        if size not in self._held:
            rows = [torch.zeros(len(m), size).scatter_(1, m, 1.0) for m in subsets.members]
            matrix = torch.cat(rows)
            first, second = subsets.pair_index
            self._held[size] = matrix, matrix[:, first] * matrix[:, second]
        return self._held[size]

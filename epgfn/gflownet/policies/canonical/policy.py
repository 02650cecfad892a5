"""The policy for DAGs by sinks of many variables: of a graph's sinks the one last in a reference order is removed, so there is one way into
each graph, p_B = 1, and log p_T(G) = log p_F of that way, exactly.

    log p_F(j, Pa | s) = phi_j(Pa) + log F(s after) - log of the sum of that over all choices,

phi the score table that the model carries, and F what going on in order is worth (`cells`), corrected by what was learned (`corrections`).
Whatever they are, it is a distribution over all that may be done.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError
from epgfn.gflownet.policies.base import Choices
from epgfn.gflownet.policies.canonical import corrections
from epgfn.gflownet.policies.canonical.barred import in_order, least_explored, unlikely
from epgfn.gflownet.policies.canonical.corrections import Corrections
from epgfn.gflownet.policies.canonical.few import prepared
from epgfn.gflownet.policies.canonical.learning import learned
from epgfn.gflownet.policies.canonical.ordered import Ordered
from epgfn.gflownet.policies.canonical.set_sums import SetSums
from epgfn.gflownet.policies.canonical.tables import Tables
from epgfn.gflownet.policies.canonical.walk import Walk
from epgfn.gflownet.policies.order_potential import SCORES, normalise_table, scores_of, stored, table_spec
from epgfn.gflownet.policies.spec import TensorSpec
from epgfn.gflownet.spaces.base import take
from epgfn.gflownet.spaces.dag_by_last_sink import DagByLastSink
from epgfn.gflownet.spaces.dag_by_sinks import DagBySinks, State

if TYPE_CHECKING:
    from epgfn.gflownet.sampling.rollout import Evaluated, Rollout, Trajectories

ORDER: Final = "reference_order"
PREFIX: Final = "flow."
REMEMBERED, ROOM = 2, 1 << 29
"""Sums of parent sets that are kept, those of the models used last, which take several times as much memory as a model: of so many models,
and of others in so many bytes."""

TRIES: Final = 50
"""How often graphs are drawn for those that the space's rules bar."""
BLOCK: Final = 1 << 20
"""Numbers of one kind worked out at a time."""

_tables: OrderedDict[bytes, Tables] = OrderedDict()


def spec(space: DagBySinks, hidden: int) -> dict[str, TensorSpec]:
    """Tensors of one model: the score table (V, K), each variable's place in the order, and the corrections."""
    v = space.n_variables
    return {
        SCORES: table_spec(space),
        ORDER: TensorSpec((v,), "float32"),
        **{PREFIX + name: entry for name, entry in corrections.spec(v, hidden).items()},
    }


def initial_tensors(
    space: DagBySinks, hidden: int, table: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """A model around a (V, K) table of scores (nats, float64): its order is found by chains, and its corrections are taught by them."""
    scores = normalise_table(space, table)
    rank, tensors = learned(space, scores.masked_fill(~space.admissible, -torch.inf), hidden, generator)
    return {
        SCORES: stored(space, scores),
        ORDER: rank.float(),
        **{PREFIX + name: tensor for name, tensor in tensors.items()},
    }


class Canonical:
    """N models side by side, each with an order of its own; `ways` is the state graph of the first."""

    def __init__(self, space: DagBySinks, models: Sequence[Mapping[str, Tensor]]) -> None:
        self.space, self.n_models = space, len(models)
        self.scores = torch.stack([scores_of(space, m[SCORES]).double() for m in models])  # (N, V, K)
        self.order = torch.stack([m[ORDER] for m in models])  # (N, V)
        self.weights = {
            name: torch.stack([m[PREFIX + name] for m in models]) for name in Corrections._fields
        }  # each (N, ...)
        ranks = self.order.argsort(dim=1, stable=True).argsort(dim=1)
        self.ranks = torch.stack([in_order(space, rank) for rank in ranks])
        self._keys = [_key(space, *each) for each in zip(self.scores, self.ranks, strict=True)]
        self.ways = DagByLastSink(space.n_variables, space.max_parents, self.ranks[0])

    def alone(self, model: int) -> Canonical:
        """One of the models by itself."""
        return Canonical(self.space, [self.tensors(model)])

    def parameters(self) -> list[Tensor]:
        return list(self.weights.values())

    def tensors(self, model: int = 0) -> dict[str, Tensor]:
        learned = {PREFIX + name: weight[model].detach().clone() for name, weight in self.weights.items()}
        return {
            SCORES: stored(self.space, self.scores[model]).clone(),
            ORDER: self.order[model].clone(),
            **learned,
        }

    def ordered(self, model: int) -> Ordered:
        """The choices of one of the models."""
        key = self._keys[model]
        if key not in _tables:
            table = unlikely(self.space, self.scores[model])
            while len(_tables) >= REMEMBERED and sum(kept.n_bytes for kept in _tables.values()) > ROOM:
                _tables.popitem(last=False)
            _tables[key] = prepared(SetSums(table, self.ranks[model], self.space.max_parents))
        _tables.move_to_end(key)
        by = Corrections(*(weight[model] for weight in self.weights.values()))
        return Ordered(_tables[key], by, least_explored(self.space))

    def sample(
        self, n: int, *, generator: torch.Generator, temperature: float = 1.0, exploration: float = 0.0
    ) -> Rollout[State]:
        """As `rollout.sample`, which calls this. Parents that no flow depends on are drawn as they are. Where the space has rules, what
        they bar is drawn anew: log p_F is then that of the graphs that are left up to a constant, the log of their share.

        Raises:
            EpgfnError: the rules bar nearly all that is drawn.
        """
        from epgfn.gflownet.sampling.replay import side_by_side  # which needs `rollout`

        found = self._drawn(n, generator, temperature, exploration)
        if self.space.rules is None:
            return found
        kept, count = [], 0
        for _ in range(TRIES):
            rows = self.space.rules.admits(found.trajectories.final.adjacency).nonzero()[: n - count, 0]
            kept.append(_rows(found, rows))
            count += len(rows)
            if count == n:
                return reduce(side_by_side, kept)
            found = self._drawn(n, generator, temperature, exploration)
        raise EpgfnError(
            "the model draws next to nothing but graphs that the study rules out; train it again"
        )

    def _drawn(
        self, n: int, generator: torch.Generator, temperature: float, exploration: float
    ) -> Rollout[State]:
        """Whatever the space's rules say."""
        from epgfn.gflownet.sampling.rollout import Evaluated, Rollout, Trajectories  # which needs policies

        space, model, rank = self.space, self.ordered(0), self.ranks[0]
        state, row = space.initial(n), torch.arange(n)
        variable = rank.argsort()
        parts = _sizes(space, n)
        walks = [Walk(model.tables, size) for size in parts]
        states, actions, log_pf, log_q = [], [], [], torch.zeros(n, dtype=torch.float64)
        for _ in range(space.n_variables):
            drawn = []
            for walk in walks:
                drawn.append(model.drawn(model.seen(walk), generator, temperature, exploration))
                walk.advance(drawn[-1].child, drawn[-1].parents)
            child = variable[torch.cat([taken.child for taken in drawn])]
            parents = torch.cat([taken.parents for taken in drawn])[:, rank]
            states.append(state)
            actions.append(child * space.n_sets + space.set_number(parents))
            log_pf.append(torch.cat([taken.log_pf for taken in drawn]))
            log_q += torch.cat([taken.log_q for taken in drawn]).detach()
            adjacency = state.adjacency.clone()
            adjacency[row, :, child] = parents
            new = torch.nn.functional.one_hot(child, space.n_variables).bool()
            state = State(state.members | new, (state.sinks & ~parents) | new, adjacency)
        steps = torch.stack(actions)
        trajectories = Trajectories(
            tuple(states), steps, torch.ones_like(steps, dtype=torch.bool), torch.zeros(steps.shape), state
        )
        own = torch.stack(log_pf)[None].float()
        if self.n_models > 1:
            others = [self._log_pf(i, trajectories) for i in range(1, self.n_models)]
            own = torch.cat([own, torch.stack(others).float()])
        return Rollout(trajectories, Evaluated(own, None), log_q.float())

    def evaluate(self, trajectories: Trajectories[State]) -> Evaluated:
        """As `rollout.evaluate`, which calls this: -inf for what is not the one way into its graph under a model's order."""
        from epgfn.gflownet.sampling.rollout import Evaluated

        log_pf = [self._log_pf(i, trajectories) for i in range(self.n_models)]
        return Evaluated(torch.stack(log_pf).float(), None)

    def choices(self, state: State) -> Choices:
        legal = self.space.legal(state)
        action = legal.candidates[:, :, None] * self.space.n_sets + legal.sets[:, None]
        if not legal.candidates.shape[1]:
            return Choices(action.flatten(1), torch.zeros(self.n_models, *action.flatten(1).shape))
        parents = self.space.parents[legal.sets]  # (B, M, V)
        found = []
        for i, rank in enumerate(self.ranks):
            variable, model = rank.argsort(), self.ordered(i)
            seen = model.seen(Walk.at(model.tables, state.members[:, variable], state.sinks[:, variable]))
            found.append(model.listed(seen, rank[legal.candidates], parents[:, :, variable]))
        return Choices(action.flatten(1), torch.stack(found).float().flatten(2))

    def totals(self, state: State) -> Tensor:
        """(N, B) float64: the probabilities of all that may be done in each state, added up; 1 in finished ones."""
        found = []
        for i, rank in enumerate(self.ranks):
            variable, model = rank.argsort(), self.ordered(i)
            seen = model.seen(Walk.at(model.tables, state.members[:, variable], state.sinks[:, variable]))
            found.append(model.totals(seen))
        return torch.where(state.members.all(1), 1.0, torch.stack(found))

    def _log_pf(self, number: int, trajectories: Trajectories[State]) -> Tensor:
        """(T, B) float64."""
        model, rank = self.ordered(number), self.ranks[number]
        variable, steps = rank.argsort(), trajectories.actions.shape[0]
        child = rank[trajectories.actions // self.space.n_sets]
        parts, start = [], 0
        for size in _sizes(self.space, child.shape[1]):
            rows = slice(start, start + size)
            walk, found = Walk(model.tables, size), []
            for step in range(steps):
                parents = self.space.parents[trajectories.actions[step, rows] % self.space.n_sets][
                    :, variable
                ]
                found.append(model.log_pf(model.seen(walk), child[step, rows], parents))
                walk.advance(child[step, rows], parents)
            parts.append(torch.stack(found))
            start += size
        return torch.cat(parts, 1)


def _rows(of: Rollout[State], rows: Tensor) -> Rollout[State]:
    """Some of the trajectories (M,)."""
    (states, actions, active, log_pb, final), evaluated, log_q = of
    kept = of.trajectories._replace(
        states=tuple(take(state, rows) for state in states),
        actions=actions[:, rows],
        active=active[:, rows],
        log_pb=log_pb[:, rows],
        final=take(final, rows),
    )
    return of._replace(
        trajectories=kept,
        evaluated=evaluated._replace(log_pf=evaluated.log_pf[:, :, rows]),
        log_q=log_q[rows],
    )


def _sizes(space: DagBySinks, n: int) -> list[int]:
    """Rows that are worked out together."""
    most = max(1, BLOCK // space.n_variables**2)
    return [min(most, n - start) for start in range(0, n, most)]


def _key(space: DagBySinks, scores: Tensor, rank: Tensor) -> bytes:
    digest = hashlib.sha256(f"{scores.device} {space.max_parents} ".encode())
    for tensor in (scores, rank):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()

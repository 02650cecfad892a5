"""The policy for rooted trees of many leaves: from the top, with a sparse table of splits, one way into each tree.

    log p_F(split s of C | split t above C) = phi(s) + psi(t, s) + log F(s) - log F(C | t),

    phi       a score for each split (a clade and how it parts) in the table, and psi for pairs of a split and one right below it;
    F(s)      the product of what either part is then worth, F(C | t) the sum over splits of C in the table,

mixed with a small share of splits as they are where all trees are as probable, which is all there is for clades that the table does not
have. So every tree has a probability, log p_T(tree) = log p_F of its splits, exactly, and where the table has all of them
log p_T(tree) = sum of phi and psi - log Z, nearly. Scores come from Markov chains (`learning`). Conditional clade distributions: Hoehna &
Drummond, Syst. Biol. 61 (2012); Larget, Syst. Biol. 62 (2013); with pairs, subsplit Bayesian networks: Zhang & Matsen, NeurIPS 2018.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from epgfn.base.lazily import Lazy
from epgfn.gflownet.measure.tree_chains import Parts, ScoredMoves, TreeMoves
from epgfn.gflownet.policies.base import Choices
from epgfn.gflownet.policies.spec import TensorSpec
from epgfn.gflownet.policies.split_table import tables
from epgfn.gflownet.spaces.phylogeny import Phylogeny, State
from epgfn.gflownet.spaces.phylogeny_from_top import MAX_LISTED, PhylogenyFromTop

if TYPE_CHECKING:
    from epgfn.gflownet.policies.split_table import kernels
    from epgfn.gflownet.policies.split_table.kernels import Floats, Ints, Tables, Words
    from epgfn.gflownet.sampling.rollout import Evaluated, Rollout, Trajectories
else:
    kernels = Lazy("epgfn.gflownet.policies.split_table.kernels")

ANY: Final = 1e-4
"""The share of splits of a clade in the table that are drawn as if all trees were as probable."""
FEW: Final = 7
"""Leaves of a clade up to which all of its splits are listed as choices: 63."""
ANOTHER: Final = 0
"""No action; stands for all that are not listed."""
TOUCH: Final = 5
"""Steps of training after chains have taught a model: there is little left to learn."""
REMEMBERED: Final = 8

_ready: OrderedDict[bytes, Tables] = OrderedDict()


def spec(space: Phylogeny, hidden: int) -> dict[str, TensorSpec]:
    """Tensors of one model, whatever `hidden`."""
    return tables.spec(space)


def initial_tensors(space: Phylogeny) -> dict[str, Tensor]:
    """A model without a table: all trees are as probable."""
    return {name: torch.zeros(entry.shape) for name, entry in tables.spec(space).items()}


class SplitTable:
    """N models side by side, all of which split clades in the same order: `ways` is the state graph of each."""

    def __init__(self, space: Phylogeny, models: Sequence[Mapping[str, Tensor]]) -> None:
        self.space, self.n_models = space, len(models)
        self.ways = PhylogenyFromTop(space.n_leaves)
        self._models = [{name: tensor.detach() for name, tensor in model.items()} for model in models]
        self._score = torch.stack([model[tables.SCORE] for model in models]).clone()
        self._pair_score = torch.stack([model[tables.PAIR_SCORE] for model in models]).clone()

    def alone(self, model: int) -> SplitTable:
        """One of the models by itself."""
        return SplitTable(self.space, [self.tensors(model)])

    def parameters(self) -> list[Tensor]:
        return [self._score, self._pair_score]

    def tensors(self, model: int = 0) -> dict[str, Tensor]:
        found = {name: tensor.clone() for name, tensor in self._models[model].items()}
        found[tables.SCORE] = self._score[model].detach().clone()
        found[tables.PAIR_SCORE] = self._pair_score[model].detach().clone()
        return found

    def error(self, model: int = 0) -> float:
        """Nats that the model says it is off by."""
        return float(self._models[model][tables.ERROR][0])

    def tables(self, model: int = 0) -> Tables:
        """With their flows."""
        key = self._digest(model)
        if key not in _ready:
            found = tables.read(self.space, self.tensors(model))
            kernels.fill_flows(found)
            while len(_ready) >= REMEMBERED:
                _ready.popitem(last=False)
            _ready[key] = found
        _ready.move_to_end(key)
        return _ready[key]

    def _digest(self, model: int) -> bytes:
        tensors, digest = self.tensors(model), hashlib.sha256(str(self.space.n_leaves).encode())
        for name in sorted(tensors):
            digest.update(tensors[name].cpu().numpy().tobytes())
        return digest.digest()

    def moves(self) -> TreeMoves:
        """Of Markov chains on the product of all models."""
        ready = [self.tables(number) for number in range(self.n_models)]
        name = b"".join(self._digest(number) for number in range(self.n_models))

        def score(parts: Parts) -> Floats:
            total: Floats = np.sum([log_probs(one, parts).sum(1) for one in ready], axis=0)
            return total

        return ScoredMoves(self.space.n_leaves, score, name)

    def log_prob(self, state: State, model: int = 0) -> Tensor:
        """(B,) float64 log p_T of finished trees."""
        return _here(log_probs(self.tables(model), Parts.of(state)).sum(1))

    def sample(
        self, n: int, *, generator: torch.Generator, temperature: float = 1.0, exploration: float = 0.0
    ) -> Rollout[State]:
        """As `rollout.sample`, which calls this."""
        from epgfn.gflownet.sampling.rollout import Rollout, Trajectories  # which needs policies

        seed = int(torch.randint(1 << 62, (1,), generator=generator))
        random, leaves = np.random.default_rng(seed), self.space.n_leaves
        nodes, clades = np.zeros((n, leaves), np.uint64), np.zeros((n, leaves), np.uint64)
        actions, log_q = np.zeros((leaves - 1, n), np.int64), np.zeros(n)
        kernels.draw(self.tables(), ANY, temperature, exploration, random, nodes, clades, actions, log_q)
        final = State(_here(nodes.view(np.int64)), _here(clades.view(np.int64)))
        steps = _here(actions)
        state, states = self.ways.initial(n), []
        for action in steps:
            states.append(state)
            state = self.ways.step(state, action)
        active = torch.ones_like(steps, dtype=torch.bool)
        trajectories = Trajectories(tuple(states), steps, active, torch.zeros(steps.shape), final)
        return Rollout(trajectories, self.evaluate(trajectories), _here(log_q).float())

    def evaluate(self, trajectories: Trajectories[State]) -> Evaluated:
        """As `rollout.evaluate`, which calls this. All of a trajectory's gradient, less what all trees in the table share, is in its
        first step; what the small share of other splits changes in it is left out."""
        from epgfn.gflownet.sampling.rollout import Evaluated

        parts = Parts.of(trajectories.final)
        order = _here(_order_of(parts.whole))
        found = []
        for number in range(self.n_models):
            ready = self.tables(number)
            steps = _here(log_probs(ready, parts)).gather(1, order).T
            if torch.is_grad_enabled() and self._score.requires_grad:
                worth = self._worth(ready, number, parts)
                steps = torch.cat([steps[:1] + (worth - worth.detach()), steps[1:]])
            found.append(steps)
        return Evaluated(torch.stack(found).float(), None)

    def choices(self, state: State) -> Choices:
        """Splits in the table, and all others of a clade of no more than `FEW` leaves; of a larger one all others as one, `ANOTHER`."""
        turn = self.ways.turn(state).cpu().numpy().view(np.uint64)
        above_all = list(zip(*self._above(state, turn), strict=True))
        each = [
            [self._listed(number, word, above) for word, above in zip(turn, above_all, strict=True)]
            for number in range(self.n_models)
        ]
        names = [sorted(set().union(*(rows[b] for rows in each))) for b in range(len(turn))]
        width = max(1, max(len(name) for name in names))
        action = torch.full((len(turn), width), ANOTHER, dtype=torch.int64)
        log_prob = torch.full((self.n_models, len(turn), width), -torch.inf)
        for b, listed in enumerate(names):
            if not listed:  # finished
                log_prob[:, b, 0] = 0.0
                continue
            action[b, : len(listed)] = torch.tensor(listed)
            for number in range(self.n_models):
                log_prob[number, b, : len(listed)] = torch.tensor(
                    [math.log(each[number][b].get(name, 0.0) or 1e-300) for name in listed]
                )
        return Choices(action, log_prob)

    def _listed(self, model: int, word: np.uint64, above: tuple[np.uint64, np.uint64]) -> dict[int, float]:
        """Probabilities of the splits of a clade below the split `above` (clade and second part, zeros at the root), by action."""
        ready, size = self.tables(model), int(word).bit_count()
        if size < 2:
            return {}
        number = kernels.number_of(word, ready.clade, ready.slots)
        parts: list[int] = []
        if number >= 0:
            parts = [int(part) for part in ready.right[ready.first[number] : ready.first[number + 1]]]
        if size <= FEW or size <= MAX_LISTED >= self.space.n_leaves:
            bits = [1 << leaf for leaf in range(64) if int(word) >> leaf & 1][1:]
            parts = [
                sum(bit for k, bit in enumerate(bits) if pick >> k & 1) for pick in range(1, 1 << len(bits))
            ]
        if not parts:
            return {ANOTHER: 1.0}
        rows = np.array(parts, np.uint64)
        whole = np.stack([np.full(len(rows), word), np.full(len(rows), above[0])], 1)
        right = np.stack([rows, np.full(len(rows), above[1])], 1)
        parent = np.tile(np.array([1 if above[0] else -1, -1], np.int32), (len(rows), 1))
        if not above[0]:
            whole, right, parent = whole[:, :1], right[:, :1], parent[:, :1]
        parted = Parts(np.ascontiguousarray(whole), np.ascontiguousarray(right), parent)
        log_prob = log_probs(ready, parted)[:, 0]
        found = {part >> 1: float(p) for part, p in zip(parts, np.exp(log_prob), strict=True)}
        rest = 1.0 - sum(found.values())
        return found if rest < 1e-9 else {**found, ANOTHER: rest}

    def _above(self, state: State, turn: Words) -> tuple[Words, Words]:
        """The split right above each clade of `turn`, by its clade and second part."""
        nodes, clades = (np.ascontiguousarray(field.cpu().numpy()).view(np.uint64) for field in state)
        over, part = np.empty_like(turn), np.empty_like(turn)
        kernels.right_above(turn, nodes, clades, over, part)
        return over, part

    def totals(self, state: State) -> Tensor:
        """(N, B) float64: the probabilities of all that may be done in each state, added up; 1 in finished ones."""
        turn = self.ways.turn(state).cpu().numpy().view(np.uint64)
        above = self._above(state, turn)
        found = np.empty((self.n_models, len(turn)))
        for number in range(self.n_models):
            kernels.totals(turn, *above, self.tables(number), ANY, found[number])
        return _here(found)

    def _worth(self, ready: Tables, model: int, parts: Parts) -> Tensor:
        """(B,) float32 sums of the model's scores of what its table has of each tree, differentiable."""
        rows, pairs = rows_of(ready, parts)
        split, pair = _here(rows), _here(pairs)
        score = torch.where(split >= 0, self._score[model][split.clamp_min(0)], 0.0)
        pair_score = torch.where(pair >= 0, self._pair_score[model][pair.clamp_min(0)], 0.0)
        return score.sum(1) + pair_score.sum(1)


def log_probs(ready: Tables, parts: Parts) -> Floats:
    """(B, n - 1) log p_F of each split, in the order given."""
    out = np.empty(parts.whole.shape)
    kernels.log_prob(*parts, ready, ANY, out)
    return out


def rows_of(ready: Tables, parts: Parts) -> tuple[Ints, Ints]:
    """(B, n - 1) int64 each: rows of the splits, and of their pairs with the splits above them; -1 for what the table has not."""
    rows, pairs = (np.empty(parts.whole.shape, np.int64) for _ in range(2))
    kernels.find_rows(*parts, ready, rows, pairs)
    return rows, pairs


def _here(array: Any) -> Tensor:
    """On PyTorch's default device; what is compiled computes in main memory."""
    return torch.from_numpy(array).to(torch.get_default_device())


def _order_of(whole: Words) -> Ints:
    """(B, n - 1) int64: the order in which clades are split, smallest first leaf first, then the largest."""
    smallest = np.bitwise_count((whole & (~whole + np.uint64(1))) - np.uint64(1)).astype(np.int64)
    order: Ints = np.argsort(smallest * 65 + 64 - np.bitwise_count(whole), axis=1, kind="stable")
    return order

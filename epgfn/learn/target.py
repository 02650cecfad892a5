"""What one party's records amount to in a study, whatever it is about: the log-reward that its model is trained towards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError
from epgfn.base.files import sha256_hex
from epgfn.gflownet.measure.tree_chains import Parts, TreeMoves
from epgfn.learn.likelihoods import likelihood_of
from epgfn.learn.policy import family_of
from epgfn.learn.scores import imputed, score_table
from epgfn.learn.shared import statistic_of
from epgfn.study import Study
from epgfn.study.objects import space_of
from epgfn.study.parameters import is_shared
from epgfn.targets.additive import Additive


class Target(NamedTuple):
    """`table` (V, K) float64 local scores of graphs; for other objects None, and `log_reward` takes finished states to (B,) float64.
    `digest` tells targets apart. All in nats, the party's share of the prior included. `moves`: of Markov chains on it, where the study's
    policy is taught by them. `statistic`: what is sent beside the policy where all sites share their parameters. `notes`: for the node's
    own people."""

    table: Tensor | None
    log_reward: Callable[[Any], Tensor]
    digest: str
    moves: TreeMoves | None = None
    statistic: Mapping[str, Tensor] = MappingProxyType({})
    notes: tuple[str, ...] = ()

    @classmethod
    def of_table(cls, table: Tensor, statistic: Mapping[str, Tensor] = MappingProxyType({})) -> Target:
        """From (V, K) scores as `score_table` gives them."""
        return cls(table, _no_reward, _digest(table), None, statistic)

    @classmethod
    def of_answers(cls, space: Any, objects: Any, log_likelihood: Tensor) -> Target:
        """From (M,) float64 nats for each of the finished states `objects` of `space`, which are all there are."""
        return cls(None, ListedReward(space, objects, log_likelihood), _digest(log_likelihood))


def target_of(study: Study, records: Tensor | np.ndarray) -> Target:
    """The target of one node's records, as `epgfn.study.records.tables.load_records` gives them.

    Raises:
        UsageError, EpgfnError: a setting the target refuses, or scores that are not finite.
    """
    parties = len(study.roster)
    found = torch.as_tensor(records)
    if study.data.missing == "impute" and bool(found.isnan().any()):
        filled = imputed(study, found, parties)
        return Target.of_table(filled.table)._replace(notes=(filled.in_words(study),))
    if study.target_kind.is_modular:
        statistic = statistic_of(study, found) if is_shared(study) else {}
        return Target.of_table(score_table(study, found, n_parties=parties), statistic)
    space, together = space_of(study), study.target_kind.together
    moves = study.target_kind.moves
    if moves is not None and family_of(study).by_chains is not None:
        chains: TreeMoves = moves(study, found)
        return Target(None, partial(of_trees, chains), _digest(found), chains)
    if together is not None:
        return Target(None, together(study, space, found), _digest(found))
    additive = Additive.compressed(likelihood_of(study, space).per_record, found, n_parties=parties)
    return Target(None, additive.log_reward, _digest(found))


def of_trees(moves: TreeMoves, state: Any) -> Tensor:
    """(B,) float64 log-rewards (nats) of finished trees, as chains have them."""
    return torch.from_numpy(moves.log_reward(Parts.of(state))).to(torch.get_default_device())


class ListedReward:
    """A log-reward that is looked up: `values` (M,) of the finished states `objects`. Where every state may stop, an unfinished
    one is worth what stopping there is."""

    def __init__(self, space: Any, objects: Any, values: Tensor) -> None:
        self.space = space
        self._values = values.double()
        names = _names(space.key(objects))
        self._order = np.argsort(names)
        self._names = names[self._order]

    def __call__(self, state: Any) -> Tensor:
        """(B,) float64.

        Raises:
            EpgfnError: a state that is no object of the space.
        """
        if self.space.stop_action is not None:
            stop = torch.full((len(state[0]),), self.space.stop_action)
            state = self.space.step(state, stop)
        names = _names(self.space.key(state))
        at = np.searchsorted(self._names, names).clip(max=len(self._names) - 1)
        if not bool((self._names[at] == names).all()):
            raise EpgfnError("an object was asked for that the answers do not cover")
        return self._values[torch.as_tensor(self._order[at], device=self._values.device)]


def _names(keys: Tensor) -> Any:
    """(M,) one comparable number or byte string a row of (M, words) int64 keys."""
    rows = np.ascontiguousarray(keys.cpu().numpy())
    return rows[:, 0] if rows.shape[1] == 1 else rows.view(np.dtype((np.void, rows.shape[1] * 8)))[:, 0]


def _no_reward(state: Any) -> Tensor:
    raise RuntimeError("a target with a table has no other reward")


def _digest(numbers: Tensor) -> str:
    return sha256_hex(numbers.detach().cpu().contiguous().numpy().tobytes())

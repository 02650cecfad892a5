"""Made-up records of a study and the exact posteriors they give: what `epgfn.privacy.of_study.planning` simulates in.

worlds = worlds_of(study)
sites = worlds.draw(n, parties, rng)                     records of each node
parts = [worlds.exact(records) for records in sites]     what each node says; these add up
worlds.posterior(parts)                                  of all objects, and of the questions about them
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from epgfn.gflownet.measure.distances import exact_distribution
from epgfn.gflownet.measure.exact import MAX_ENUMERATED, edge_marginals
from epgfn.gflownet.measure.listed_dags import ListedDags
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.spaces.base import take
from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from epgfn.learn.likelihoods import likelihood_of
from epgfn.learn.scores import admissible, categories_of, prior_table, score_table, study_masks
from epgfn.learn.shared import pooled
from epgfn.privacy.mechanisms.discrete import Floats
from epgfn.privacy.of_study.networks import DiscreteNetwork, GaussianNetwork
from epgfn.privacy.of_study.releases import Released
from epgfn.study import Study
from epgfn.study.objects import questions, space_of
from epgfn.study.parameters import is_shared
from epgfn.study.records.tables import BoundedRecords

_NUMBERS = 1 << 21  # held at once
_LEAST = 1e-300


class Posterior(NamedTuple):
    """`objects` (M,) probabilities, or None where they are not listed; `answers` (Q,) the probability of each question."""

    objects: Floats | None
    answers: Floats


class SyntheticData(Protocol):
    """One study's made-up worlds. A *part* is what one node says: of one kind of study, they combine."""

    @property
    def objects(self) -> int | None:
        """How many there are, where they are listed."""
        ...

    def draw(self, n: int, parties: int, rng: np.random.Generator) -> list[Any]:
        """`n` records of each node, all from one true object."""
        ...

    def bounded(self, records: Any) -> BoundedRecords:
        """As a node reads them."""
        ...

    def exact(self, records: Any) -> Any:
        """The part of records without noise."""
        ...

    def released(self, done: Released) -> Any:
        """The part that a release amounts to."""
        ...

    def posterior(self, parts: list[Any]) -> Posterior:
        """Of nodes that say so."""
        ...

    def prior(self, parties: int) -> Posterior:
        """What is believed where so many nodes of the roster say nothing."""
        ...


def worlds_of(study: Study) -> SyntheticData:
    """For a study whose target is a sum over records, or a score of graphs."""
    return _Graphs(study) if study.target_kind.likelihood is None else _Summed(study)


class _Summed:
    """Objects that are listed, and records each of which says something about every one."""

    def __init__(self, study: Study) -> None:
        self.study, self.space = study, space_of(study)
        self.likelihood = likelihood_of(study, self.space)
        self.levels = explore(self.space)
        self.state = terminating_states(self.space, self.levels)
        self._answers = questions(study, self.state).answers
        self._count = len(self.state[0])
        self._said = None
        if self.likelihood.find is not None:
            self._said = self.likelihood.per_record(self.likelihood.domain(), self.state).double()  # (C, M)

    @property
    def objects(self) -> int:
        return self._count

    def draw(self, n: int, parties: int, rng: np.random.Generator) -> list[Tensor]:
        true = take(self.state, torch.tensor([int(rng.integers(self._count))]))
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        return [self.likelihood.draw(true, n, generator) for _ in range(parties)]

    def bounded(self, records: Tensor) -> BoundedRecords:
        return BoundedRecords(records.numpy(), records.numpy())

    def exact(self, records: Tensor) -> Tensor:
        if self._said is not None and self.likelihood.find is not None:
            return (
                torch.bincount(self.likelihood.find(records), minlength=len(self._said)).double() @ self._said
            )
        rows = max(1, _NUMBERS // self._count)
        parts = [
            self.likelihood.per_record(some, self.state).double().sum(0)
            for some in torch.split(records, rows)
        ]
        return torch.stack(parts).sum(0)

    def released(self, done: Released) -> Tensor:
        if done.tensors is not None:
            policy = make_policy(self.space, [done.tensors])
            return terminating_mass(self.space, policy, self.levels).mass.clamp_min(_LEAST).log()
        if done.target is None:
            raise ValueError("a release is a target or a model")
        return done.target.log_reward(self.state)

    def posterior(self, parts: list[Tensor]) -> Posterior:
        p = exact_distribution(torch.stack(parts).sum(0))
        columns = max(1, _NUMBERS // self._count)
        answers = torch.cat([p @ some.double() for some in torch.split(self._answers, columns, dim=1)])
        return Posterior(p.numpy(), answers.numpy())

    def prior(self, parties: int) -> Posterior:
        return self.posterior([torch.zeros(self._count, dtype=torch.float64)])


class _Part(NamedTuple):
    """What one node says of graphs: a (V, K) `table`, and where all sites share their parameters what adds up to the pooled one: its
    `records`, or its release's `statistic`."""

    table: Tensor
    records: Any = None
    statistic: Mapping[str, Tensor] | None = None


class _Graphs:
    """Graphs over numbers or categories, by the study's score; all of them are listed up to five variables."""

    def __init__(self, study: Study) -> None:
        self.study, v = study, len(study.variables)
        self.masks, self._rules = study_masks(study), space_of(study).rules
        self._off = ~np.eye(v, dtype=bool)
        self._listed = ListedDags(self.masks, v) if v <= MAX_ENUMERATED else None

    @property
    def objects(self) -> int | None:
        if self._listed is None:
            return None
        known = self.prior(1).objects
        return len(self._listed) if known is None else int((known > 0).sum())

    def draw(self, n: int, parties: int, rng: np.random.Generator) -> list[Any]:
        network: GaussianNetwork | DiscreteNetwork
        if self.study.columns.numeric:
            network = GaussianNetwork(len(self.study.variables), rng, self._rules)
        else:
            network = DiscreteNetwork(categories_of(self.study), rng, self._rules)
        return [network.draw(n, rng) for _ in range(parties)]

    def bounded(self, records: Any) -> BoundedRecords:
        return BoundedRecords(records, records)

    def exact(self, records: Any) -> _Part:
        return _Part(score_table(self.study, records, n_parties=len(self.study.roster)), records)

    def released(self, done: Released) -> _Part:
        if done.target is None or done.target.table is None:
            raise ValueError("a release about graphs is a table of scores")
        return _Part(done.target.table, statistic=done.target.statistic)

    def posterior(self, parts: list[_Part]) -> Posterior:
        table = self._together(parts)
        if self._listed is None:
            return Posterior(None, edge_marginals(table, self.masks)[self._off])
        p = self._listed.probabilities(table)
        return Posterior(p.numpy(), self._listed.edges(p).numpy()[self._off])

    def _together(self, parts: list[_Part]) -> Tensor:
        """(V, K) of all parts."""
        held = {
            node: part.statistic
            for node, part in zip(self.study.roster, parts, strict=False)
            if part.statistic
        }
        if is_shared(self.study) and len(parts) > 1:
            if held:
                return pooled(self.study, held).table
            if all(part.records is not None for part in parts):
                return score_table(self.study, np.concatenate([part.records for part in parts]), n_parties=1)
        return torch.stack([part.table for part in parts]).sum(0)

    def prior(self, parties: int) -> Posterior:
        share = prior_table(self.study) / len(self.study.roster)
        return self.posterior([_Part(share.masked_fill(~admissible(self.study), -torch.inf))] * parties)

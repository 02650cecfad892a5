"""What a node releases of its records in a study with privacy, and what a model is trained on then.

    maker = maker_of(study, node_id)
    maker.planned_claim                  the most it will cost, before any record is read
    raw = maker.observe(records)         draws noise: the only step that sees records
    done = maker.finish(raw)             the target to train on, or with DP-SGD the trained model itself; and the claim

One class a mechanism; `maker_of` chooses by the study's mode and target.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from epgfn.learn.likelihoods import likelihood_of
from epgfn.learn.policy import policy_spec
from epgfn.learn.scores import (
    of_sets,
    require_mean,
    table_from_moments,
    table_from_scores,
)
from epgfn.learn.shared import (
    counts_mechanism,
    moments_mechanism,
    public_number,
    statistic_of_release,
)
from epgfn.learn.target import Target
from epgfn.privacy.claims.claims import Claim
from epgfn.privacy.mechanisms.answers import AnswersMechanism
from epgfn.privacy.mechanisms.checks import check_bounds, check_radius
from epgfn.privacy.mechanisms.release import Values, pack, unpack
from epgfn.privacy.of_study.gradient_training import planned_claim, train_privately
from epgfn.sealing.model_file import read_model, write_model
from epgfn.study import Study
from epgfn.study.objects import space_of
from epgfn.study.parameters import is_shared
from epgfn.study.records.tables import BoundedRecords

Steps = Callable[[int, int], None]
"""Told (steps done, steps in all) where a release takes long: public numbers, nothing about records."""


class Released(NamedTuple):
    """`claim` of the release; what a model is trained towards, `target`, or the finished model, `tensors`; and the mechanism's own
    object, if it has one, `release`."""

    claim: Claim
    target: Target | None
    tensors: dict[str, Tensor] | None = None
    release: Any = None


class Maker(Protocol):
    """One mechanism with the study's settings."""

    name: str
    """Mechanism and version: it goes into what tells releases apart."""

    @property
    def planned_claim(self) -> Claim:
        """The most a release costs, known before any record is read."""
        ...

    def check(self, records: BoundedRecords) -> None:
        """Refuse what cannot give a sound release; see `epgfn.privacy.mechanisms.checks`."""
        ...

    def observe(self, records: BoundedRecords, steps: Steps | None = None) -> bytes:
        """The release, with fresh noise: all that is ever learned of the records. Each call spends epsilon anew."""
        ...

    def finish(self, raw: bytes) -> Released:
        """What `observe`d bytes amount to; needs no record and costs nothing."""
        ...


def maker_of(study: Study, node_id: str) -> Maker:
    """The mechanism of the study's mode and target, for one node of the roster.

    Raises:
        UsageError: the study's settings are out of a mechanism's range, or it does not say what is known of the mean.
    """
    require_mean(study)
    return MAKERS[study.mechanism](study, node_id)


def _asked(study: Study) -> dict[str, Any]:
    """What every mechanism takes from the study."""
    asked = study.privacy
    return {
        "epsilon": float(asked.epsilon or 0),
        "delta": float(asked.delta or 0),
        "adjacency": asked.adjacency,
    }


def _statistic(study: Study, outputs: tuple[Values, ...]) -> dict[str, Tensor]:
    """What is sent of a release beside the policy."""
    return statistic_of_release(study, outputs) if is_shared(study) else {}


def _bounds(study: Study) -> tuple[Any, Any]:
    lower, upper = ([getattr(v, name) for v in study.variables] for name in ("lower", "upper"))
    return np.array(lower, dtype=np.float64), np.array(upper, dtype=np.float64)


class _Moments:
    """Linear-Gaussian scores: n, sums (unless the mean is known) and X^T X with noise, in two stages."""

    def __init__(self, study: Study, node_id: str) -> None:
        self._study = study
        public = public_number(study, node_id)
        with_sums = study.needs_sums
        self.name = "moments-with-sums/1" if with_sums else "moments/1"
        self.mechanism = moments_mechanism(study, public)

    @property
    def planned_claim(self) -> Claim:
        return self.mechanism.planned_claim

    def check(self, records: BoundedRecords) -> None:
        check_bounds(records.raw, *_bounds(self._study))
        check_radius(records.scaled, self.mechanism.radius * len(self._study.variables) ** 0.5)

    def observe(self, records: BoundedRecords, steps: Steps | None = None) -> bytes:
        return pack(self.mechanism.observe(records.scaled))

    def finish(self, raw: bytes) -> Released:
        release = self.mechanism.finish(unpack(raw))
        table = table_from_moments(self._study, release.moments, len(self._study.roster))
        statistic = _statistic(self._study, unpack(raw))
        return Released(release.claim, Target.of_table(table, statistic), release=release)


class _Counts:
    """BDeu: contingency tables with noise."""

    name = "counts/1"

    def __init__(self, study: Study, node_id: str) -> None:
        self._study, public = study, public_number(study, node_id)
        self.mechanism = counts_mechanism(study, public)

    @property
    def planned_claim(self) -> Claim:
        return self.mechanism.planned_claim

    def check(self, records: BoundedRecords) -> None:
        """Every category is within the study's, or the file was refused."""

    def observe(self, records: BoundedRecords, steps: Steps | None = None) -> bytes:
        return pack(self.mechanism.observe(records.scaled))

    def finish(self, raw: bytes) -> Released:
        release = self.mechanism.finish(unpack(raw))
        size = self._study.target.sample_size
        scores = of_sets(self._study, lambda sets: release.bdeu(sets, size))
        table = table_from_scores(self._study, scores, len(self._study.roster))
        statistic = _statistic(self._study, unpack(raw))
        return Released(release.claim, Target.of_table(table, statistic), release=release)


class _Answers:
    """Sums over records: what they say about every object, with noise."""

    name = "answers/1"

    def __init__(self, study: Study, node_id: str) -> None:
        self._study, self._space = study, space_of(study)

    @cached_property
    def _objects(self) -> Any:
        return terminating_states(self._space, explore(self._space))

    @cached_property
    def mechanism(self) -> AnswersMechanism:
        found = likelihood_of(self._study, self._space)
        asked = _asked(self._study)
        return AnswersMechanism.for_domain(
            found.per_record,
            self._objects,
            found.domain(),
            asked.pop("epsilon"),
            asked.pop("delta"),
            unit=self._study.unit,
            find=found.find,
            mix=found.mix,
            **asked,
        )

    @property
    def planned_claim(self) -> Claim:
        return self.mechanism.planned_claim

    def check(self, records: BoundedRecords) -> None:
        if self._study.columns.numeric:
            check_bounds(records.raw, *_bounds(self._study))

    def observe(self, records: BoundedRecords, steps: Steps | None = None) -> bytes:
        return pack(self.mechanism.observe(torch.as_tensor(records.scaled)))

    def finish(self, raw: bytes) -> Released:
        release = self.mechanism.finish(unpack(raw))
        target = Target.of_answers(self._space, self._objects, release.log_likelihood)
        return Released(release.claim, target, release=release)


class _Gradient:
    """Sums over records, by DP-SGD: the release is the trained model."""

    name = "gradient/1"

    def __init__(self, study: Study, node_id: str) -> None:
        self._study = study
        self._seed = study.seed + 1 + study.roster.index(node_id)

    @cached_property
    def planned_claim(self) -> Claim:
        return planned_claim(self._study)

    def check(self, records: BoundedRecords) -> None:
        if self._study.columns.numeric:
            check_bounds(records.raw, *_bounds(self._study))

    def observe(self, records: BoundedRecords, steps: Steps | None = None) -> bytes:
        found = torch.as_tensor(records.scaled)
        asked = self._study.privacy
        tensors, _ = train_privately(
            self._study,
            found,
            epsilon=float(asked.epsilon or 0),
            delta=float(asked.delta or 0),
            seed=self._seed,
            progress=steps,
        )
        return write_model(tensors, {"study_digest": self._study.digest, "role": "local"})

    def finish(self, raw: bytes) -> Released:
        tensors, _ = read_model(raw, policy_spec(self._study))
        return Released(self.planned_claim, None, tensors)


MAKERS: dict[str, Callable[[Study, str], Maker]] = {
    "answers": _Answers,
    "counts": _Counts,
    "gradient": _Gradient,
    "moments": _Moments,
}
"""By the names that kinds give mechanisms (`epgfn.study.kinds.base.TargetKind.mechanisms`)."""

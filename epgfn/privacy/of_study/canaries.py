"""The worst neighbours that one study's own release can meet, for `epgfn privacy audit`: its mechanism, its settings, its likelihood.

    case = study_case(study)
    measured = case.attack(releases=2000, confidence=0.999)

    counts      a canary alone in its cell, of the study's categories and in the tables that the study releases
    answers     of the values a record can take (a box: of its corners) the one whose centred log-likelihoods are longest; under
                replace-one the two that are furthest apart
    gradient    the same value, and nobody else, in the study's own training: policy, trajectories, rate, clip and accountant, but few
                steps, since a release is a whole training

What is run is what a node runs, `releases.Maker.observe`. `epgfn.privacy.attacks.canaries` has the cases that need no study, and those of
linear-Gaussian graphs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.gflownet.sampling.random_walk import finished_at_random
from epgfn.gflownet.spaces.enumeration import explore, terminating_states
from epgfn.learn.likelihoods import likelihood_of
from epgfn.learn.scores import categories_of
from epgfn.privacy.attacks import empirical
from epgfn.privacy.attacks.canaries import OTHERS, Case
from epgfn.privacy.mechanisms.discrete import Floats
from epgfn.privacy.mechanisms.release import log_ratio, unpack
from epgfn.privacy.of_study.gradient_training import planned, public_values, train_privately
from epgfn.privacy.of_study.releases import Maker, maker_of
from epgfn.study import Study
from epgfn.study.objects import space_of
from epgfn.study.privacy import MAX_ANSWERED
from epgfn.study.records.tables import BoundedRecords

STEPS = 3
"""Steps of DP-SGD that are attacked; the noise is what keeps these within the study's epsilon."""
BATCH = 16
_SAMPLED = 256  # objects that stand for all, where all are too many
Pair = tuple[Any, Any]


def study_case(study: Study) -> Case:
    """The case of the study's mode.

    Raises:
        UsageError: the study has no release to attack, or one that `epgfn.privacy.attacks.canaries` attacks.
    """
    case = CASES.get(study.mechanism)
    if case is None:
        raise UsageError("this study's release has a case of its own; attack mode 'statistic'")
    return case(study)


def _with_public_numbers(study: Study) -> Study:
    """Under replace-one the data sets have as many records as the study says: here as many as are attacked."""
    if study.privacy.adjacency != "replace-one":
        return study
    return study.with_changes({"privacy": {"records": dict.fromkeys(study.roster, OTHERS + 1)}})


def _released(mode: Any, study: Study, pair: Pair) -> Case:
    """Integers with noise, scored by the ratio of the two data sets' likelihoods."""
    maker: Any = maker_of(_with_public_numbers(study), study.roster[0])
    without, with_canary = (maker.mechanism.values(data) for data in pair)
    stage = maker.mechanism.stage

    def release(data: Any) -> Any:
        return unpack(_observed(maker, data))[0]

    return Case(
        mode,
        release,
        lambda output: log_ratio(output, without, with_canary, stage),
        pair,
        maker.planned_claim.epsilon,
        empirical.gaussian(float(study.privacy.delta or 0)),
    )


def _observed(maker: Maker, data: Any) -> bytes:
    numbers = np.asarray(data)
    return maker.observe(BoundedRecords(numbers, numbers))


# --- counts -----------------------------------------------------------------------------------------------------------


def _counts(study: Study) -> Pair:
    """The canary has the last category of every variable, the others never have it; of a person all records have."""
    sizes = np.array(categories_of(study))
    others = np.random.default_rng(0).integers(0, sizes - 1, size=(OTHERS, len(sizes)))
    first, second = (sizes - 1)[None], np.zeros((1, len(sizes)), dtype=np.int64)
    if study.privacy.adjacency == "replace-one":  # these two agree in no variable and share no cell
        return np.vstack([others, second]), np.vstack([others, first])
    return others, np.vstack([others, np.repeat(first, study.privacy.rows_per_person, axis=0)])


# --- answers ----------------------------------------------------------------------------------------------------------


class Worst(NamedTuple):
    """`values` (C, ...) that a record can take, or some where they are too many; `longest` the row of the longest centred vector,
    `furthest` the two rows furthest apart; all public."""

    values: Tensor
    longest: int
    furthest: tuple[int, int]


def worst_values(study: Study) -> Worst:
    """From the study's likelihood of all its objects, or of some where they are too many to list."""
    space = space_of(study)
    likelihood, objects = likelihood_of(study, space), _objects(study, space)
    by_answers = study.privacy.mode == "answers"  # which lists every value in any case
    values = likelihood.domain() if by_answers else public_values(study, likelihood)
    if values is None:
        values = likelihood.draw(objects, _SAMPLED, torch.Generator().manual_seed(0))
    terms = likelihood.per_record(values, objects).double()
    vectors = (terms - terms.mean(1, keepdim=True)).numpy()  # (C, M)
    gram: Floats = vectors @ vectors.T
    squares = np.diagonal(gram)
    apart = squares[:, None] + squares[None] - 2 * gram
    first, second = np.unravel_index(int(apart.argmax()), apart.shape)
    return Worst(values, int(squares.argmax()), (int(first), int(second)))


def _objects(study: Study, space: Any) -> Any:
    if study.number_of_objects <= MAX_ANSWERED:
        return terminating_states(space, explore(space))
    return finished_at_random(space, _SAMPLED, torch.Generator().manual_seed(0))


def _answers(study: Study) -> Pair:
    found = worst_values(study)
    rng = np.random.default_rng(0)
    others = found.values[torch.from_numpy(rng.integers(len(found.values), size=OTHERS))]
    if study.privacy.adjacency == "replace-one":
        first, second = (found.values[[row]] for row in found.furthest)
        return torch.cat([others, second]), torch.cat([others, first])
    return others, torch.cat([others, found.values[[found.longest]]])


# --- gradient ---------------------------------------------------------------------------------------------------------


class _Observation(NamedTuple):
    """One step: the `noisy` sum (P,), and what the canary would add to it, `part` (P,), both in units of the clip."""

    noisy: Tensor
    part: Tensor


def _gradient(study: Study) -> Case:
    few = study.with_changes({"training": {"steps": STEPS, "batch": BATCH}})
    settings, worst = planned(few), worst_values(few)
    canary, nobody = worst.values[[worst.longest]], worst.values[:0]
    epsilon, delta = float(few.privacy.epsilon or 0), float(few.privacy.delta or 0)
    sampled, missed = math.log(settings.rate), math.log1p(-settings.rate)

    def release(records: Tensor) -> list[_Observation]:
        run: list[_Observation] = []

        def watch(noisy: Tensor, part: Callable[[Tensor], Tensor]) -> None:
            run.append(_Observation(noisy, part(canary)))

        train_privately(few, records, epsilon=epsilon, delta=delta, seed=few.seed, watch=watch)
        return run

    def score(run: list[_Observation]) -> float:
        """sum over steps of log((1 - q) + q exp((<y, p> - |p|^2 / 2) / noise^2)): y is noise, or noise and p where sampled."""
        noise = settings.noise_multiplier
        ratios = torch.stack([(y @ p - p @ p / 2) / noise**2 for y, p in run]).double()
        return float(torch.logaddexp(torch.full_like(ratios, missed), ratios + sampled).sum())

    return Case(
        "gradient",
        release,
        score,
        (nobody, canary),
        settings.claim().epsilon,
        empirical.subsampled(settings.rate, STEPS, delta),
    )


CASES: dict[str, Callable[[Study], Case]] = {
    "answers": lambda study: _released("answers", study, _answers(study)),
    "counts": lambda study: _released("counts", study, _counts(study)),
    "gradient": _gradient,
}
"""By mechanism; moments have a case that needs no study."""

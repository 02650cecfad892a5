"""The worst neighbours each mechanism can meet, ready for `empirical.attack`: data sets that differ in one record, the canary.

    statistic   60 Gaussian records, and a canary far beyond the clip: it moves both stages by as much as any record can
    counts      a canary alone in its cell
    answers     the record whose vector is longest, of those a record may be
    gradient    a canary whose part of every gradient is clipped, in steps that are all seen

Under add-remove the canary is there or not; under replace-one it has one value or another. The attacker knows all other records, the
mechanism and every released integer (in DP-SGD every update), and scores them by the log-likelihood ratio: no attack is stronger.

    case = make_case("statistic", epsilon=4.0, delta=1e-5, adjacency="add-remove")
    measured = case.attack(releases=2000, confidence=0.999)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import UsageError
from epgfn.privacy.attacks import empirical
from epgfn.privacy.attacks.empirical import Convert, Measured
from epgfn.privacy.mechanisms.answers import AnswersMechanism
from epgfn.privacy.mechanisms.counts import CountsMechanism
from epgfn.privacy.mechanisms.gradient import GradientSettings, RecordSgd, clipped_gradient
from epgfn.privacy.mechanisms.moments import MomentsMechanism
from epgfn.targets.additive import categorical

Attacked = Literal["statistic", "counts", "answers", "gradient"]
ATTACKED: Final[tuple[Attacked, ...]] = ("statistic", "counts", "answers", "gradient")
OTHERS = 60
_FAR = 1e4
_RATE, _STEPS, _CLIP = 0.3, 6, 1.0


@dataclass(frozen=True)
class Case:
    """`release` of each of the two data sets in `pair`, and `score`, large where the second seems likelier; `claimed` epsilon of the
    mechanism's own claim."""

    mode: Attacked
    release: Callable[[Any], Any]
    score: Callable[[Any], float]
    pair: tuple[Any, Any]
    claimed: float
    convert: Convert

    def attack(
        self, releases: int, confidence: float, progress: Callable[[int, int], None] | None = None
    ) -> Measured:
        """`releases` of each data set; `progress` hears how many are done, of how many."""
        done = 0

        def told(data: Any) -> Any:
            nonlocal done
            released = self.release(data)
            done += 1
            if progress is not None:
                progress(done, 2 * releases)
            return released

        return empirical.attack(
            told,
            self.score,
            *self.pair,
            claimed=self.claimed,
            convert=self.convert,
            runs=releases,
            confidence=confidence,
        )


def make_case(
    mode: Attacked,
    *,
    epsilon: float,
    delta: float,
    adjacency: Literal["add-remove", "replace-one"] = "add-remove",
    n_variables: int = 5,
    radius: float = 1.0,
    with_sums: bool = True,
    rows_per_person: int | None = None,
) -> Case:
    """The case of a mode; `n_variables`, `radius` and `with_sums` matter to `statistic` alone, `rows_per_person` to it and to
    `counts`: as many records of one person are there or not, in place of one record.

    Raises:
        UsageError: epsilon or delta out of range, or DP-SGD under replace-one, which has no accountant.
    """
    if mode == "gradient":
        if adjacency != "add-remove":
            raise UsageError(
                "DP-SGD is accounted for under add-remove only; attack another mode with replace-one"
            )
        return _gradient(epsilon, delta)
    mechanism: MomentsMechanism | CountsMechanism | AnswersMechanism
    if mode == "statistic":
        mechanism, without, with_canary = _statistic(
            epsilon, delta, adjacency, n_variables, radius, with_sums, rows_per_person
        )
    elif mode == "counts":
        mechanism, without, with_canary = _counts(epsilon, delta, adjacency, rows_per_person)
    else:
        mechanism, without, with_canary = _answers(epsilon, delta, adjacency)
    return _of_gaussian(mode, mechanism, without, with_canary)


def _of_gaussian(mode: Attacked, mechanism: Any, without: Any, with_canary: Any) -> Case:
    return Case(
        mode,
        mechanism.release,
        lambda release: mechanism.log_ratio(release, without, with_canary),
        (without, with_canary),
        mechanism.planned_claim.epsilon,
        empirical.gaussian(mechanism.delta),
    )


def _statistic(
    epsilon: float, delta: float, adjacency: Any, v: int, radius: float, with_sums: bool, rows: int | None
) -> tuple[MomentsMechanism, Any, Any]:
    replaced = adjacency == "replace-one"
    public = OTHERS + 1 if replaced else None
    mechanism = MomentsMechanism(
        v,
        epsilon,
        delta,
        adjacency=adjacency,
        radius=radius,
        with_sums=with_sums,
        n_public=public,
        **_of_persons(rows),
    )
    others = np.random.default_rng(0).normal(size=(OTHERS, v)) * radius
    cosine = _worst_cosine(mechanism)
    first, beside = _FAR * radius * np.eye(v)[:1], _FAR * radius * np.eye(v)[1:2]
    second = cosine * first + math.sqrt(1 - cosine**2) * beside
    if not replaced:
        return mechanism, others, np.vstack([others, *[first] * (rows or 1)])
    return mechanism, np.vstack([others, second]), np.vstack([others, first])


def _of_persons(rows: int | None) -> dict[str, Any]:
    """What protects somebody with so many records in place of a record."""
    return {} if rows is None else {"unit": "person", "rows": rows}


def _worst_cosine(mechanism: MomentsMechanism) -> float:
    """Of the angle between the two records that a replacement moves furthest in stage one: right for products alone, wider with sums."""
    stage = mechanism.first_stage
    scales = {part.kind: part.scale for part in stage.noise}
    if "sums" not in scales:
        return 0.0
    return max(-1.0, -((scales["squares"] / scales["sums"] / stage.norm_bound) ** 2) / 2)


def _counts(
    epsilon: float, delta: float, adjacency: Any, rows: int | None
) -> tuple[CountsMechanism, Any, Any]:
    replaced = adjacency == "replace-one"
    mechanism = CountsMechanism(
        (3, 3, 3),
        2,
        epsilon,
        delta,
        adjacency=adjacency,
        n_public=OTHERS + 1 if replaced else None,
        **_of_persons(rows),
    )
    others = np.random.default_rng(0).integers(0, 2, size=(OTHERS, 3))
    # Two canaries that agree in no variable share no cell of any table.
    first, second = np.array([[2, 2, 2]]), np.array([[1, 1, 1]])
    if not replaced:
        return mechanism, others, np.vstack([others, *[first] * (rows or 1)])
    return mechanism, np.vstack([others, second]), np.vstack([others, first])


def _answers(epsilon: float, delta: float, adjacency: Any) -> tuple[AnswersMechanism, Any, Any]:
    objects = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]], dtype=torch.float64)
    per_record = categorical(torch.log)
    domain = torch.arange(2)
    mechanism = AnswersMechanism.for_domain(per_record, objects, domain, epsilon, delta, adjacency=adjacency)
    others = torch.from_numpy(np.random.default_rng(0).integers(0, 2, size=OTHERS))
    first, second = domain[:1], domain[1:]  # vectors of equal length, nearly opposite
    if adjacency != "replace-one":
        return mechanism, others, torch.cat([others, first])
    return mechanism, torch.cat([others, second]), torch.cat([others, first])


def _gradient(epsilon: float, delta: float) -> Case:
    settings = GradientSettings.for_epsilon(epsilon, delta, rate=_RATE, steps=_STEPS, clip=_CLIP)
    noise = settings.noise_multiplier

    def score(updates: Tensor) -> float:
        """sum over steps of log((1 - q) + q exp((2 g - 1) / (2 noise^2))): g is N(0, noise^2), or N(1, noise^2) where sampled."""
        ratio = (2 * updates.double() - 1) / (2 * noise**2)
        absent = torch.full_like(ratio, math.log1p(-_RATE))
        return float(torch.logaddexp(absent, ratio + math.log(_RATE)).sum())

    return Case(
        "gradient",
        lambda data: _updates(data, settings),
        score,
        (np.zeros(OTHERS), np.append(np.zeros(OTHERS), _FAR)),
        settings.claim().epsilon,
        empirical.subsampled(_RATE, _STEPS, delta),
    )


def _updates(pulls: Any, settings: GradientSettings) -> Tensor:
    """(steps,) noisy clipped sums in units of the clip, from records that pull a single weight up by as much before clipping."""
    weight = torch.nn.Parameter(torch.zeros(1))
    sgd = RecordSgd([weight], torch.optim.SGD([weight], 1.0), settings)
    jacobian = torch.tensor([[-1.0], [1.0]])
    seen = []
    for batch in sgd.batches(len(pulls)):
        before = weight.detach().clone()
        said = torch.from_numpy(np.asarray(pulls)[batch])
        sgd.step(torch.zeros(1), clipped_gradient(jacobian, torch.stack([said, -said]), settings.clip))
        seen.append((before - weight.detach()) * settings.rate / settings.clip)
    return torch.cat(seen)

"""The privacy claim: all that a stranger needs to work out epsilon, and the check that it adds up.

A claim holds parameters of the mechanism, never a fact about the records. `recompute` derives sensitivity, mu and epsilon
from the clip bounds and noise scales alone, by the formulas of docs/privacy.md; `verify_claim` refuses a claim whose own
numbers disagree with that, that is weaker than it says, or that exceeds what the study allows.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from epgfn.base.errors import RefusedError, one_line
from epgfn.privacy import accounting
from epgfn.privacy.claims import sensitivity

Mode = Literal["statistic", "answers", "gradient"]
Unit = Literal["record", "site", "person"]
Adjacency = Literal["add-remove", "replace-one"]
Formula = Literal["moments", "counts", "vectors"]

TOLERANCE: Final = 1e-6
"""How far a claim's derived numbers may be from the recomputed ones, relative; rounding differs between machines."""

MOST_ROWS: Final = 1000
"""Records of one person that a study may take."""

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=1 << 53)]
Text = Annotated[str, Field(min_length=1, max_length=400)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Noise(_Frozen):
    """`entries` released integers of one kind, each with discrete Gaussian noise of `scale` grid steps.

    kind: `records` the number of records times `unit`; `sums`, `squares`, `products` of a record's integers (squares are
    the diagonal of X^T X, products its upper triangle); `cells` of a table times `unit`; `answers`.
    """

    kind: Literal["records", "sums", "squares", "products", "cells", "answers"]
    entries: Count
    unit: Count
    scale: Positive


class Stage(_Frozen):
    """One release. `norm_bound`: the clip in grid steps of 2^-grid_bits (0 for counts); `clip_source`: who chose it."""

    name: Text
    formula: Formula
    norm_bound: Annotated[int, Field(ge=0, le=1 << 26)]
    clip_source: Text
    grid_bits: Annotated[int, Field(ge=0, le=40)]
    groups: Annotated[int, Field(ge=1, le=1 << 31)] = 1
    noise: Annotated[tuple[Noise, ...], Field(min_length=1, max_length=8, strict=False)]
    sensitivity: Positive
    mu: Positive


class Subsampling(_Frozen):
    """DP-SGD: `steps` Poisson samples at `rate`, clipped to `clip`, noise of `noise_multiplier` * clip a coordinate."""

    rate: Annotated[float, Field(gt=0, le=1)]
    steps: Annotated[int, Field(ge=1, le=10_000_000)]
    noise_multiplier: Positive
    clip: Positive
    clip_source: Text


class Claim(_Frozen):
    """What a node promises about one artifact. `rho` = mu^2 / 2, the zero-concentrated twin of `mu`; both 0 for `gradient`. Of unit
    "person": at most `rows` records of anybody were used, and all numbers are for all of somebody's together; 1 is not written."""

    mode: Mode
    unit: Unit
    rows: Annotated[int, Field(ge=1, le=MOST_ROWS)] = 1
    adjacency: Adjacency
    epsilon: Positive
    delta: Annotated[float, Field(gt=0, lt=1)]
    mu: Annotated[float, Field(ge=0)]
    rho: Annotated[float, Field(ge=0)]
    mechanism: Text
    mechanism_version: Literal[1] = 1
    stages: Annotated[tuple[Stage, ...], Field(max_length=10_000, strict=False)] = ()
    subsampling: Subsampling | None = None
    composition: Text
    sampler: Text
    accountant: Text
    arithmetic: Text
    randomness: Text

    @classmethod
    def from_json(cls, value: Any) -> Claim:
        """The claim in a statement's JSON value.

        Raises:
            RefusedError: "claim-wrong": a field is missing, unknown or out of range.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "claim"
            raise _wrong(f"its field {one_line(where)[:80]} is missing, unknown or out of range") from None

    def to_json(self) -> dict[str, Any]:
        """As it stands in a statement."""
        return self.model_dump(mode="json", exclude={"rows"} if self.rows == 1 else None)


class Limits(_Frozen):
    """What the study allows."""

    mode: Mode
    adjacency: Adjacency
    epsilon: Positive
    delta: Annotated[float, Field(gt=0, lt=1)]


class Recomputed(_Frozen):
    """What a claim's parameters amount to; `sensitivities` and `mus` stage by stage."""

    epsilon: float
    mu: float
    sensitivities: tuple[float, ...]
    mus: tuple[float, ...]


def recompute(claim: Claim) -> Recomputed:
    """Sensitivity, mu and epsilon from clip bounds, noise scales and delta alone; nothing else in the claim is believed.

    Raises:
        RefusedError: "claim-wrong": the parameters do not describe a mechanism of this mode.
    """
    if claim.mode == "gradient":
        return _recompute_gradient(claim)
    if not claim.stages or claim.subsampling is not None:
        raise _wrong("a release without subsampling names at least one stage")
    if claim.unit == "person" and (claim.mode, claim.adjacency) != ("statistic", "add-remove"):
        raise _wrong("persons are protected by mode statistic under add-remove only")
    if claim.rows > 1 and claim.unit != "person":
        raise _wrong("only a person has several records")
    for stage in claim.stages:
        _require_shape(stage, claim)
    mus = tuple(claim.rows * sensitivity.stage_mu(stage, claim.adjacency) for stage in claim.stages)
    parts = [part for stage in claim.stages for part in stage.noise]
    mu = accounting.compose(mus)
    entries, scale = sum(part.entries for part in parts), min(part.scale for part in parts)
    epsilon = accounting.discrete_epsilon(min(mu, 1e6), claim.delta, entries, scale)
    sensitivities = tuple(
        claim.rows * sensitivity.stage_sensitivity(stage, claim.adjacency) for stage in claim.stages
    )
    return Recomputed(epsilon=min(epsilon, 1e300), mu=mu, sensitivities=sensitivities, mus=mus)


def verify_claim(claim: Claim, limits: Limits) -> Recomputed:
    """Check a claim against its own parameters and against the study.

    Raises:
        RefusedError: "claim-wrong": another mode or adjacency than the study's, or derived numbers that its parameters do
            not give. "claim-too-weak": the parameters give a larger epsilon than it says. "claim-above-limit": epsilon or
            delta above the study's.
    """
    if (claim.mode, claim.adjacency) != (limits.mode, limits.adjacency):
        raise _wrong(f"the study asks for mode {limits.mode} with adjacency {limits.adjacency}")
    found = recompute(claim)
    stated = [claim.mu, claim.rho, *(s.sensitivity for s in claim.stages), *(s.mu for s in claim.stages)]
    derived = [found.mu, found.mu**2 / 2, *found.sensitivities, *found.mus]
    if found.epsilon > claim.epsilon * (1 + TOLERANCE):
        raise RefusedError(
            "claim-too-weak",
            f"the privacy claim says epsilon {claim.epsilon:.6g}, but its clip bounds and noise give {found.epsilon:.6g}; "
            "release again with the noise that the claim needs",
        )
    if any(
        not math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-12) for a, b in zip(stated, derived, strict=True)
    ):
        raise _wrong("a sensitivity, mu or rho is not what its parameters give")
    if claim.epsilon > limits.epsilon * (1 + 1e-12) or claim.delta > limits.delta * (1 + 1e-12):
        raise RefusedError(
            "claim-above-limit",
            f"the privacy claim is epsilon {claim.epsilon:.6g} at delta {claim.delta:.3g}, and the study allows "
            f"{limits.epsilon:.6g} at {limits.delta:.3g}; release again with more noise",
        )
    return found


def _recompute_gradient(claim: Claim) -> Recomputed:
    said = claim.subsampling
    if claim.rows != 1 or claim.unit == "person":
        raise _wrong("mode gradient protects records and not persons")
    if said is None or claim.stages or claim.mu or claim.rho:
        raise _wrong("mode gradient states its subsampling, no stages, and mu = rho = 0")
    if claim.adjacency != "add-remove":
        raise _wrong("Poisson sampling is accounted for under add-remove only")
    try:
        epsilon = accounting.subsampled_epsilon(said.noise_multiplier, said.rate, said.steps, claim.delta)
    except (ValueError, RuntimeError, MemoryError, OverflowError):
        raise _wrong("its noise is too small or its steps too many to account for") from None
    return Recomputed(epsilon=epsilon, mu=0.0, sensitivities=(), mus=())


def _require_shape(stage: Stage, claim: Claim) -> None:
    kinds = [part.kind for part in stage.noise]
    allowed = {
        "moments": {"records", "sums", "squares", "products"},
        "counts": {"cells"},
        "vectors": {"answers"},
    }[stage.formula]
    if len(set(kinds)) != len(kinds) or not set(kinds) <= allowed:
        raise _wrong(f"stage {stage.name} releases kinds that its formula does not know")
    if (claim.mode == "answers") != (stage.formula == "vectors"):
        raise _wrong(f"stage {stage.name} does not belong to mode {claim.mode}")
    if (stage.norm_bound == 0) != (stage.formula == "counts"):
        raise _wrong(f"stage {stage.name} has no clip bound")
    if claim.adjacency == "replace-one" and "records" in kinds:
        raise _wrong("under replace-one the number of records is public and is not released")


def _wrong(what: str) -> RefusedError:
    return RefusedError("claim-wrong", f"the privacy claim does not add up: {what}; release again")

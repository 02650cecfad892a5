"""One stage of a release: integers, noise, and what an attacker who knows both data sets makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.privacy import accounting
from epgfn.privacy.claims import claims, sensitivity
from epgfn.privacy.claims.claims import Adjacency, Claim, Mode, Noise, Stage, Unit
from epgfn.privacy.mechanisms import discrete
from epgfn.privacy.mechanisms.discrete import Ints

COUNT_BITS = 16
"""Counts are released in steps of 2^-16, so that their noise, a few records wide, is wide in grid steps."""
Values = Mapping[str, Ints]


def make_stage(
    name: str,
    formula: claims.Formula,
    noise: Sequence[Noise],
    adjacency: Adjacency,
    *,
    norm_bound: int = 0,
    grid_bits: int = 0,
    groups: int = 1,
    clip_source: str = "none: a count needs no clipping",
    rows: int = 1,
) -> Stage:
    """A stage with the sensitivity and mu that its bound and scales give, of at most `rows` records together."""
    draft = Stage(
        name=name,
        formula=formula,
        norm_bound=norm_bound,
        clip_source=clip_source,
        grid_bits=grid_bits,
        groups=groups,
        noise=tuple(noise),
        sensitivity=1.0,
        mu=1.0,
    )
    return draft.model_copy(
        update={
            "sensitivity": rows * sensitivity.stage_sensitivity(draft, adjacency),
            "mu": rows * sensitivity.stage_mu(draft, adjacency),
        }
    )


def noisy(values: Values, stage: Stage) -> dict[str, Ints]:
    """Each integer with the stage's noise; the kinds of `values` are exactly the stage's."""
    if set(values) != {part.kind for part in stage.noise}:
        raise ValueError("the values are not those of the stage")
    return {part.kind: discrete.discrete_gaussian(values[part.kind], part.scale) for part in stage.noise}


def pack(outputs: Sequence[Values]) -> bytes:
    """The noisy integers of all stages as bytes, for the privacy ledger; `unpack` reads them back."""
    return canonical_json(
        [{kind: values.reshape(-1).tolist() for kind, values in sorted(out.items())} for out in outputs]
    )


def unpack(raw: bytes) -> tuple[Values, ...]:
    """What `pack` wrote.

    Raises:
        RefusedError: "malformed".
    """
    found = parse_canonical_json(raw)
    return tuple({kind: np.array(values, dtype=np.int64) for kind, values in out.items()} for out in found)


def log_ratio(output: Values, without: Values, with_record: Values, stage: Stage) -> float:
    """log density of `output` under the second data set less that under the first, in nats, by the stage's own noise.

    The best possible test between two data sets thresholds this number (Neyman & Pearson).
    """
    total = 0.0
    for part in stage.noise:
        a, b = without[part.kind].astype(float), with_record[part.kind].astype(float)
        total += float(np.sum((b - a) * (output[part.kind] - (a + b) / 2))) / part.scale**2
    return total


def make_claim(
    mode: Mode,
    adjacency: Adjacency,
    delta: float,
    stages: Sequence[Stage],
    mechanism: str,
    unit: Unit = "record",
    rows: int = 1,
) -> Claim:
    """The claim of Gaussian stages one after the other; epsilon is what `claims.recompute` makes of them."""
    mu = accounting.compose(stage.mu for stage in stages)
    draft = Claim.model_validate(
        {
            "mode": mode,
            "unit": unit,
            "rows": rows,
            "adjacency": adjacency,
            "epsilon": 1.0,
            "delta": delta,
            "mu": mu,
            "rho": mu**2 / 2,
            "mechanism": mechanism,
            "stages": tuple(stages),
            "composition": "Gaussian DP: mu = sqrt(sum of squares of the stages'), adaptive",
            "sampler": discrete.opendp_version(),
            "accountant": "closed form of mu-GDP plus the slack of the discrete Gaussian; at most the zCDP bound",
            "arithmetic": "int64 on a public grid",
            "randomness": "operating system",
        }
    )
    return draft.model_copy(update={"epsilon": claims.recompute(draft).epsilon})

"""What would change in a variable if another were raised: the posterior of total causal effects, averaged over graphs.

    statistic_said(study, moments)                   what a result says of all records together, for summary.json
    found = effects(study, known, graphs, "smoking", seed=1)       of one variable on each other one

Where all sites share their parameters, what is published is made of the number of all records, their means and covariances. These say how
strong an edge is; a policy says only how probable. Effects are in the study's own units where a variable is not transformed.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.gflownet.measure.graph_relations import ancestors
from epgfn.gflownet.policies.order_potential import normalise_table
from epgfn.learn.scores import table_from_moments
from epgfn.learn.shared import TOLERANCE
from epgfn.study import Study
from epgfn.study.objects import space_of
from epgfn.study.parameters import why_no_effects
from epgfn.targets.bge import precision
from epgfn.targets.effects import Families, total
from epgfn.targets.gaussian import Moments

CREDIBLE: Final = 0.95
ROUNDING: Final = 1e-6
"""By which share of its largest score a model file may have rounded a table."""
_NUMBERS: Final = 1 << 22
"""Of a block of graphs: 32 MiB."""


class Effect(NamedTuple):
    """By how much `on` would change if `of` were raised by one, in `unit`: `mean`, `median`, and from `low` to `high` with probability .95;
    `zero`, the share of graphs in which nothing leads from the one to the other; `positive`, the probability that it is above zero; the
    standard `error` of the mean from the number of graphs that were drawn; `basis` as `Answer` has it; and the (n,) float64 `draws`, one
    of each graph."""

    of: str
    on: str
    unit: str
    mean: float
    median: float
    low: float
    high: float
    zero: float
    positive: float
    error: float
    basis: str
    draws: np.ndarray

    def figures(self) -> dict[str, Any]:
        """All but the draws."""
        return {name: value for name, value in self._asdict().items() if name != "draws"}


def statistic_said(moments: Moments) -> dict[str, Any]:
    """`records`, `mean` (V) and `scatter` (V by V) on the study's scale; `mean` is null where it was not released."""
    mean = None if moments.mean is None else moments.mean.tolist()
    return {"records": moments.n, "mean": mean, "scatter": moments.scatter.tolist()}


def statistic_read(study: Study, said: Mapping[str, Any]) -> Moments:
    """What `statistic_said` wrote.

    Raises:
        RefusedError: it is none for these variables.
    """
    v = len(study.variables)
    try:
        n, told = float(said["records"]), said["mean"]
        mean = None if told is None else torch.tensor(told, dtype=torch.float64)
        scatter = torch.tensor(said["scatter"], dtype=torch.float64)
        sound = scatter.shape == (v, v) and (mean is None or mean.shape == (v,)) and 0 < n < math.inf
        sound = (
            sound
            and bool(torch.isfinite(scatter).all())
            and (mean is None or bool(torch.isfinite(mean).all()))
        )
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise RefusedError(
            "malformed", "the result's statistic of all records is none of this study's variables"
        )
    return Moments(n, mean, scatter)


def is_of(study: Study, known: Moments, table: Tensor) -> bool:
    """Whether a model with the (V, K) scores `table` was made of what is `known` of all records."""
    space = space_of(study)
    try:
        wanted = normalise_table(space, table_from_moments(study, known, 1))
    except (EpgfnError, ValueError, ArithmeticError, np.linalg.LinAlgError):
        return False
    apart = (wanted - normalise_table(space, table.double())).masked_fill(~space.admissible, 0.0).abs().max()
    return float(apart) <= TOLERANCE + ROUNDING * float(wanted.abs().max())


def effects(
    study: Study, known: Moments, graphs: Tensor, basis: str, effective: float, of: str, seed: int | None
) -> dict[str, Effect]:
    """The effects of `of` on every other variable, by name, from (n, V, V) bool `graphs` drawn on `basis`, worth `effective` independent
    ones, and of what is `known` of all records.

    Raises:
        UsageError: the study has no variable `of`, or is one of which no effects can be told; the sentence says why.
    """
    if why := why_no_effects(study):
        raise UsageError(why)
    names = study.variable_names
    if of not in names:
        raise UsageError(f"the study has no variable {of!r}")
    i = names.index(of)
    generator = torch.Generator().manual_seed(secrets.randbits(62) if seed is None else seed)
    families = Families.of(precision(known, study.target), graphs)
    blocks = torch.split(
        torch.arange(len(graphs)), max(1, _NUMBERS // len(names) ** 2 // max(1, families.mean.shape[1]))
    )
    draws = torch.cat([total(families.drawn(rows, generator))[:, i] for rows in blocks])  # (n, V)
    means = torch.cat([total(families.means(rows))[:, i] for rows in blocks])
    below = ancestors(graphs)[:, i]
    draws, means = draws * below, means * below  # what rounding leaves where no path leads
    tail = (1 - CREDIBLE) / 2
    found = {}
    for j, on in enumerate(names):
        if j == i:
            continue
        factor, unit = _unit(study, i, j)
        drawn, mean = factor * draws[:, j], factor * means[:, j]
        low, median, high = torch.quantile(
            drawn, torch.tensor([tail, 0.5, 1 - tail], dtype=torch.float64)
        ).tolist()
        found[on] = Effect(
            of, on, unit, float(mean.mean()), median, low, high,
            1 - float(below[:, j].double().mean()), float((drawn > 0).double().mean()),
            float(mean.std(correction=0)) / math.sqrt(max(1.0, effective)), basis, drawn.numpy(),
        )  # fmt: skip
    return found


def _unit(study: Study, i: int, j: int) -> tuple[float, str]:
    """From effects on the study's scale to the columns' own, and in words."""
    raised, changed = study.variables[i], study.variables[j]
    size = [
        one.scale * (one.transform_scale if one.transform == "none" else 1.0) for one in (raised, changed)
    ]
    words = [
        one.name if one.transform == "none" else f"{one.transform}({one.name})" for one in (raised, changed)
    ]
    return size[1] / size[0], f"{words[1]} per 1 of {words[0]}"

"""What a node's statistic is as whole numbers, so that only their sum over nodes has to be read: the grid of a masked sum.

    numbers = encode(study, statistic_of(study, records))     (L,) uint64, of each node
    held = decode(study, sum of them modulo 2^64)             the statistic of all their records together
    score = pooled_of_total(study, held)                      as `shared.pooled` gives it of the nodes' statistics one by one

Numbers of records and counts are exact. Sums, and sums of products about the study's public centre, are in steps of 2^-24, rounded once in
each node from exact fractions: a total is off by at most half a step a node. None may be larger than 2^62 steps divided by the number of
nodes in the roster, so that no total of them wraps, whichever of them are in it.
That holds of nodes that compute `encode`: under masks nobody sees whether one has.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from epgfn.base.errors import RefusedError, UsageError
from epgfn.gflownet.policies.spec import TensorSpec
from epgfn.learn.shared import (
    CELLS,
    MEAN,
    RECORDS,
    SCATTER,
    Held,
    Pooled,
    pooled,
    require_statistic,
    statistic_spec,
)
from epgfn.study.parameters import is_shared

if TYPE_CHECKING:
    from epgfn.masking.masks import Vector
    from epgfn.study import Study

NUMBERS: Final = "sum.numbers"
"""The one tensor of what a node keeps, and, under masks, of what it sends; and of their total."""
TOTAL: Final = "total"
"""In the place of a node's name: whose numbers are those of all in the sum."""
STEPS: Final = 1 << 24
"""In one unit of a sum or a sum of products, on the study's scale."""
LARGEST_TOTAL: Final = 1 << 62
"""Steps, either way."""


def sum_spec(study: Study) -> dict[str, TensorSpec]:
    """Name, shape and dtype of what a node sends. Errors as `length`."""
    return {NUMBERS: TensorSpec((length(study),), "int64")}


def tensors_of(numbers: Vector) -> dict[str, torch.Tensor]:
    """(L,) uint64 as a model file holds them."""
    return {NUMBERS: torch.from_numpy(numbers.view(np.int64).copy())}


def numbers_in(tensors: Held) -> Vector:
    """What `tensors_of` was given."""
    held: Vector = tensors[NUMBERS].cpu().numpy().view(np.uint64)
    return held


def total_of(sent: Mapping[str, Held]) -> Vector:
    """The sum modulo 2^64 of what each has."""
    total: Vector = np.sum([numbers_in(one) for one in sent.values()], axis=0, dtype=np.uint64)
    return total


def length(study: Study) -> int:
    """How many numbers a node's statistic is, L; nothing but the study decides it.

    Raises:
        UsageError: its nodes send no exact statistic, or more counts than `shared.MAX_CELLS`.
    """
    spec = _spec(study)
    if CELLS in spec:
        parts, cells = spec[CELLS].shape
        return parts * cells
    parts, v = spec[MEAN].shape
    return parts * (1 + v + v * (v + 1) // 2)


def largest(study: Study) -> int:
    """Steps that one number of one node may have, either way."""
    return LARGEST_TOTAL // len(study.roster)


def encode(study: Study, held: Held) -> Vector:
    """(L,) a node's statistic in steps, negative ones modulo 2^64. For each regime of numbers: n, the sum of each variable, and the sums of
    products of each two, i ≤ j, row by row; of categories: their counts as they are.

    Raises:
        UsageError: as `length`.
        RefusedError: "statistic-too-large": a number is beyond `largest`. "statistic-not-sound": no records have this statistic.
    """
    _spec(study)
    require_statistic(study, held)
    whole = held[CELLS].reshape(-1).tolist() if CELLS in held else _steps_of_moments(held)
    if max(map(abs, whole)) > largest(study):
        raise RefusedError(
            "statistic-too-large",
            f"a sum over this node's records is too large for a masked sum of {len(study.roster)} nodes; the study needs a centre near "
            "each variable's mean, and a scale near its standard deviation",
        )
    return np.array(whole, np.int64).view(np.uint64)


def decode(study: Study, total: Vector) -> dict[str, torch.Tensor]:
    """The statistic of all records, of the (L,) sum modulo 2^64 of what some nodes of the roster have encoded.

    What rounding may have left of a column that is constant in a regime is no spread.

    Raises:
        UsageError: as `length`.
        RefusedError: "statistic-not-sound": no records have this statistic.
        ValueError: the sum has another length.
    """
    spec = _spec(study)
    if total.shape != (length(study),):
        raise ValueError(f"a total has the shape ({length(study)},)")
    signed = total.view(np.int64)
    if CELLS in spec:
        held = {CELLS: torch.from_numpy(signed.copy()).view(spec[CELLS].shape)}
    else:
        parts, v = spec[MEAN].shape
        each = [_moments_of_steps(part.tolist(), v, len(study.roster)) for part in np.split(signed, parts)]
        held = {
            RECORDS: torch.tensor([n for n, _, _ in each], dtype=torch.float64),
            MEAN: torch.stack([mean for _, mean, _ in each]),
            SCATTER: torch.stack([scatter for _, _, scatter in each]),
        }
    try:
        require_statistic(study, held)
    except RefusedError as error:
        raise RefusedError(
            error.reason,
            "the total of the masked sum is that of no records: masks were left on it, or a node sent what it did not compute from its "
            "records; there is no result, run another round",
        ) from None
    return held


def pooled_of_total(study: Study, held: Held) -> Pooled:
    """The score of the records of which `held` is the statistic. How far sites lie apart is not in a total, so `between` is empty.

    Raises:
        EpgfnError: the records give no sound score.
    """
    return pooled(study, {"total": held})._replace(between=[])


def _spec(study: Study) -> dict[str, TensorSpec]:
    if not is_shared(study) or study.privacy.is_private:
        raise UsageError(
            "a masked sum is of exact statistics: it needs target.parameters = 'shared' and privacy.mode = 'none'"
        )
    return statistic_spec(study)


def _steps_of_moments(held: Held) -> list[int]:
    whole = list[int]()
    for n, mean, scatter in zip(*(held[name].tolist() for name in (RECORDS, MEAN, SCATTER)), strict=True):
        number, means = int(n), [Fraction(one) for one in mean]
        whole.append(number)
        whole += [round(number * one * STEPS) for one in means]
        for i, row in enumerate(scatter):
            of_row = zip(row[i:], means[i:], strict=True)
            whole += [round((Fraction(about) + number * means[i] * one) * STEPS) for about, one in of_row]
    return whole


def _moments_of_steps(whole: list[int], v: int, nodes: int) -> tuple[int, torch.Tensor, torch.Tensor]:
    """n, mean (V,) and scatter about it (V, V)."""
    mean, scatter = torch.zeros(v, dtype=torch.float64), torch.zeros(v, v, dtype=torch.float64)
    n, sums, products = whole[0], whole[1 : 1 + v], iter(whole[1 + v :])
    if n <= 0:
        # A number of records below zero, or sums of no records, is what no nodes have encoded; `require_statistic` sees the first.
        if any(sums) or any(products):
            n = -1
        return n, mean, scatter
    for i in range(v):
        mean[i] = float(Fraction(sums[i], n * STEPS))
        for j in range(i, v):
            about = Fraction(next(products), STEPS) - Fraction(sums[i] * sums[j], n * STEPS * STEPS)
            scatter[i, j] = scatter[j, i] = float(about)
    half = nodes / (2 * STEPS)
    off = half * (1 + 2 * mean.abs()) + half**2 / n
    still = scatter.diagonal() <= off
    return n, mean, scatter.masked_fill(still[:, None] | still, 0.0)

"""How far one record can move a release, from its clip bound and noise scales alone. Proofs in docs/privacy.md.

With noise of scale s_k on coordinate k, a release of statistics f is mu-GDP for mu = sup over neighbours of
sqrt(sum_k (f_k(D) - f_k(D'))^2 / s_k^2): what counts is each difference in units of its own noise.

    moments   phi(x) = (1, x, x x^T), |x| <= B, scales s_n, s_1, and s_2 on squares, s_2 / sqrt(2) on products
              add-remove   mu^2 = u^2 / s_n^2 + B^2 / s_1^2 + B^4 / s_2^2
              replace-one  mu^2 = max over c in [-B^2, B^2] of (2 B^2 - 2 c) / s_1^2 + (2 B^4 - 2 c^2) / s_2^2
    counts    one cell in each of g tables: add-remove mu^2 = g u^2 / s^2, replace-one 2 g u^2 / s^2
    vectors   |v| <= B: add-remove mu = B / s, replace-one 2 B / s
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epgfn.privacy.claims.claims import Noise, Stage


def stage_mu(stage: Stage, adjacency: str) -> float:
    """mu of one stage, rounded up."""
    return math.sqrt(_mu_squared(stage, adjacency)) * (1 + 1e-12)


def stage_sensitivity(stage: Stage, adjacency: str) -> float:
    """L2 distance of neighbours in units in which the stage's first noise has its scale: mu times that scale."""
    return stage_mu(stage, adjacency) * stage.noise[0].scale


def moments_replace_one(bound: float, sums: float, products: float) -> float:
    """sup of |x - x'|^2 sums + |x x^T - x' x'^T|^2 products over |x|, |x'| <= bound; the weights are 1 / scale^2.

    The worst pair has both norms at the bound, and c = x.x' where the concave parabola in c peaks.
    """
    square = bound * bound
    if products == 0:
        return 4 * square * sums
    c = max(-square, -sums / (2 * products))
    return (2 * square - 2 * c) * sums + (2 * square * square - 2 * c * c) * products


def _mu_squared(stage: Stage, adjacency: str) -> float:
    replaced = adjacency == "replace-one"
    bound = float(stage.norm_bound)
    if stage.formula == "counts":
        (part,) = stage.noise
        return (2 if replaced else 1) * stage.groups * (part.unit / part.scale) ** 2
    if stage.formula == "vectors":
        (part,) = stage.noise
        return ((2 if replaced else 1) * bound / part.scale) ** 2
    parts = {part.kind: part for part in stage.noise}
    sums = _weight(parts.get("sums"))
    # Off-diagonal entries stand once in the release and twice in the norm of x x^T.
    products = max(_weight(parts.get("squares")), _weight(parts.get("products")) / 2)
    if replaced:
        return moments_replace_one(bound, sums, products)
    counted = parts.get("records")
    n = (counted.unit / counted.scale) ** 2 if counted else 0.0
    return n + bound**2 * sums + bound**4 * products


def _weight(part: Noise | None) -> float:
    return 0.0 if part is None else 1 / part.scale**2

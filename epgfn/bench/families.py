"""Log-likelihoods of one variable given its parents, by arithmetic that shares nothing with `epgfn.targets`: what scores are held against.

Slow and plain: a regression is written down as the distribution of all its records at once, a table of counts is gone through row by row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

Records = npt.NDArray[Any]


def gaussian(x: Records, child: int, parents: Sequence[int], variables: int) -> float:
    """Bayesian linear regression with the prior that BGe at its defaults implies: precision of the noise ~ Gamma((p + 3) / 2, 1 / 2), p
    parents, coefficients ~ N(0, noise), the intercept flat. In nats, up to a constant of the child and the number n of records.

    The n records are then multivariate Student t; the flat intercept leaves n - 1 contrasts of them and a factor."""
    n, p = len(x), len(parents)
    if n == 0:
        return 0.0
    degrees = p + 3.0  # alpha_w - V + p + 1, alpha_w = V + 2
    y, z = x[:, child].astype(float), x[:, list(parents)].astype(float)
    inverse, flat = np.linalg.inv(np.eye(n) + z @ z.T), np.ones(n)
    a, b, c = flat @ inverse @ flat, flat @ inverse @ y, y @ inverse @ y
    # The prior of the intercept is N(0, noise / eps), eps to 0, whose own factor is left out: the determinant lemma gives a.
    half = 0.5 * (-np.linalg.slogdet(inverse)[1] + np.log(a))
    left = 1.0 + c - b * b / a
    return float(
        gammaln((n + degrees) / 2)
        - gammaln(degrees / 2)
        - n / 2 * np.log(np.pi)
        - half
        - (n + degrees) / 2 * np.log(left)
    )


def proper_gaussian(x: Records, child: int, parents: Sequence[int], group: Records) -> float:
    """The same with an intercept ~ N(0, noise) for each `group` (n,) of records, as the conditional Gaussian score has at its defaults; no
    constant is left out."""
    n, p = len(x), len(parents)
    degrees = p + 3.0
    y, z = x[:, child].astype(float), x[:, list(parents)].astype(float)
    spread = np.eye(n) + (group[:, None] == group) + z @ z.T
    return float(
        gammaln((n + degrees) / 2)
        - gammaln(degrees / 2)
        - n / 2 * np.log(np.pi)
        - 0.5 * np.linalg.slogdet(spread)[1]
        - (n + degrees) / 2 * np.log(1.0 + y @ np.linalg.solve(spread, y))
    )


def mixed(x: Records, child: int, parents: Sequence[int], sizes: Sequence[int], own: bool = False) -> float:
    """Of categories (`sizes` above 0) `categorical`; of a number the regression on its number parents, with an intercept for each
    combination of its category parents, or all its `own` for each. In nats; -inf for a category with a number among its parents."""
    others = [j for j in parents if not sizes[j]]
    if sizes[child]:
        return -np.inf if others else categorical(x, child, parents, sizes)
    group, known = np.zeros(len(x), dtype=int), dict[tuple[int, ...], int]()
    for number, row in enumerate(x):
        group[number] = known.setdefault(tuple(int(row[j]) for j in parents if sizes[j]), len(known))
    parts = [group == one for one in known.values()] if own else [np.ones(len(x), dtype=bool)]
    return sum(proper_gaussian(x[rows], child, others, group[rows]) for rows in parts)


def categorical(
    x: Records, child: int, parents: Sequence[int], sizes: Sequence[int], weight: float = 1.0
) -> float:
    """The probability of the child's categories one record after the other, each by what was seen before it (Dirichlet prior of BDeu with
    that equivalent sample size). In nats."""
    seen: Counter[tuple[int, ...]] = Counter()
    cells = int(np.prod([sizes[j] for j in parents])) if len(parents) else 1
    total = 0.0
    for row in x:
        where = tuple(int(row[j]) for j in parents)
        here = (*where, int(row[child]))
        prior = weight / cells
        total += np.log((seen[here] + prior / sizes[child]) / (seen[where] + prior))
        seen[here] += 1
        seen[where] += 1
    return float(total)

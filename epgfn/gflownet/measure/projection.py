"""The score table nearest to a distribution over DAGs that is no product over variables, such as a mean of several posteriors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError
from epgfn.gflownet.measure.exact import marginals_and_log_partition

Floats = npt.NDArray[np.float64]
MOST_STEPS = 400
LARGEST_ERROR = 0.005
"""Of a parent set's probability."""


def with_marginals(start: Tensor, masks: Tensor, wanted: Floats) -> Tensor:
    """The table phi, (V, K) float64 nats, whose P(Pa_j = masks[k]) is `wanted` (V, K), from `start` on, which is -inf where it stays so.

    Tables are the natural parameters of an exponential family whose statistics say which parent set each variable has, so the member
    with these expectations is the one to which the Kullback-Leibler divergence from any distribution that has them is least (Csiszar,
    Annals of Probability 3, 1975). It minimises log Z(phi) - sum of wanted * phi, which is convex. Where nothing is wanted `start` remains.

    Raises:
        UsageError: more than 14 variables. EpgfnError: nothing is near enough.
    """
    from scipy.optimize import minimize  # which takes a while to load, and few studies need it

    finite = torch.isfinite(start).numpy()
    target = wanted[finite]

    def loss(values: Floats) -> tuple[float, Floats]:
        found, log_z = marginals_and_log_partition(_table(start, finite, values), masks)
        return log_z - float(target @ values), found[finite] - target

    values = start.numpy()[finite]
    values = values - values.max()
    options = {"maxiter": MOST_STEPS, "maxcor": 30, "ftol": 1e-14, "gtol": 1e-5}
    best = minimize(loss, values, jac=True, method="L-BFGS-B", options=options)
    error = float(np.abs(loss(best.x)[1]).max())
    if not error <= LARGEST_ERROR:
        raise EpgfnError(
            "no table of scores was found that says what the filled-in tables say together; take data.missing = 'complete-rows'"
        )
    return _table(start, finite, best.x)


def _table(start: Tensor, finite: npt.NDArray[np.bool_], values: Floats) -> Tensor:
    table = torch.full_like(start, -torch.inf, dtype=torch.float64)
    table[torch.from_numpy(finite)] = torch.from_numpy(np.array(values))
    return table

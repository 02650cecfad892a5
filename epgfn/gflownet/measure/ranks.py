"""The rank of each number among others. SciPy's `rankdata` gives the same, and half a second of loading with it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def mean_ranks(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(n,) numbers -> (n,) float64 ranks from 1 for the smallest; equal numbers share their mean rank. With a NaN no rank is known: all
    are NaN."""
    numbers = np.asarray(values, dtype=np.float64)
    if np.isnan(numbers).any():
        return np.full(numbers.shape, np.nan)
    _, place, count = np.unique(numbers, return_inverse=True, return_counts=True)
    ranks: npt.NDArray[np.float64] = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks


__all__ = ["mean_ranks"]

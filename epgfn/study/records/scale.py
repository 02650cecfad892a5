"""Raw numbers on a study's public scale, and back: x = (transform(raw / transform_scale) - centre) / scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from epgfn.study.records.table import Floats
from epgfn.study.settings import Variable


def on_scale(values: npt.ArrayLike, variable: Variable) -> Floats:
    """Raw numbers of a variable on the study's scale; not finite where its transform is not defined."""
    x = np.asarray(values, dtype=np.float64)
    with np.errstate(all="ignore"):
        x = x / variable.transform_scale
        if variable.transform == "arcsinh":
            x = np.arcsinh(x)
        elif variable.transform == "log":
            x = np.log(x)
        return np.asarray((x - variable.centre) / variable.scale, dtype=np.float64)


def off_scale(scaled: npt.ArrayLike, variable: Variable) -> Floats:
    """The raw numbers that `on_scale` makes `scaled` of."""
    x = np.asarray(scaled, dtype=np.float64) * variable.scale + variable.centre
    if variable.transform == "arcsinh":
        x = np.sinh(x)
    elif variable.transform == "log":
        x = np.exp(x)
    return np.asarray(x * variable.transform_scale, dtype=np.float64)

"""What a network may say at most, so that no file with numbers that `check_tensors` takes can overflow float32 in any state.

With weights of at most W = `MAX_MAGNITUDE`, a linear layer of n inputs of at most x gives n W x + W. Three layers, as in `mlp`, of F
features and 2,048 hidden numbers stay below W^3 2048^2 F = 4e27 F, far from 3e38. Deeper networks are cut to `HIDDEN` between layers: then
variances (n 1e30) and two more layers (4e6 W^2 1e15 = 4e35) stay finite. What comes out is cut to `LOGIT`, nats that no reward of real data
comes near, and so products of many models and squares of their sums stay finite, too.

Both bounds lie far outside what trained models reach, where a cut changes no bit. NaN stays NaN: training that diverges is noticed.
"""

from __future__ import annotations

from typing import Final

from torch import Tensor

from epgfn.gflownet.policies.validation import MAX_MAGNITUDE

LOGIT: Final = MAX_MAGNITUDE
HIDDEN: Final = 1e15


def bounded(said: Tensor) -> Tensor:
    """What a network says, in nats, within +-`LOGIT`."""
    return said.clamp(-LOGIT, LOGIT)


def bounded_hidden(layer: Tensor) -> Tensor:
    """A layer's numbers within +-`HIDDEN`."""
    return layer.clamp(-HIDDEN, HIDDEN)

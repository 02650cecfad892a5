"""Balance losses: pure functions of tensors, in nats, each zero exactly when the flow is right; and what of a batch they look at.

contrastive        CB about the batch's median, robust          any space
trajectory         TB with a learned log Z                      any space
detailed           DB with a learned log F(s), one more network any space
subtrajectory      SubTB(.9) with the same network              any space
modified-detailed  modified DB, free of flows                   where every state may stop

A loss is one file, with its pure function and `loss`, and one line in `LOSSES`; those of a product of local models are in
`losses.aggregating`. Notation: a trajectory tau = (s_0 -> ... -> x) of B in a batch; `log_pf` = sum over its steps of log p_F,
`log_pb` likewise; `log_reward` = log R(x), known up to a constant. All are means, scalars of the inputs' dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from epgfn.base.errors import UsageError
from epgfn.gflownet.losses import contrastive, detailed, modified_detailed, subtrajectory, trajectory
from epgfn.gflownet.losses.aggregating import (
    aggregated_log_reward,
    aggregating_balance,
    aggregating_modified_detailed_balance,
)
from epgfn.gflownet.losses.base import Loss, Task
from epgfn.gflownet.losses.contrastive import contrastive_balance, robust_contrastive_balance
from epgfn.gflownet.losses.detailed import detailed_balance
from epgfn.gflownet.losses.modified_detailed import edge_log_ratio, modified_detailed_balance
from epgfn.gflownet.losses.subtrajectory import subtrajectory_balance
from epgfn.gflownet.losses.trajectory import trajectory_balance
from epgfn.gflownet.spaces.base import LogReward, Space, State

LOSSES: dict[str, Callable[[Task[Any]], Loss[Any]]] = {
    "contrastive": contrastive.loss,
    "detailed": detailed.loss,
    "modified-detailed": modified_detailed.loss,
    "subtrajectory": subtrajectory.loss,
    "trajectory": trajectory.loss,
}


def make_loss(
    space: Space[State],
    log_reward: LogReward[State],
    objective: str,
    *,
    hidden: int = 256,
    generator: torch.Generator | None = None,
) -> Loss[State]:
    """The loss of that name towards `log_reward`; arguments as `Task` says.

    Raises:
        UsageError: there is no such loss, or the space has no use for it.
    """
    if objective not in LOSSES:
        raise UsageError(f"there is no objective {objective!r}; choose one of {', '.join(sorted(LOSSES))}")
    return LOSSES[objective](Task(space, log_reward, hidden, generator))


__all__ = [
    "LOSSES",
    "aggregated_log_reward",
    "aggregating_balance",
    "aggregating_modified_detailed_balance",
    "contrastive_balance",
    "detailed_balance",
    "edge_log_ratio",
    "make_loss",
    "modified_detailed_balance",
    "robust_contrastive_balance",
    "subtrajectory_balance",
    "trajectory_balance",
]

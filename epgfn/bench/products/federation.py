"""What a federated instance of the benchmark is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from epgfn.bench.products.yardsticks import Yardstick
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.sampling.rollout import Draw, sample
from epgfn.gflownet.spaces import Space
from epgfn.gflownet.spaces.base import LogReward
from epgfn.gflownet.training.loop import LoopSettings

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Federation:
    """N nodes, each with a reward of its own, and the product of all as the truth.

    Attributes:
        log_rewards: one a node: B finished states to (B,) float64 nats.
        make: models of one shape as one policy that evaluates them together.
        train: nodes, seed and steps to a model of the product of these nodes' rewards: of one node, its local model; of all,
            the centralised one. The same seed starts from the same weights.
        local_steps: what its schedule takes by default. global_steps: the same of the global model.
        settings_for: steps to how the global model is trained.
        start: local models and a seed to the global model before its training.
        yardstick: compares a policy with the product of all rewards.
        objective: one of `epgfn.gflownet.product.OBJECTIVES`. draw: how trajectories are sampled. together, key: see `FrozenProduct`.
        scores: (V, K) float64, the sum of the nodes' score tables, where rewards are such tables; up to `max_parents`.
    """

    space: Space[Any]
    log_rewards: Sequence[LogReward[Any]]
    make: Callable[[Sequence[Tensors]], Policy[Any]]
    train: Callable[[Sequence[int], int, int], Policy[Any]]
    local_steps: int
    global_steps: int
    settings_for: Callable[[int], LoopSettings]
    start: Callable[[Sequence[Tensors], int], Policy[Any]]
    yardstick: Yardstick
    objective: str = "aggregating"
    draw: Draw = sample
    together: bool = False
    key: Callable[[Any], Tensor] | None = None
    scores: Tensor | None = None
    max_parents: int = 0

    @property
    def nodes(self) -> int:
        return len(self.log_rewards)

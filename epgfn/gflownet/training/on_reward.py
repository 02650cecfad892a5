"""Training towards any reward in any space: the same loop as for studies, without a study.

space = Hypergrid(2, 12)
result = train_reward(space, HypergridReward(space), seed=1)
state, mass = terminating_mass(space, MlpNet(space, [result.tensors]))
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import torch

from epgfn.base.errors import UsageError
from epgfn.gflownet.losses import make_loss
from epgfn.gflownet.policies import mlp_net
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.policies.mlp_net import MAX_ACTIONS, MAX_BYTES, MlpNet
from epgfn.gflownet.rewards.rewards import checked, require_fits
from epgfn.gflownet.sampling.rollout import Draw, sample_once
from epgfn.gflownet.spaces.base import LogReward, Space, State
from epgfn.gflownet.training.loop import FINAL_RATE, LocalResult, Options, Progress, Watch, fit
from epgfn.gflownet.training.state import Checkpoint, tensor_digest

PROBED = 64


@dataclass(frozen=True)
class RewardSettings:
    """How a model is trained on a reward. Temperature and exploration fall linearly to 1 and 0 over the run; the learning
    rate falls along a cosine to `final_rate` of it (1: not at all). `objective` is one of `epgfn.gflownet.losses`. `replay` is the
    share of a batch that goes into objects seen before. Defaults by measurement: see `docs/accuracy.md` and `docs/training.md`."""

    objective: str = "contrastive"
    steps: int = 2000
    batch: int = 256
    learning_rate: float = 1e-2
    exploration: float = 0.1
    temperature: float = 1.0
    hidden: int = 256
    replay: float = 0.0
    final_rate: float = FINAL_RATE

    def __post_init__(self) -> None:
        if min(self.steps, self.hidden) < 1 or self.batch < 2 or not 0 < self.learning_rate <= 1:
            raise UsageError(
                "training needs steps and hidden of 1 or more, a batch of 2 or more, learning_rate in (0, 1]"
            )
        if not 0 <= self.exploration <= 1 or self.temperature < 1:
            raise UsageError("training needs exploration from 0 to 1 and a temperature of at least 1")
        if not 0 <= self.replay < 1:
            raise UsageError("training needs replay from 0 to below 1")
        if not 0 < self.final_rate <= 1:
            raise UsageError("training needs final_rate above 0 and at most 1")


DEFAULTS = RewardSettings()


def train_reward(
    space: Space[State],
    log_reward: LogReward[State],
    *,
    seed: int,
    settings: RewardSettings = DEFAULTS,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    checkpoint: Checkpoint | None = None,
    draw: Draw = sample_once,
) -> LocalResult:
    """A GFlowNet of kind `MlpNet` on p(x) proportional to exp(log_reward(x)); one thread and one seed give one result.

    Args:
        log_reward: finished states (B) to (B,) log R in nats; `modified-detailed` asks for unfinished states too.
        checkpoint: where the run's state is kept, and from where it goes on; rewards are told apart by their values.
        draw: how trajectories are sampled; see `epgfn.gflownet.sampling.exploration` for models that go into a product.

    Raises:
        RefusedError: the checkpoint is damaged, or of another run.
        UsageError: the objective or the target does not fit the space, or the space is too large for this network.
        EpgfnError: a score is not finite, training diverged, or `stop` was set.
    """
    _require_possible(space, settings)
    require_fits(log_reward, space)

    def reward(state: State) -> torch.Tensor:
        return checked(log_reward, state)

    generator = torch.Generator().manual_seed(seed)
    policy = MlpNet(space, [mlp_net.initial_tensors(space, settings.hidden, generator)])
    loss = make_loss(space, reward, settings.objective, hidden=settings.hidden, generator=generator)
    if checkpoint is not None and not checkpoint.target:
        checkpoint = checkpoint._replace(target=_probe(policy, space, reward))
    history = fit(
        policy,
        space,
        settings,
        loss,
        generator,
        watch=Watch(progress, stop, checkpoint),
        options=Options(draw, settings.replay, settings.final_rate),
    )
    return LocalResult(policy.tensors(), history)


def _require_possible(space: Space[Any], settings: RewardSettings) -> None:
    """Refuse what would run out of memory.

    Raises:
        UsageError: too many actions, weights, or features of one batch.
    """
    if space.n_actions > MAX_ACTIONS:
        raise UsageError(
            f"the space has {space.n_actions} actions, too many for one plain network; choose a policy made for it"
        )
    weights = 4 * (space.n_features + space.n_actions + settings.hidden) * settings.hidden
    features = 4 * settings.batch * space.max_steps * space.n_features
    if max(weights, features) > MAX_BYTES:
        raise UsageError(
            f"training in this space would take {max(weights, features) / 2**30:.0f} GiB, with up to {space.max_steps} steps of "
            f"{space.n_features} features; choose a smaller instance, batch or network"
        )


def _probe(policy: Policy[State], space: Space[State], reward: LogReward[State]) -> str:
    """A digest of the rewards of a few objects, the same for the same reward."""
    drawn = sample_once(policy, space, PROBED, generator=torch.Generator().manual_seed(0))
    return tensor_digest(reward(drawn.trajectories.final))

"""Training: one local model from one node's records, and the loop that trains any model.

    result = train_local(study, records, seed=1)
    result.tensors          what goes into the model file

The loop samples a batch from the tempered, exploring policy (off-policy is right for every balance loss), takes one step of
Adam with clipped gradients, and lets the learning rate fall along a cosine. One seed gives one result on one thread.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from epgfn.errors import EpgfnError
from epgfn.judges import Judge, make_judge
from epgfn.policies import Policy, initial_policy, make_policy, space_of
from epgfn.rollout import Rollout, sample
from epgfn.spaces import DagSpace
from epgfn.spaces.base import Space
from epgfn.spaces.parent_index import modular_score
from epgfn.targets import score_table

if TYPE_CHECKING:
    from epgfn.study import Study, TrainingSettings

MAX_GRADIENT_NORM = 20.0
FINAL_RATE = 0.02
"""Learning rate at the end, as a share of the first."""


class TrainingProgress(NamedTuple):
    """One step: its number from 1, how many there will be, loss (nats squared), gradient norm before clipping, and `ess`,
    the effective share of the batch (0 to 1) when its trajectories are weighted towards the target.

    The loss depends on the records: show it to the node's own people, send it to nobody.
    """

    step: int
    steps: int
    loss: float
    gradient_norm: float
    ess: float


Progress = Callable[[TrainingProgress], None]


class LocalResult(NamedTuple):
    """`tensors` as `policy_spec(study)` prescribes, float32; `history` one dict a step with the fields of its progress."""

    tensors: dict[str, Tensor]
    history: list[dict[str, Any]]


class LoopSettings(Protocol):
    """What the loop reads: `TrainingSettings` of a study, or any other with these fields."""

    @property
    def steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def exploration(self) -> float: ...
    @property
    def temperature(self) -> float: ...


def train_local(
    study: Study,
    records: np.ndarray,
    *,
    seed: int,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> LocalResult:
    """A GFlowNet on the subposterior R_n(G) = f(D_n | G) pi(G)^(1/N) of one node, N = the length of the roster.

    Args:
        study: decides score, prior, space, policy, objective and how long to train.
        records: (n, V) float64, transformed and scaled, columns in the study's order.
        seed: of weights and trajectories; one thread and one seed give one result.
        progress: called after each step, from this thread.
        stop: when set, training ends with an error after the current step.

    Raises:
        EpgfnError: the scores are not finite, training diverged, or `stop` was set.
    """
    table = score_table(study, records, n_parties=len(study.roster))
    table = torch.as_tensor(table, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    space = space_of(study)
    policy = make_policy(space, [initial_policy(study, table, generator)])
    judge = local_judge(space, table - table.amax(1, keepdim=True), study.training)
    history = fit(policy, space, study.training, judge, generator, progress=progress, stop=stop)
    return LocalResult(policy.tensors(), history)


def local_judge(space: DagSpace, table: Tensor, settings: TrainingSettings) -> Judge:
    """The loss that `settings.objective` names against the (V, K) float64 score table."""
    objective = "modified-detailed" if settings.objective == "detailed" else settings.objective
    return make_judge(
        space, lambda state: modular_score(table, state.adjacency, space.max_parents), objective
    )


def fit(
    policy: Policy,
    space: Space,
    settings: LoopSettings,
    judge: Judge,
    generator: torch.Generator,
    *,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    draw: Callable[..., Rollout] = sample,
) -> list[dict[str, Any]]:
    """Train the first model of `policy` in place; returns one dict a step. `draw` is `sample` or `sample_once`.

    Raises:
        EpgfnError: the loss or its gradient is not finite, or `stop` was set.
    """
    parameters = policy.parameters()
    for tensor in [*parameters, *judge.extra]:
        tensor.requires_grad_(True)
    rate = settings.learning_rate
    groups = [{"params": parameters, "lr": rate}, {"params": judge.extra, "lr": judge.extra_rate or rate}]
    optimiser = torch.optim.Adam([group for group in groups if group["params"]])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: _cosine(i / settings.steps))
    history: list[dict[str, Any]] = []
    for i in range(settings.steps):
        left = 1 - i / settings.steps
        rollout = draw(
            policy,
            space,
            settings.batch,
            generator=generator,
            temperature=1 + (settings.temperature - 1) * left,
            exploration=settings.exploration * left,
        )
        judged = judge.cost(rollout)
        optimiser.zero_grad()
        judged.loss.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM))
        loss = float(judged.loss.detach())
        if not (math.isfinite(loss) and math.isfinite(norm)):
            message = f"training diverged at step {i + 1} of {settings.steps}; lower learning_rate in the study and start again"
            raise EpgfnError(message)
        optimiser.step()
        schedule.step()
        done = TrainingProgress(
            i + 1, settings.steps, loss, norm, effective_share(judged.log_weight.detach())
        )
        history.append(done._asdict())
        if progress is not None:
            progress(done)
        if stop is not None and stop.is_set():
            raise EpgfnError(
                f"training was stopped at step {i + 1} of {settings.steps}; nothing was kept, start it again"
            )
    for tensor in parameters:
        tensor.requires_grad_(False)
    return history


def effective_share(log_weight: Tensor) -> float:
    """Effective sample size over sample size, (sum w)^2 / (B sum w^2) of (B,) log weights: 1 when all are equal."""
    log_weight = log_weight.double()
    log_ess = 2 * log_weight.logsumexp(0) - (2 * log_weight).logsumexp(0)
    return float(log_ess.exp() / len(log_weight))


def _cosine(share: float) -> float:
    return FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * share)) / 2

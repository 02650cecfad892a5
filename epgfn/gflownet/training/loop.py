"""The loop that trains any model.

It samples a batch from the tempered, exploring policy (off-policy is right for every balance loss), takes one step of
Adam with clipped gradients, and lets the learning rate fall along a cosine. One seed gives one result on one thread.
"""

from __future__ import annotations

import math
import statistics
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple, Protocol

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError
from epgfn.gflownet import parallel
from epgfn.gflownet.device import CPU
from epgfn.gflownet.losses.base import BatchLoss, Loss
from epgfn.gflownet.policies import Policy
from epgfn.gflownet.sampling.replay import Replay, with_replayed
from epgfn.gflownet.sampling.rollout import Draw, Rollout, sample, sample_once
from epgfn.gflownet.spaces import DagSpace
from epgfn.gflownet.spaces.base import LogReward, Space, State, take
from epgfn.gflownet.spaces.parent_index import good_score, modular_score
from epgfn.gflownet.training.adam import Adam
from epgfn.gflownet.training.state import Checkpoint, Keeper, TrainingState, run_digest

MAX_GRADIENT_NORM = 20.0
FINAL_RATE = 0.02
"""Learning rate at the end, as a share of the first."""
REPLAY_CAPACITY = 4096
WINDOW = 20
"""Steps whose median loss says whether training diverges."""
LARGEST_GROWTH, KEPT_GROWTH = 100.0, 10.0
"""A run stops once its loss is that many times what it was; checkpoints are of moments when it is below the second number."""


class TrainingEnded(EpgfnError):
    """Training diverged or was stopped; where several processes train together, in all of them after the same step."""


class TrainingProgress(NamedTuple):
    """One step: its number from 1, how many are planned by now, loss (nats squared), gradient norm before clipping, and `ess`,
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
    """`tensors` as `policy_spec(study)` prescribes, float32; `history` one dict a step with the fields of its
    progress; `trust` how far the model may be believed, where it was judged (`epgfn.learn.trust`); `notes` for the node's own
    people."""

    tensors: dict[str, Tensor]
    history: list[dict[str, Any]]
    trust: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


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


def draw_of(together: bool) -> Draw:
    """How trajectories of such a policy are drawn fastest: each distinct state once, where it takes states of different steps at once."""
    return sample_once if together and torch.get_default_device() == CPU else sample


def table_reward(space: DagSpace, table: Tensor) -> LogReward[Any]:
    """(B,) sums of (V, K) float64 scores over the variables of B graphs, in nats, less that of one good graph: what training rounds to
    float32 is then no large number, however many records there are."""
    offset = good_score(table, space.max_parents)
    return lambda state: modular_score(table, state.adjacency, space.max_parents) - offset


class Watch(NamedTuple):
    """What observes a run and may end it: `progress` is told of each step, `stop` ends it once set, `checkpoint` is where its state
    is kept; a run that is found there goes on, and ends as it would have ended."""

    progress: Progress | None = None
    stop: threading.Event | None = None
    checkpoint: Checkpoint | None = None


UNWATCHED = Watch()


class Options(NamedTuple):
    """How a run departs from the plain one: `draw` samples its trajectories (`sample`, `sample_once`, or one made of them); `replay` is
    the share of each batch, from 0 to below 1, that goes into objects seen before (see `epgfn.gflownet.sampling.replay`); `final_rate`
    the learning rate at the end as a share of the first, 1 for the same throughout."""

    draw: Draw = sample
    replay: float = 0.0
    final_rate: float = FINAL_RATE


PLAIN = Options()


COVERED: Final = 0.25
"""The share of each batch that goes into objects that were found to be lacking, once there are any."""


class Parts(NamedTuple):
    """A run in parts of `lengths` steps, each with the whole fall of temperature, exploration and learning rate. After each but the
    last, `is_enough()` may end it: of the weights alone, so that a run that was killed ends as it would have ended. Where it does not,
    `lacking()` gives finished states that the model lacks, or None, and from then on trajectories into them are trained on too; it is
    asked at the start as well."""

    lengths: Sequence[int]
    is_enough: Callable[[], bool]
    lacking: Callable[[], Any] = lambda: None


def fit(
    policy: Policy[State],
    space: Space[State],
    settings: LoopSettings,
    loss: Loss[State],
    generator: torch.Generator,
    *,
    watch: Watch = UNWATCHED,
    options: Options = PLAIN,
    parts: Parts | None = None,
) -> list[dict[str, Any]]:
    """Train the first model of `policy` in place; returns one dict a step.

    Args:
        watch: who is told of each step, what ends the run, and where its state is kept.
        options: how batches are drawn, and how far the learning rate falls.
        parts: how long to go on; `settings.steps` where it is not given.

    Raises:
        RefusedError: the checkpoint is damaged, or of another run.
        EpgfnError: training diverged, or `watch.stop` was set.
    """
    progress, stop, checkpoint = watch
    draw, replay, final_rate = options
    ends = (settings.steps,) if parts is None else tuple(accumulate(parts.lengths))
    state = _fresh_state(policy, space, settings, loss, generator, ends, replay)
    if parts is not None:
        state.lacking = Replay(space, REPLAY_CAPACITY)
        _remember(state.lacking, parts)
    parallel.own_generator(generator)
    batch = parallel.share_of(settings.batch)
    keeper = None
    if checkpoint is not None and parallel.workers().size == 1:  # several processes start anew
        extra, choices = [*loss.extra], [settings, replay, 0.0, final_rate]  # 0.0: as runs of before have it
        choices += [] if parts is None else [ends]
        run = run_digest(policy, space, choices, extra, generator, checkpoint.target)
        keeper = Keeper(checkpoint, run, state)
    while state.step < ends[-1] and not (state.step in ends and _is_enough(parts, state)):
        begun, end = state.part(state.step + 1)
        left = 1 - (state.step - begun) / (end - begun)
        replayed = round(replay * batch) if state.memory else 0
        covered = round(COVERED * batch) if state.lacking else 0
        rollout = draw(
            policy,
            space,
            batch - replayed - covered,
            generator=generator,
            temperature=1 + (settings.temperature - 1) * left,
            exploration=settings.exploration * left,
        )
        if state.memory is not None:
            rollout = with_replayed(rollout, state.memory, replayed, policy, draw, generator)
        if state.lacking is not None:
            rollout = with_replayed(rollout, state.lacking, covered, policy, draw, generator)
        done = _learn(state, policy, loss.of_batch(rollout), rollout, _cosine(1 - left, final_rate), keeper)
        if progress is not None:
            progress(done)
        if keeper is not None and keeper.is_due() and _growth(state.history) < KEPT_GROWTH:
            keeper.keep()
        if parallel.told_to_stop(stop):
            raise TrainingEnded(_stopped(state, keeper))
    if keeper is not None:
        keeper.keep()
    for tensor in state.optimiser.trained:
        tensor.requires_grad_(False)
    return state.history


def _is_enough(parts: Parts | None, state: TrainingState) -> bool:
    """What the first process finds, in all of them; if it is not, what lacks is remembered."""
    if parts is None or state.lacking is None:
        return False
    enough = bool(parallel.number_from_first(parts.is_enough()))
    if not enough:
        _remember(state.lacking, parts)
    return enough


def _remember(memory: Replay[Any], parts: Parts) -> None:
    """What the model lacks, for what is left of the run."""
    found = parts.lacking()
    if found is not None:
        memory.add(found, torch.zeros(len(found[0])))


def _fresh_state(
    policy: Policy[State],
    space: Space[State],
    settings: LoopSettings,
    loss: Loss[State],
    generator: torch.Generator,
    ends: Sequence[int],
    replay: float,
) -> TrainingState:
    """A run before its first step."""
    parameters, rate = policy.parameters(), settings.learning_rate
    groups = [(parameters, rate), (list(loss.extra), loss.extra_rate or rate)]
    return TrainingState(
        ends,
        Adam(groups),
        generator,
        Replay(space, REPLAY_CAPACITY) if replay > 0 else None,
    )


def _learn(
    state: TrainingState,
    policy: Policy[State],
    batch_loss: BatchLoss,
    rollout: Rollout[State],
    rate: float,
    keeper: Keeper | None,
) -> TrainingProgress:
    """One step down the gradient of a batch, `rate` the share of the learning rate."""
    state.optimiser.forget_gradients()
    batch_loss.loss.backward()  # type: ignore[no-untyped-call]
    if state.step == 0:
        parallel.all_from_first(
            state.optimiser.trained
        )  # a log Z estimated from each process's own first batch would stay apart
    loss = float(parallel.average_gradients(state.optimiser.trained, batch_loss.loss.detach()[None])[0])
    norm = float(torch.nn.utils.clip_grad_norm_(policy.parameters(), MAX_GRADIENT_NORM))
    grown = state.step % WINDOW == 0 and _growth(state.history) > LARGEST_GROWTH
    if grown or not (math.isfinite(loss) and math.isfinite(norm)):
        raise TrainingEnded(_diverged(state, keeper))
    state.optimiser.step(rate)
    state.step += 1
    fresh = ~rollout.log_q.isnan()
    log_weight = batch_loss.log_weight.detach()[fresh]
    if state.memory is not None and batch_loss.log_reward is not None:
        state.memory.add(take(rollout.trajectories.final, fresh), batch_loss.log_reward[fresh])
    planned = state.part(state.step)[1]
    done = TrainingProgress(state.step, planned, loss, norm, effective_share(log_weight))
    state.history.append(done._asdict())
    return done


def _growth(history: Sequence[Mapping[str, Any]]) -> float:
    """How many times larger the loss is than it was at first, by the medians of `WINDOW` steps; at first it counts as 1 or more."""
    if len(history) < 2 * WINDOW:
        return 0.0
    first, last = (
        statistics.median(row["loss"] for row in part) for part in (history[:WINDOW], history[-WINDOW:])
    )
    return float(last / max(first, 1.0))


def _diverged(state: TrainingState, keeper: Keeper | None) -> str:
    sentence = f"training diverged at step {state.step + 1} of {state.part(state.step + 1)[1]}; lower learning_rate and start again"
    if keeper is None or keeper.kept_step == 0:
        return sentence
    path = keeper.checkpoint.path
    return f"{sentence} without {path}, which keeps the last good weights, of step {keeper.kept_step}: move it away first"


def _stopped(state: TrainingState, keeper: Keeper | None) -> str:
    sentence = f"training was stopped at step {state.step} of {state.part(state.step)[1]}"
    if keeper is None:
        return f"{sentence}; nothing was kept, start it again"
    keeper.keep()
    return f"{sentence}; start it again and it goes on from {keeper.checkpoint.path}"


def effective_share(log_weight: Tensor) -> float:
    """Effective sample size over sample size, (sum w)^2 / (B sum w^2) of (B,) log weights: 1 when all are equal."""
    log_weight = log_weight.double()
    log_ess = 2 * log_weight.logsumexp(0) - (2 * log_weight).logsumexp(0)
    return float(log_ess.exp() / len(log_weight))


def _cosine(share: float, final: float) -> float:
    return final + (1 - final) * (1 + math.cos(math.pi * share)) / 2

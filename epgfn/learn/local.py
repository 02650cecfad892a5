"""One local model from one node's records.

    result = train_local(study, records, seed=1)
    result.tensors          what goes into the model file

Training computes on PyTorch's default device (`epgfn.gflownet.device`); records and results are in main memory.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from epgfn.base.notebook import notebook_bar
from epgfn.gflownet.device import CPU, computing_on, on_cpu, seeded
from epgfn.gflownet.losses import make_loss
from epgfn.gflownet.losses.base import Loss
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.rewards.remembered import Remembered
from epgfn.gflownet.rewards.rewards import checked
from epgfn.gflownet.sampling.exploration import with_preferences
from epgfn.gflownet.sampling.rollout import Draw
from epgfn.gflownet.spaces import DagSpace
from epgfn.gflownet.spaces.base import LogReward, Space, State
from epgfn.gflownet.training.state import Checkpoint
from epgfn.learn.elsewhere import (
    Elsewhere,
    GraphChains,
    TreeChains,
    at_random,
    chains_of_walks,
    without_edges,
)
from epgfn.learn.exact import Exact, exact_of_objects, exact_of_table
from epgfn.learn.masked import encode, tensors_of
from epgfn.learn.policy import family_of, initial_policy, require_possible
from epgfn.learn.scores import table_from_moments
from epgfn.learn.target import Target, target_of
from epgfn.learn.trust import LOCAL_SAMPLES, MULTIPLIED, Judge, parts_of
from epgfn.study.objects import space_of
from epgfn.study.parameters import is_masked
from epgfn.targets.gaussian import Moments

if TYPE_CHECKING:
    from epgfn.study import Study
    from epgfn.study.settings import TrainingSettings

from epgfn.gflownet.training.loop import LocalResult, Options, Progress, Watch, draw_of, fit, table_reward


def train_local(
    study: Study,
    records: np.ndarray,
    *,
    seed: int,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    checkpoint: Path | None = None,
) -> LocalResult:
    """A GFlowNet on the subposterior R_n(x) = f(D_n | x) pi(x)^(1/N) of one node, N = the length of the roster. Of a study whose sums are
    masked: the numbers of its statistic, and no model.

    Args:
        study: decides score, prior, space, policy, objective and how long to train.
        records: as `epgfn.study.records.tables.load_records` gives them.
        seed: of weights and trajectories; one thread and one seed give one result.
        progress: called after each step, from this thread; in a notebook a bar (tqdm) if none is given.
        stop: when set, training ends with an error after the current step.
        checkpoint: a file in which the run's state is kept every second or so, and from which it goes on where it is there.
            It holds weights trained on the records: delete it once the model is written.

    Raises:
        UsageError: the study is too large; see `policies.require_possible`.
        RefusedError: "other-run": the checkpoint is of another study, seed or records; "damaged-checkpoint".
        EpgfnError: the scores are not finite, training diverged, or `stop` was set.
    """
    with computing_on(CPU):  # once, in float64; what follows is on the default device
        target = target_of(study, records)
        if is_masked(study):  # nothing of a node alone is to be read, so there is nothing to train
            return LocalResult(tensors_of(encode(study, target.statistic)), [], notes=target.notes)
    shown = progress or notebook_bar("local model")
    return train_on_target(study, target, seed=seed, progress=shown, stop=stop, checkpoint=checkpoint)


def train_on_moments(
    study: Study,
    moments: Moments,
    *,
    seed: int,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    checkpoint: Path | None = None,
) -> LocalResult:
    """`train_local` from n, mean and scatter, as a release with noise gives them; no record is seen. Raises as there."""
    with computing_on(CPU):
        target = Target.of_table(table_from_moments(study, moments, n_parties=len(study.roster)))
    return train_on_target(study, target, seed=seed, progress=progress, stop=stop, checkpoint=checkpoint)


def train_on_target(
    study: Study,
    target: Target,
    *,
    seed: int,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    checkpoint: Path | None = None,
) -> LocalResult:
    """`train_local` towards what the records, or a release of them, amount to. Raises as there."""
    require_possible(study)
    kept = Checkpoint(checkpoint, target.digest) if checkpoint is not None else None
    generator = seeded(seed)
    space, family = space_of(study), family_of(study)
    scores: Tensor | None = None
    if target.table is not None:
        scores = torch.as_tensor(target.table, dtype=torch.float64, device=torch.get_default_device())
        log_reward = table_reward(space, scores - scores.amax(1, keepdim=True))
    else:
        log_reward = _centred(_in_main_memory(study, target.log_reward), space)
        if family.fitted is not None:
            scores = family.fitted(space, log_reward, generator)
    if family.by_chains is not None and target.moves is not None:
        tensors = family.by_chains(space, target.moves, generator, len(study.roster) > 1)
    else:
        tensors = initial_policy(study, scores, generator)
    policy = make_policy(space, [tensors])
    loss = make_loss(space, log_reward, study.training.loss, generator=generator)
    if target.table is not None and scores is not None:
        start = without_edges(study)
        elsewhere: Elsewhere = GraphChains(study, scores)
    else:
        start = at_random(study, seed)
        elsewhere = (
            TreeChains(study, target.moves)
            if target.moves is not None
            else chains_of_walks(study, log_reward, start, seed)
        )
    exact = partial(_exact, study, target, log_reward)
    multiplied = len(study.roster) > 1 and (target.table is None or family.scores is None)
    share = MULTIPLIED if multiplied else 0.0
    judge = Judge(study, policy, log_reward, seed, exact, elsewhere, start, LOCAL_SAMPLES, share)
    history = fit(
        policy,
        space,
        study.training,
        loss,
        generator,
        watch=Watch(progress, stop, kept),
        options=Options(_local_draw(study, family.together)),
        parts=parts_of(study, study.training, judge),
    )
    tensors = {**on_cpu(policy.tensors()), **target.statistic}
    return LocalResult(tensors, history, judge.last().trust, target.notes)


def _exact(study: Study, target: Target, log_reward: LogReward[Any]) -> Exact | None:
    """What the node's own target implies."""
    if target.table is not None:
        return exact_of_table(study, target.table)
    return exact_of_objects(study, log_reward)


def _local_draw(study: Study, together: bool) -> Draw:
    draw, share = draw_of(together), study.kind.preferences
    return with_preferences(draw, share=share, spread=1.0) if share else draw


def local_loss(space: DagSpace, table: Tensor, settings: TrainingSettings) -> Loss[Any]:
    """The loss that `settings.objective` names against the (V, K) float64 score table."""
    return make_loss(space, table_reward(space, table), settings.loss)


def _in_main_memory(study: Study, log_reward: LogReward[Any]) -> LogReward[Any]:
    """Rewards of records stay with the records, on the processor; each object's is computed once."""
    here = torch.get_default_device()
    with computing_on(CPU):
        remembered = Remembered(space_of(study), log_reward)
    if here == CPU:
        return remembered

    def away(state: Any) -> Tensor:
        with computing_on(CPU):
            value = remembered(type(state)(*(field.to(CPU) for field in state)))
        return value.to(here)

    return away


def _centred(log_reward: LogReward[State], space: Space[State]) -> LogReward[State]:
    """`log_reward` less its value at one object: training is in float32, and the log-likelihood of many records is a large number."""
    state = space.initial(1)
    while not bool(space.is_terminating(state).all()):
        state = space.step(state, space.forward_mask(state).to(torch.uint8).argmax(1))
    offset = checked(log_reward, state)
    return lambda states: checked(log_reward, states) - offset

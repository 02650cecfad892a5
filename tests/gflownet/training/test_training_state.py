"""A run that is killed and started again ends as if nothing had happened; a run that diverges keeps what was good."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ready
from epgfn.base.errors import EpgfnError, RefusedError
from epgfn.gflownet.losses import make_loss
from epgfn.gflownet.losses.base import BatchLoss, Loss
from epgfn.gflownet.policies.mlp_net import MlpNet, initial_tensors
from epgfn.gflownet.rewards.rewards import HypergridReward
from epgfn.gflownet.sampling.rollout import Rollout
from epgfn.gflownet.spaces import Hypergrid, Multiset
from epgfn.gflownet.training.loop import Watch, fit
from epgfn.gflownet.training.on_reward import RewardSettings, train_reward
from epgfn.gflownet.training.state import Checkpoint, load_weights
from epgfn.learn.local import train_local
from worlds import BY_SINKS, records

SPACE = Hypergrid(2, 6)
REWARD = HypergridReward(SPACE)
EVERYTHING = RewardSettings(
    "subtrajectory",
    steps=40,
    batch=32,
    hidden=16,
    exploration=0.2,
    replay=0.25,
)
CHILD = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from epgfn.gflownet.training.on_reward import RewardSettings, train_reward
from epgfn.gflownet.training.state import Checkpoint
from test_training_state import EVERYTHING, REWARD, SPACE

def progress(done):
    print(done.step, flush=True)
    if done.step == 23:
        time.sleep(600)  # until it is killed

train_reward(SPACE, REWARD, seed=3, settings=EVERYTHING, progress=progress, checkpoint=Checkpoint(Path(sys.argv[1]), steps=5))
"""


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


class StopAtStep(Exception):
    pass


def stop_at(step: int) -> Any:
    def progress(done: Any) -> None:
        if done.step == step:
            raise StopAtStep

    return progress


def test_a_process_killed_in_the_middle_goes_on_to_the_same_model(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    child = ready.Popen(
        [sys.executable, "-c", CHILD, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) == 23:
            child.send_signal(signal.SIGKILL)
            break
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    assert path.stat().st_mode & 0o777 == 0o600
    seen: list[int] = []
    again = train_reward(
        SPACE,
        REWARD,
        seed=3,
        settings=EVERYTHING,
        progress=lambda done: seen.append(done.step),
        checkpoint=Checkpoint(path, steps=5),
    )
    whole = train_reward(SPACE, REWARD, seed=3, settings=EVERYTHING)
    assert seen[0] == 21  # not from the beginning
    assert same(again.tensors, whole.tensors)
    assert again.history == whole.history


@pytest.mark.parametrize("objective", ["contrastive", "trajectory", "detailed"])
def test_every_objective_resumes(tmp_path: Path, objective: str) -> None:
    settings = RewardSettings(objective, steps=12, batch=16, hidden=8)
    checkpoint = Checkpoint(tmp_path / "c", steps=3)
    with pytest.raises(StopAtStep):
        train_reward(SPACE, REWARD, seed=1, settings=settings, checkpoint=checkpoint, progress=stop_at(8))
    again = train_reward(SPACE, REWARD, seed=1, settings=settings, checkpoint=checkpoint)
    assert same(again.tensors, train_reward(SPACE, REWARD, seed=1, settings=settings).tensors)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first, again = (train_local(BY_SINKS, records(0), seed=1, checkpoint=tmp_path / "c") for _ in range(2))
    assert same(first.tensors, again.tensors) and first.history == again.history
    assert same(first.tensors, train_local(BY_SINKS, records(0), seed=1).tensors)
    with pytest.raises(StopAtStep):  # without the file it is
        train_local(BY_SINKS, records(0), seed=1, progress=stop_at(1))


OTHERS: dict[str, dict[str, Any]] = {
    "seed": {"seed": 2},
    "settings": {"settings": RewardSettings(steps=4, batch=16, hidden=8, learning_rate=1e-3)},
    "shapes": {"settings": RewardSettings(steps=4, batch=16, hidden=9)},
    "reward": {"log_reward": HypergridReward(SPACE, r0=0.2)},
    "space": {"space": Hypergrid(2, 7), "log_reward": HypergridReward(Hypergrid(2, 7))},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_the_checkpoint_of_another_run_is_refused_and_left_alone(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    run: dict[str, Any] = {
        "space": SPACE,
        "log_reward": REWARD,
        "seed": 1,
        "settings": RewardSettings(steps=4, batch=16, hidden=8),
        "checkpoint": Checkpoint(tmp_path / "c"),
    }
    train_reward(**run)
    before = (tmp_path / "c").read_bytes()
    with pytest.raises(RefusedError, match="another run") as refused:
        train_reward(**{**run, **other})
    assert refused.value.reason == "other-run"
    assert str(tmp_path / "c") in str(refused.value)
    assert (tmp_path / "c").read_bytes() == before


def test_other_records_are_another_run(tmp_path: Path) -> None:
    study = BY_SINKS.with_changes({"training": {"steps": 2}})
    train_local(study, records(0), seed=1, checkpoint=tmp_path / "c")
    with pytest.raises(RefusedError, match="another run"):
        train_local(study, records(1), seed=1, checkpoint=tmp_path / "c")


@pytest.mark.parametrize("spoil", [lambda raw: b"", lambda raw: raw[:-100], lambda raw: b"x" + raw[1:]])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, spoil: Any) -> None:
    path, settings = tmp_path / "c", RewardSettings(steps=2, batch=16, hidden=8)
    train_reward(SPACE, REWARD, seed=1, settings=settings, checkpoint=Checkpoint(path))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(RefusedError, match="damaged") as refused:
        train_reward(SPACE, REWARD, seed=1, settings=settings, checkpoint=Checkpoint(path))
    assert refused.value.reason == "damaged-checkpoint"


def run_with(spoil: Any, checkpoint: Checkpoint | None, steps: int = 60) -> MlpNet:
    """Trains while `spoil(step, loss)` stands in for the loss."""
    generator = torch.Generator().manual_seed(0)
    policy = MlpNet(SPACE, [initial_tensors(SPACE, 8, generator)])
    loss, count = make_loss(SPACE, REWARD, "contrastive"), 0

    def of_batch(rollout: Rollout) -> BatchLoss:
        nonlocal count
        count += 1
        batch_loss = loss.of_batch(rollout)
        return batch_loss._replace(loss=spoil(count, batch_loss.loss))

    settings = RewardSettings(steps=steps, batch=16, hidden=8)
    fit(policy, SPACE, settings, Loss(of_batch), generator, watch=Watch(checkpoint=checkpoint))
    return policy


@pytest.mark.parametrize(
    "spoil",
    [
        lambda step, loss: loss * (math.nan if step == 33 else 1.0),
        lambda step, loss: loss * (math.inf if step == 33 else 1.0),
    ],
)
def test_a_diverging_run_stops_and_keeps_its_last_good_weights(tmp_path: Path, spoil: Any) -> None:
    path = tmp_path / "c"
    with pytest.raises(EpgfnError) as error:
        run_with(spoil, Checkpoint(path, seconds=math.inf, steps=10))
    sentence = str(error.value)
    assert "diverged at step 33 of 60" in sentence and "learning_rate" in sentence
    assert f"{path}" in sentence and "step 30" in sentence
    policy = MlpNet(SPACE, [initial_tensors(SPACE, 8, torch.Generator().manual_seed(9))])
    load_weights(path, policy)
    good = MlpNet(SPACE, [initial_tensors(SPACE, 8, torch.Generator().manual_seed(9))])
    with pytest.raises(StopAtStep):
        run_with(_until(30), Checkpoint(tmp_path / "d", seconds=math.inf, steps=10))
    load_weights(tmp_path / "d", good)
    assert same(policy.tensors(), good.tensors())


def _until(last: int) -> Any:
    def spoil(step: int, loss: Tensor) -> Tensor:
        if step > last:
            raise StopAtStep
        return loss

    return spoil


def test_a_loss_that_grows_without_end_is_divergence_too(tmp_path: Path) -> None:
    with pytest.raises(EpgfnError, match="diverged"):
        run_with(lambda step, loss: loss * (1.2 if step < 30 else 1.2 ** (step - 29)), None, steps=400)


def test_a_run_that_was_told_to_stop_can_go_on(tmp_path: Path) -> None:
    stop = threading.Event()
    settings = RewardSettings(steps=6, batch=16, hidden=8)

    def progress(done: Any) -> None:
        if done.step == 3:
            stop.set()

    kept = Checkpoint(tmp_path / "c")
    with pytest.raises(EpgfnError, match="goes on from"):
        train_reward(SPACE, REWARD, seed=1, settings=settings, checkpoint=kept, stop=stop, progress=progress)
    again = train_reward(SPACE, REWARD, seed=1, settings=settings, checkpoint=kept)
    assert same(again.tensors, train_reward(SPACE, REWARD, seed=1, settings=settings).tensors)


def test_weights_of_another_policy_are_refused(tmp_path: Path) -> None:
    settings = RewardSettings(steps=2, batch=16, hidden=8)
    train_reward(SPACE, REWARD, seed=1, settings=settings, checkpoint=Checkpoint(tmp_path / "c"))
    bags = Multiset(3, 2)
    with pytest.raises(RefusedError, match="another policy"):
        load_weights(tmp_path / "c", MlpNet(bags, [initial_tensors(bags, 8, torch.Generator())]))

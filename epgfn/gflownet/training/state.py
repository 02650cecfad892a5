"""Checkpoints of training: everything a run needs to go on after it was killed, as one file.

    train_reward(space, log_reward, seed=1, checkpoint=Path("run.checkpoint"))     start, or go on

The file is safetensors: the trained tensors, Adam's moments, the generator's state, replayed objects, and the history.
Its metadata names the run it belongs to by a digest. It holds weights trained on private records, so only its owner can read it.
On one thread a run that was killed and started again gives the same model, bit for bit.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from epgfn.base.errors import RefusedError
from epgfn.base.files import sha256_hex, write_secret
from epgfn.gflownet.device import CPU
from epgfn.gflownet.policies.base import Policy
from epgfn.gflownet.rewards.rewards import shape_of
from epgfn.gflownet.sampling.replay import Replay
from epgfn.gflownet.spaces.base import Space, State
from epgfn.gflownet.training.adam import Adam

FORMAT: Final = "epgfn-training/v1"
HISTORY_FIELDS: Final = ("loss", "gradient_norm", "ess")
LARGEST_SHARE: Final = 0.02
"""Most of the time that may go into writing."""


class Checkpoint(NamedTuple):
    """Where a run keeps its state and how often: after `seconds`, yet at most for `LARGEST_SHARE` of the time, or after `steps`
    where given, and at the end.

    `target` stands for what the loop cannot see of the run it belongs to: the reward. A digest of it will do.
    """

    path: Path
    target: str = ""
    seconds: float = 1.0
    steps: int | None = None


@dataclass
class TrainingState:
    """What training changes: tensors in place, `step` the number of steps done. `ends`: the steps at which a part of the run is over,
    ascending; the last is the end of it all. `memory`: objects seen, for replay; `lacking`: objects that the model was found to lack."""

    ends: Sequence[int]
    optimiser: Adam
    generator: torch.Generator
    memory: Replay[Any] | None = None
    lacking: Replay[Any] | None = None
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)

    def part(self, step: int) -> tuple[int, int]:
        """The steps after which the part of `step`, from 1, begins, and with which it ends."""
        number = min(bisect_left(self.ends, step), len(self.ends) - 1)
        return (self.ends[number - 1] if number else 0), self.ends[number]


def run_digest(
    policy: Policy[State],
    space: Space[State],
    settings: Any,
    extra: Sequence[Tensor],
    generator: torch.Generator,
    target: str,
) -> str:
    """SHA-256 of all that decides a run before its first step: space, settings, initial weights, and the seed's generator."""
    facts = {
        "format": FORMAT,
        "space": shape_of(space),
        "settings": repr(settings),
        "policy": type(policy).__name__,
        "weights": {name: tensor_digest(tensor) for name, tensor in policy.tensors().items()},
        "extra": [tensor_digest(tensor) for tensor in extra],
        "generator": tensor_digest(generator.get_state()),
        "target": target,
    }
    return sha256_hex(json.dumps(facts, sort_keys=True).encode())


def save(path: Path, run: str, state: TrainingState) -> None:
    """Write the state of run `run` to `path`, whole or not at all, readable by its owner alone.

    Raises:
        EpgfnError: the file cannot be written.
    """
    metadata = {"format": FORMAT, "run": run, "step": str(state.step)}
    write_secret(path, safetensors.torch.save(_tensors(state), metadata))


def restore(path: Path, run: str, state: TrainingState) -> None:
    """Bring `state`, of a run that has not begun, to where the file at `path` was written.

    Raises:
        RefusedError: "other-run": it belongs to another run; "damaged-checkpoint": it cannot be read.
    """
    tensors, metadata = _read(path)
    if metadata.get("run") != run:
        raise RefusedError(
            "other-run",
            f"the saved training state {path} belongs to another run: other settings, seed, data or version; finish that run, "
            "or delete the file to start anew",
        )
    _put(state, tensors)
    state.step = int(metadata["step"])


def load_weights(path: Path, policy: Policy[Any]) -> None:
    """Give `policy`, made as for the run, the weights of the checkpoint at `path`: of its last step.

    Raises:
        RefusedError: "damaged-checkpoint": it cannot be read; "other-run": its weights are of other shapes.
    """
    tensors, _ = _read(path)
    for i, parameter in enumerate(policy.parameters()):
        value = tensors.get(f"trained.{i}")
        if value is None or value.shape != parameter.shape:
            raise RefusedError(
                "other-run",
                f"the saved training state {path} holds weights of another policy; name the run's own file",
            )
        with torch.no_grad():
            parameter.copy_(value)


class Keeper:
    """Writes the state of one run when it is time to, and finds it again at the start."""

    def __init__(self, checkpoint: Checkpoint, run: str, state: TrainingState) -> None:
        """Goes on from the file, where there is one. Errors as `restore`."""
        self.checkpoint, self.run, self.state = checkpoint, run, state
        if checkpoint.path.exists():
            restore(checkpoint.path, run, state)
        self.kept_step, self._kept_at, self._took = state.step, time.monotonic(), 0.0

    def is_due(self) -> bool:
        """Is it time to write again?"""
        if self.checkpoint.steps is not None and self.state.step - self.kept_step >= self.checkpoint.steps:
            return True
        return time.monotonic() - self._kept_at >= max(self.checkpoint.seconds, self._took / LARGEST_SHARE)

    def keep(self) -> None:
        """Write now. Errors as `save`."""
        begun = time.monotonic()
        if self.kept_step < self.state.step:
            save(self.checkpoint.path, self.run, self.state)
        self.kept_step, self._kept_at = self.state.step, time.monotonic()
        self._took = self._kept_at - begun


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    """All of `state` by name, contiguous copies in main memory."""
    found = state.optimiser.tensors()
    found["generator"] = state.generator.get_state()
    rows = [[row[name] for name in HISTORY_FIELDS] for row in state.history]
    found["history"] = torch.tensor(rows, dtype=torch.float64).view(len(rows), len(HISTORY_FIELDS))
    if state.memory is not None:
        found |= {f"memory.{name}": value for name, value in state.memory.tensors().items()}
    if state.lacking:
        found |= {f"lacking.{name}": value for name, value in state.lacking.tensors().items()}
    return {name: tensor.to(CPU).contiguous().clone() for name, tensor in found.items()}


@torch.no_grad()
def _put(state: TrainingState, tensors: dict[str, Tensor]) -> None:
    """The reverse of `_tensors`, for a run with as many tensors."""
    state.optimiser.restore(tensors)
    state.generator.set_state(tensors["generator"].cpu())
    rows = [dict(zip(HISTORY_FIELDS, row, strict=True)) for row in tensors["history"].tolist()]
    state.history = [{"step": i, "steps": state.part(i)[1], **row} for i, row in enumerate(rows, start=1)]
    if state.memory is not None:
        state.memory.restore(_below(tensors, "memory."))
    if state.lacking is not None and (lacking := _below(tensors, "lacking.")):
        state.lacking.restore(lacking)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    here = torch.get_default_device()
    return {n.removeprefix(prefix): t.to(here) for n, t in tensors.items() if n.startswith(prefix)}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") == FORMAT:
                return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except Exception:
        pass  # a parser's many kinds of error all mean the same to the reader
    raise RefusedError(
        "damaged-checkpoint",
        f"the file {path} is not a training state saved by this version, or it is damaged; delete it to start anew",
    ) from None


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's bytes."""
    return sha256_hex(tensor.detach().cpu().contiguous().numpy().tobytes())

"""Training the global model, in all processes of a `torchrun` at once: the first one serves, the others wait for models to train on.

    torchrun --nproc-per-node 2 -m epgfn_coordinator serve --home coordinator-home

For each training the first process sends how many local models there are, the study, whose they are, and their tensors: memory to memory,
never by disk.
A count of 0 is the end. Outside torchrun there is one process, and this is a call of `train_global`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from epgfn.base.errors import EpgfnError
from epgfn.gflownet.device import CPU, computing_on
from epgfn.gflownet.parallel import from_first, number_from_first, tensors_from_first, workers
from epgfn.gflownet.training.loop import Progress, TrainingEnded
from epgfn.learn.aggregate import GlobalResult, train_global
from epgfn.learn.masked import TOTAL
from epgfn.learn.policy import upload_spec
from epgfn.study import Study

Models = Mapping[str, Mapping[str, Tensor]]


class Trainer:
    """The first process, or the only one."""

    def __init__(self, device: torch.device = CPU) -> None:
        self._device = device
        self._in_step = True  # with the others; not while they train, nor once they have lost each other

    def train(self, study: Study, models: Models, progress: Progress, stop: threading.Event) -> GlobalResult:
        """`train_global` of `models`, tensors by node id.

        Raises:
            EpgfnError: as there, or the processes have lost each other.
        """
        if not self._in_step:
            raise EpgfnError("the processes have lost each other in an earlier training; start serve again")
        self._in_step = workers().size == 1
        _send(study, models)
        try:
            with computing_on(self._device):
                result = train_global(study, models, seed=study.seed, progress=progress, stop=stop)
        except TrainingEnded:
            self._in_step = True  # they have ended after the same step
            raise
        except RuntimeError:
            if workers().size == 1:
                raise
            raise EpgfnError(
                "a process that took part in training is gone, or does not answer; the round is kept, start serve again"
            ) from None
        self._in_step = True
        return result

    def end(self) -> None:
        """Let the others go. Where they cannot listen, they notice that this process is gone."""
        if self._in_step:
            number_from_first(0)


def train_along(device: torch.device = CPU) -> None:
    """What the other processes do until the first one ends. They write nothing, and leave signals to the first.

    Raises:
        EpgfnError: the first process is gone, or training failed in this one.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        while count := number_from_first(0):
            study = _receive_study()
            models = _receive(study, count)
            try:
                with computing_on(device):
                    train_global(study, models, seed=study.seed)
            except TrainingEnded:
                continue  # the first process says why
    except RuntimeError:
        raise EpgfnError(
            "the first process is gone, or does not answer; its output says why, then start serve again"
        ) from None


def _send(study: Study, models: Models) -> None:
    nodes = sorted(models)
    number_from_first(len(nodes))
    number_from_first(len(study.raw))
    from_first(torch.frombuffer(bytearray(study.raw), dtype=torch.uint8).to(torch.int64))
    from_first(_places(study, nodes))
    for node in nodes:
        tensors_from_first(models[node], upload_spec(study))


def _receive_study() -> Study:
    """Which round's it is, only the first process knows."""
    size = number_from_first(0)
    raw = from_first(torch.zeros(size, dtype=torch.int64)).to(torch.uint8)
    return Study.from_bytes(bytes(raw.tolist()), "the study of the first process")


def _receive(study: Study, count: int) -> dict[str, dict[str, Tensor]]:
    places = from_first(torch.zeros(count, dtype=torch.int64)).tolist()
    names = [*study.roster, TOTAL]
    return {names[place]: tensors_from_first(None, upload_spec(study)) for place in places}


def _places(study: Study, nodes: Sequence[str]) -> Tensor:
    """Where these nodes stand in the roster, and a total behind it."""
    names = [*study.roster, TOTAL]
    return torch.tensor([names.index(node) for node in nodes], dtype=torch.int64)

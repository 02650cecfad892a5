"""Where training computes: this machine's processors, or a CUDA GPU.

    with computing_on(chosen("cuda")):
        ...                        new tensors are made on the GPU, in this thread

Everything that training makes follows PyTorch's default device; what goes in and what comes out lies in main memory, so that model
files are the same wherever they were trained. Other devices draw other random numbers: a seed gives another, equally good model.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from epgfn.base.errors import UsageError

CPU = torch.device("cpu")


def chosen(name: str | torch.device) -> torch.device:
    """The device that `cpu`, `cuda` or `cuda:1` stands for. Under torchrun, `cuda` is a GPU of each process's own.

    Raises:
        UsageError: it is none of these, or there is no such GPU.
    """
    if isinstance(name, torch.device):
        return name
    kind, _, number = name.partition(":")
    if name == "cpu":
        return CPU
    if kind != "cuda" or (number and not number.isdecimal()) or name.endswith(":"):
        raise UsageError(f"there is no device {name!r}; choose cpu, cuda, or a particular GPU such as cuda:1")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not found:
        raise UsageError(
            f"device {name} needs an NVIDIA GPU, its driver and a PyTorch built for CUDA, and none is found; "
            "leave out --device, or choose cpu"
        )
    index = int(number or os.environ.get("LOCAL_RANK", "0"))
    if index >= found:
        raise UsageError(
            f"GPU number {index} was asked for and there are {found}, counted from 0; choose one that is there, or start "
            "fewer processes"
        )
    return torch.device("cuda", index)


@contextmanager
def computing_on(device: torch.device) -> Iterator[torch.device]:
    """Within, and in this thread, new tensors are made on `device`."""
    with ExitStack() as stack:
        if torch.get_default_device() != device:  # where it is the default already, nothing is slowed down
            stack.enter_context(device)
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
        yield device


def seeded(seed: int) -> torch.Generator:
    """A generator of random numbers on the device that new tensors are made on."""
    return torch.Generator(device=torch.get_default_device()).manual_seed(seed)


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same in main memory."""
    return {name: tensor.to(CPU) for name, tensor in tensors.items()}

"""One training run on several processes, data-parallel over trajectories: each draws its share of a batch, gradients are averaged.

    torchrun --nproc-per-node 2 -m epgfn_node train ...        two cores of one machine
    torchrun --nproc-per-node 2 -m epgfn_coordinator serve ...  likewise
    torchrun --nnodes 2 --node-rank 0 --master-addr A ...        two machines, of which A is the first

torchrun starts the processes and tells them of each other; `torch.distributed` does the rest. Outside torchrun there is one
process and everything here does nothing. All processes start from the same weights and stay alike, since they take the same
steps; each draws trajectories of its own.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from epgfn.gflownet.policies.spec import TensorSpec

PATIENCE = timedelta(days=365)
"""How long a process waits for the others: a coordinator may wait for its nodes for weeks."""
SEED_STEP = 1_000_003
_SIOCGIFADDR = 0x8915
"""Of Linux; elsewhere the call fails, and gloo chooses by itself."""


class Workers(NamedTuple):
    """This process's number `rank`, from 0, among `size`."""

    rank: int
    size: int

    @property
    def is_first(self) -> bool:
        """The process that speaks to people, files and the network."""
        return self.rank == 0


ALONE = Workers(0, 1)


def workers() -> Workers:
    """Who takes part in this run; `ALONE` where nothing was joined."""
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    return Workers(dist.get_rank(), dist.get_world_size())


@contextmanager
def joined(device: torch.device | None = None) -> Iterator[Workers]:
    """Take part in the run that torchrun has started, if it has; leave it at the end. `device`: where this process will train."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield ALONE
        return
    on_gpu = device is not None and device.type == "cuda"
    if interface := interface_towards(os.environ.get("MASTER_ADDR", "")):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
    try:
        yield workers()
    finally:
        dist.destroy_process_group()


def interface_towards(host: str) -> str:
    """The network interface over which this machine reaches `host`, or is reached as it; empty where that is this machine alone, or is not
    known. gloo takes the one that the machine's own name leads to, which is often loopback, and then waits for the others in vain."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # sends nothing
            own = probe.getsockname()[0]
            for _, name in socket.if_nameindex() if not own.startswith("127.") else []:
                if _address_of(probe, name) == own:
                    return name
    except OSError:  # no such host, or IPv6 alone
        pass
    return ""


def _address_of(probe: socket.socket, interface: str) -> str:
    """Its IPv4 address; empty where it has none, or the system does not say."""
    try:
        answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
    except OSError:
        return ""
    return socket.inet_ntoa(answer[20:24])


def share_of(batch: int) -> int:
    """How many of `batch` trajectories this process draws; at least 2, which a contrastive loss needs."""
    return max(2, -(-batch // workers().size))


def own_generator(generator: torch.Generator) -> None:
    """From here on `generator` draws differently in each process. Weights must be drawn before."""
    if rank := workers().rank:
        generator.manual_seed((generator.initial_seed() + SEED_STEP * rank) % (1 << 63))


def average_gradients(tensors: Sequence[Tensor], numbers: Tensor) -> Tensor:
    """Put the mean over all processes into the gradients of `tensors`, and return that of (n,) `numbers`: one message for all."""
    size = workers().size
    if size == 1:
        return numbers
    gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
    flat = torch.cat([numbers.float(), *(gradient.flatten() for gradient in gradients)])
    dist.all_reduce(flat)
    flat /= size
    head, *parts = torch.split(flat, [len(numbers), *(gradient.numel() for gradient in gradients)])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
    return head


def from_first(numbers: Tensor) -> Tensor:
    """`numbers` of the first process, in all of them; shape and dtype must agree."""
    all_from_first([numbers])
    return numbers


@torch.no_grad()
def all_from_first(tensors: Sequence[Tensor]) -> None:
    """The first process's values in all of them, in place."""
    if workers().size > 1:
        for tensor in tensors:
            dist.broadcast(tensor.data, 0)


def number_from_first(number: int) -> int:
    """The first process's number, in all of them."""
    return int(from_first(torch.tensor(number, dtype=torch.int64)))


def told_to_stop(stop: threading.Event | None) -> bool:
    """Whether the first process was told to stop, known to all after the same step."""
    told = stop is not None and stop.is_set()
    return bool(number_from_first(told)) if workers().size > 1 else told


def tensors_from_first(
    tensors: Mapping[str, Tensor] | None, spec: Mapping[str, TensorSpec]
) -> dict[str, Tensor]:
    """The first process's `tensors`, of the dtypes that `spec` says, in all of them; the others give None."""
    out = {}
    for name, entry in spec.items():
        dtype = getattr(torch, entry.dtype)
        tensor = torch.empty(entry.shape, dtype=dtype) if tensors is None else tensors[name].contiguous()
        out[name] = from_first(tensor)
    return out

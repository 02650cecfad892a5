"""torchrun over two hosts, which are network namespaces with addresses of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from namespaces import Network

HOSTS = ("a", "b")
PORT = 29400


def on_both(
    network: Network, commands: Sequence[Sequence[str]], folder: Path
) -> list[subprocess.Popen[bytes]]:
    """Start module and arguments of each host, the first host's process first; outputs are `folder`/0.txt and 1.txt."""
    begun = []
    for rank, (host, command) in enumerate(zip(HOSTS, commands, strict=True)):
        launcher = [
            "-m",
            "torch.distributed.run",
            "--nnodes",
            "2",
            "--nproc-per-node",
            "1",
            "--node-rank",
            str(rank),
        ]
        first = ["--master-addr", network.address[HOSTS[0]], "--master-port", str(PORT)]
        begun.append(
            network.start(host, [sys.executable, *launcher, *first, "-m", *command], folder / f"{rank}.txt")
        )
    return begun

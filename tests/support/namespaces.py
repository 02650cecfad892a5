"""Hosts of their own on one machine: network namespaces, joined by a bridge from which each can be cut off. Needs root on Linux.

A host that is cut off still has its address and its carrier: what it sends is lost without a word, as behind a switch that has failed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

SWITCH: Final = "switch"


def why_not() -> str:
    """Why there can be no namespaces here; empty where there can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are of Linux"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no command ip (package iproute2)"
    try:
        with Network(["a", "b"]) as network:
            network.cut("a")
            network.heal("a")
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.strip()}"
    return ""


class Network:
    """Hosts by name, each with an address. Use as a context manager: what it began is ended, and what it made is removed, whatever
    happens."""

    _made = 0

    def __init__(self, hosts: Sequence[str]) -> None:
        Network._made += 1
        self._prefix = f"epgfn-{os.getpid()}-{Network._made}"
        self._hosts = list(hosts)
        self.address = {host: f"10.99.7.{number + 1}" for number, host in enumerate(hosts)}
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _make(self) -> None:
        switch = self._named(SWITCH)
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "name", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        for host in self._hosts:
            own, port = self._named(host), self._port(host)
            _ip("netns", "add", own)
            _ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", own)
            _ip("-n", switch, "link", "set", port, "up")
            _ip("-n", own, "addr", "add", f"{self.address[host]}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", own, "link", "set", device, "up")
            self.heal(host)

    def _remove(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait(60)
        for name in (*self._hosts, SWITCH):
            subprocess.run(["ip", "netns", "del", self._named(name)], capture_output=True, check=False)

    def cut(self, host: str) -> None:
        """Whatever goes to this host or comes from it is lost."""
        _ip("-n", self._named(SWITCH), "link", "set", self._port(host), "nomaster")

    def heal(self, host: str) -> None:
        """It is reached again."""
        _ip("-n", self._named(SWITCH), "link", "set", self._port(host), "master", "br0")

    def start(
        self, host: str, command: Sequence[str], out: Path, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Run a command on a host, its output in `out`."""
        with out.open("wb") as target:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self._named(host), *command],
                stdin=subprocess.DEVNULL,
                stdout=target,
                stderr=subprocess.STDOUT,
                close_fds=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            )
        self._processes.append(process)
        return process

    def _named(self, host: str) -> str:
        return f"{self._prefix}-{host}"

    def _port(self, host: str) -> str:
        return f"to-{self._hosts.index(host)}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=60)
